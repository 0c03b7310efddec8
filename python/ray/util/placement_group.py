"""Placement groups: resources of the cluster that are set aside together, in bundles.

A task or actor runs in a bundle by the option ``scheduling_strategy``, see
``ray.util.scheduling_strategies.PlacementGroupSchedulingStrategy``.

Source: https://docs.ray.io/en/latest/ray-core/scheduling/placement-group.html, conformance
cluster/test_placement_groups.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ray import _raylet
from ray._ids import NodeID, PlacementGroupID
from ray._labels import NODE_ID_LABEL_KEY as NODE_ID_LABEL_KEY
from ray._labels import parse_label_selector
from ray._runtime import RUNTIME
from ray.exceptions import RaySystemError

if TYPE_CHECKING:
    from ray._raylet import ObjectRef

VALID_PLACEMENT_GROUP_STRATEGIES = {"PACK", "SPREAD", "STRICT_PACK", "STRICT_SPREAD"}

_EXAMPLE = 'For example: `[{"CPU": 1.0}, {"GPU": 1.0}]`.'


class PlacementGroup:
    """A handle to a placement group. Equal handles name the same group; it can be passed to tasks
    and actors like any value, and does not keep the group alive.

    Made by ``placement_group``. Threads: any.

    Attributes:
        id: the group's id; 36 hex digits, of which the last 8 are the job.
        bundle_cache: the bundles, if this handle knows them.

    Source: conformance cluster/test_placement_groups.py::test_ready_reference_and_properties.
    """

    def __init__(
        self, id: PlacementGroupID, bundle_cache: list[dict[str, float]] | None = None
    ) -> None:
        self.id = id
        self.bundle_cache = bundle_cache

    @staticmethod
    def empty() -> PlacementGroup:
        """A handle to no group.

        >>> from ray.util.placement_group import PlacementGroup
        >>> PlacementGroup.empty().is_empty
        True

        Source: https://docs.ray.io/en/latest/ray-core/scheduling/placement-group.html.
        """
        return PlacementGroup(PlacementGroupID.nil())

    @property
    def is_empty(self) -> bool:
        """Whether this names no group."""
        return self.id.is_nil()

    def ready(self) -> ObjectRef[PlacementGroup]:
        """A reference that becomes this handle once the group is created. Does not block.

        >>> import ray
        >>> from ray.util.placement_group import placement_group, remove_placement_group
        >>> group = placement_group([{"CPU": 1}])
        >>> ray.get(group.ready(), timeout=30) == group
        True
        >>> remove_placement_group(group)

        Returns:
            A reference, of which ``ray.get`` raises TaskPlacementGroupRemoved if the group is
            removed before it is created.

        Source: conformance cluster/test_placement_groups.py::test_ready_reference_and_properties.
        """
        return RUNTIME.require().placement_group_ready(self.id.binary(), self)

    def wait(self, timeout_seconds: float = 30) -> bool:
        """Blocks until the group is created.

        >>> from ray.util.placement_group import placement_group, remove_placement_group
        >>> group = placement_group([{"CPU": 1}])
        >>> group.wait(timeout_seconds=30)
        True
        >>> remove_placement_group(group)

        Args:
            timeout_seconds: how long at most. 0: only whether it is created now.

        Returns:
            Whether it is created; False after the timeout.

        Raises:
            RaySystemError: there is no such group, or it is removed.

        Source: conformance cluster/test_placement_groups.py::test_infeasible_group_stays_pending.
        """
        state = RUNTIME.require().wait_placement_group(self.id.binary(), timeout_seconds)
        if state == "REMOVED":
            raise RaySystemError(f"Placement group {self.id.hex()} does not exist: it was removed.")
        return state == "CREATED"

    @property
    def bundle_specs(self) -> list[dict[str, float]]:
        """The resources of each bundle, by name. Asks the GCS if this handle does not know them.

        Raises:
            RaySystemError: there is no such group.
        """
        if self.is_empty:
            return []
        if self.bundle_cache is None:
            rows = RUNTIME.require().list_placement_groups(group_id=self.id.binary())
            self.bundle_cache = rows[0]["bundles"]
        return self.bundle_cache or []

    @property
    def bundle_count(self) -> int:
        """How many bundles the group has."""
        return len(self.bundle_specs)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, PlacementGroup):
            return NotImplemented
        return self.id.binary() == other.id.binary()

    def __hash__(self) -> int:
        return hash(self.id.binary())

    def __repr__(self) -> str:
        return f"PlacementGroup({self.id.hex()})"


def placement_group(
    bundles: list[dict[str, float]],
    strategy: str | None = None,
    name: str = "",
    lifetime: str | None = None,
    _soft_target_node_id: str | None = None,
    bundle_label_selector: list[dict[str, str]] | None = None,
    topology_strategy: Any = None,
) -> PlacementGroup:
    """Asks for resources that are set aside together. Does not wait until they are.

    >>> from ray.util.placement_group import placement_group, remove_placement_group
    >>> group = placement_group([{"CPU": 1}, {"CPU": 0.5}], strategy="SPREAD")
    >>> group.wait(30)
    True
    >>> remove_placement_group(group)

    The group is removed with the job that made it, unless it is detached.

    Args:
        bundles: the resources of each bundle, by name; memory in bytes. A bundle lies on one node.
        strategy: "PACK" (the default): on as few nodes as possible. "SPREAD": on as many as
            possible. "STRICT_PACK": all on one node. "STRICT_SPREAD": each on a node of its own.
        name: for ``get_placement_group``, unique in the namespace of the job; "" for none.
        lifetime: "detached": it lives until it is removed. None: it ends with its job, or with the
            detached actor that made it.
        bundle_label_selector: rules that the labels of each bundle's node must meet, see
            ``parse_label_selector``; one dict for each bundle.
        topology_strategy: must be None.

    Returns:
        A handle; ``wait`` and ``ready`` tell when the group is created.

    Raises:
        ValueError: bundles, strategy, lifetime or rules that are malformed.
        TypeError: the name is not a string.
        RaySystemError: the name is taken.

    Source: https://docs.ray.io/en/latest/ray-core/api/doc/ray.util.placement_group.html,
        conformance cluster/test_placement_groups.py.
    """
    validate_placement_group(
        bundles, strategy, lifetime, _soft_target_node_id, bundle_label_selector, topology_strategy
    )
    if not isinstance(name, str):
        raise TypeError(f"The name of a placement group must be a string, not {name!r}.")
    specs = [{key: float(value) for key, value in bundle.items()} for bundle in bundles]
    core = RUNTIME.require()
    try:
        group_id = core.create_placement_group(
            name=name,
            namespace=core.namespace,
            strategy=strategy or "PACK",
            bundles=[{key: value for key, value in spec.items() if value} for spec in specs],
            labels=[parse_label_selector(rules) for rules in bundle_label_selector or []],
            detached=lifetime == "detached",
            soft_target_node=bytes.fromhex(_soft_target_node_id or ""),
        )
    except _raylet.SystemError as error:
        if error.code != "ALREADY_EXISTS":
            raise
        raise RaySystemError(
            f"Failed to create the placement group because name '{name}' already exists. Use"
            " another name, or get that group with get_placement_group."
        ) from None
    return PlacementGroup(PlacementGroupID(group_id), specs)


def validate_placement_group(
    bundles: list[dict[str, float]],
    strategy: str | None = None,
    lifetime: str | None = None,
    _soft_target_node_id: str | None = None,
    bundle_label_selector: list[dict[str, str]] | None = None,
    topology_strategy: Any = None,
) -> bool:
    """Checks ``bundles``, ``strategy``, ``lifetime``, ``bundle_label_selector`` and
    ``topology_strategy`` as arguments of ``placement_group``, which see. Does not block.

    >>> from ray.util.placement_group import validate_placement_group
    >>> validate_placement_group([{"CPU": 1}])
    True

    Raises:
        ValueError: one of them is malformed; the message says which and how.

    Source: conformance cluster/test_placement_groups.py::test_bad_group_arguments.
    """
    _check_bundles(bundles)
    strategy = strategy or "PACK"
    if strategy not in VALID_PLACEMENT_GROUP_STRATEGIES:
        raise ValueError(
            f"Invalid placement group strategy {strategy}. Supported strategies are:"
            f" {sorted(VALID_PLACEMENT_GROUP_STRATEGIES)}."
        )
    if lifetime not in (None, "detached"):
        raise ValueError(
            "Placement group `lifetime` argument must be either `None` or 'detached'. Got"
            f" {lifetime}."
        )
    if topology_strategy is not None:
        raise ValueError("Placement group `topology_strategy` is not supported; leave it out.")
    if _soft_target_node_id is not None:
        _check_soft_target(_soft_target_node_id, strategy)
    if bundle_label_selector is not None:
        _check_bundle_labels(bundle_label_selector, len(bundles))
    return True


def _check_bundles(bundles: Any) -> None:
    if not isinstance(bundles, list):
        raise ValueError(f"Placement group bundles must be a list, got {type(bundles)}.")
    form = f"Bundles must be a non-empty list of resource dictionaries. {_EXAMPLE}"
    if not bundles:
        raise ValueError(f"{form} Got empty list instead.")
    for bundle in bundles:
        if not isinstance(bundle, dict) or not all(
            isinstance(name, str) and isinstance(quantity, (int, float))
            for name, quantity in bundle.items()
        ):
            raise ValueError(f"{form} Got {bundle!r}.")
        if any(quantity < 0 for quantity in bundle.values()):
            raise ValueError(f"Bundles cannot ask for negative quantities. Bundles: {bundles}")
        if not any(bundle.values()):
            raise ValueError(
                "Bundles cannot be an empty dictionary or resources with only 0 values. Bundles:"
                f" {bundles}"
            )


def _check_soft_target(node_id: str, strategy: str) -> None:
    if strategy != "STRICT_PACK":
        raise ValueError(
            f"_soft_target_node_id currently only works with STRICT_PACK but got {strategy}"
        )
    try:
        NodeID.from_hex(node_id)
    except (TypeError, ValueError):
        raise ValueError(f"Invalid hex ID of _soft_target_node_id, got {node_id}") from None


def _check_bundle_labels(selectors: Any, bundle_count: int) -> None:
    if not isinstance(selectors, list):
        raise ValueError(
            f"Placement group bundle_label_selector must be a list, got {type(selectors)}."
        )
    if selectors and len(selectors) != bundle_count:
        raise ValueError(
            f"Invalid bundle label selector {selectors}. The length of `bundle_label_selector`"
            " should equal the length of `bundles`."
        )
    for selector in selectors:
        try:
            parse_label_selector(selector)
        except (AttributeError, TypeError, ValueError) as error:
            raise ValueError(
                "Invalid label selector provided in bundle_label_selector list. Detailed error:"
                f" '{error}'"
            ) from None


def remove_placement_group(placement_group: PlacementGroup) -> None:
    """Gives the resources of a group back. What runs in it is killed, what waits for it fails.

    >>> from ray.util.placement_group import placement_group, remove_placement_group
    >>> group = placement_group([{"CPU": 1}])
    >>> remove_placement_group(group)

    Does not wait until all of that has happened. Nothing happens to a group that is removed
    already.

    Args:
        placement_group: the group. Actors in it raise ActorDiedError, tasks that run in it
            WorkerCrashedError, tasks and actors that wait TaskPlacementGroupRemoved and
            ActorPlacementGroupRemoved.

    Raises:
        TypeError: not a placement group.

    Source: conformance
        cluster/test_placement_groups.py::test_remove_kills_actors_and_tasks_in_the_group.
    """
    _require_group(placement_group)
    RUNTIME.require().remove_placement_group(placement_group.id.binary())


def _require_group(group: Any) -> None:
    if not isinstance(group, PlacementGroup):
        raise TypeError(f"A PlacementGroup is needed, not {type(group).__name__}: {group!r}.")


def get_placement_group(placement_group_name: str) -> PlacementGroup:
    """A handle to a named group of this job's namespace. Blocks for one request to the GCS.

    >>> from ray.util.placement_group import (
    ...     get_placement_group, placement_group, remove_placement_group)
    >>> group = placement_group([{"CPU": 1}], name="gang")
    >>> get_placement_group("gang") == group
    True
    >>> remove_placement_group(group)

    Args:
        placement_group_name: the name.

    Raises:
        ValueError: there is no such group, or the name is empty.

    Source: conformance cluster/test_placement_groups.py::test_named_group.
    """
    if not placement_group_name:
        raise ValueError("Please supply a non-empty value to get_placement_group")
    core = RUNTIME.require()
    try:
        rows = core.list_placement_groups(name=placement_group_name, namespace=core.namespace)
    except _raylet.SystemError as error:
        if error.code != "NOT_FOUND":
            raise
        raise ValueError(
            f"Failed to look up placement group with name: {placement_group_name}"
        ) from None
    return PlacementGroup(PlacementGroupID(rows[0]["placement_group_id"]), rows[0]["bundles"])


def placement_group_table(placement_group: PlacementGroup | None = None) -> dict[str, Any]:
    """What is known of a group, or of all. Blocks for one request to the GCS.

    >>> from ray.util.placement_group import (
    ...     placement_group, placement_group_table, remove_placement_group)
    >>> group = placement_group([{"CPU": 1}], name="tabled")
    >>> group.wait(30)
    True
    >>> row = placement_group_table(group)
    >>> row["state"], row["bundles"]
    ('CREATED', {0: {'CPU': 1.0}})
    >>> remove_placement_group(group)

    Args:
        placement_group: the group; None: all of the cluster, also those removed lately.

    Returns:
        A dict with placement_group_id, name, strategy, state ("PENDING", "CREATED", "RESCHEDULING",
        "REMOVED"), bundles and bundles_to_node_id (by index; "" while a bundle is nowhere), and
        pending_reason, a sentence, if it has waited long. Without argument such dicts by id. Empty
        for an unknown group.

    Raises:
        TypeError: not a placement group.

    Source: conformance cluster/test_placement_groups.py::test_placement_group_table.
    """
    core = RUNTIME.require()
    if placement_group is None:
        return {
            row["placement_group_id"].hex(): _table_row(row) for row in core.list_placement_groups()
        }
    _require_group(placement_group)
    try:
        return _table_row(core.list_placement_groups(group_id=placement_group.id.binary())[0])
    except _raylet.SystemError as error:
        if error.code != "NOT_FOUND":
            raise
        return {}


def _table_row(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "placement_group_id": row["placement_group_id"].hex(),
        "name": row["name"],
        "bundles": dict(enumerate(row["bundles"])),
        "bundles_to_node_id": dict(enumerate(row["nodes"])),
        "strategy": row["strategy"],
        "state": row["state"],
        "pending_reason": row["pending_reason"],
    }


def get_current_placement_group() -> PlacementGroup | None:
    """The group that the running task or actor is in; None outside of one. Does not block.

    >>> from ray.util.placement_group import get_current_placement_group
    >>> get_current_placement_group() is None
    True

    Source: conformance
        cluster/test_placement_groups.py::test_current_group_and_capture_of_child_tasks.
    """
    current = RUNTIME.require().current_task()["placement_group"]
    return None if current is None else PlacementGroup(PlacementGroupID(current[0]))


def check_placement_group_index(placement_group: PlacementGroup, bundle_index: int) -> None:
    """Raises an error unless the group has this bundle.

    >>> from ray.util.placement_group import PlacementGroup, check_placement_group_index
    >>> check_placement_group_index(PlacementGroup.empty(), -1)

    Args:
        placement_group: the group; the empty one has no bundles.
        bundle_index: which bundle; -1: any.

    Raises:
        ValueError: the group has no such bundle.
        TypeError: not a placement group.

    Source: conformance cluster/test_placement_groups.py::test_requests_that_cannot_fit_the_group.
    """
    _require_group(placement_group)
    if placement_group.is_empty:
        if bundle_index != -1:
            raise ValueError("If placement group is not set, the value of bundle index must be -1.")
    elif not -1 <= bundle_index < placement_group.bundle_count:
        raise ValueError(
            f"placement group bundle index {bundle_index} is invalid. Valid placement group"
            f" indexes: 0-{placement_group.bundle_count - 1}, or -1 for any"
        )
