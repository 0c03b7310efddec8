"""Where a task or actor may run: values of the option ``scheduling_strategy``.

Source: https://docs.ray.io/en/latest/ray-core/scheduling/index.html, conformance
cluster/test_scheduling.py, cluster/test_placement_groups.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ray.util.placement_group import PlacementGroup


class _Value:
    """Compares and hashes by its attributes: equal options share what is prepared for them."""

    def _key(self) -> tuple[Any, ...]:
        return tuple(
            tuple(value.items()) if isinstance(value, dict) else value
            for value in vars(self).values()
        )

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return self._key() == other._key()

    def __hash__(self) -> int:
        return hash((type(self), self._key()))

    def __repr__(self) -> str:
        facts = ", ".join(f"{name}={value!r}" for name, value in vars(self).items())
        return f"{type(self).__name__}({facts})"


class PlacementGroupSchedulingStrategy(_Value):
    """Runs a task or actor in a bundle of a placement group.

    >>> import ray
    >>> from ray.util.placement_group import placement_group, remove_placement_group
    >>> from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy
    >>> group = placement_group([{"CPU": 1}])
    >>> @ray.remote
    ... def where():
    ...     return ray.get_runtime_context().get_placement_group_id()
    >>> inside = where.options(scheduling_strategy=PlacementGroupSchedulingStrategy(group))
    >>> ray.get(inside.remote()) == group.id.hex()
    True
    >>> remove_placement_group(group)

    A task that asks for more than the bundle has, or for a bundle that does not exist, is refused
    at submission (ValueError).

    Args:
        placement_group: the group.
        placement_group_bundle_index: which of its bundles, from 0; -1: any.
        placement_group_capture_child_tasks: whether tasks and actors that it submits belong to the
            group too, unless they say otherwise.

    Source: https://docs.ray.io/en/latest/ray-core/scheduling/placement-group.html, conformance
        cluster/test_placement_groups.py.
    """

    def __init__(
        self,
        placement_group: PlacementGroup,
        placement_group_bundle_index: int = -1,
        placement_group_capture_child_tasks: bool | None = None,
    ) -> None:
        self.placement_group = placement_group
        self.placement_group_bundle_index = placement_group_bundle_index
        self.placement_group_capture_child_tasks = placement_group_capture_child_tasks


class NodeAffinitySchedulingStrategy(_Value):
    """Runs a task or actor on one node.

    >>> import ray
    >>> from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
    >>> here = ray.get_runtime_context().get_node_id()
    >>> @ray.remote
    ... def where():
    ...     return ray.get_runtime_context().get_node_id()
    >>> on_it = where.options(scheduling_strategy=NodeAffinitySchedulingStrategy(here, soft=False))
    >>> ray.get(on_it.remote()) == here
    True

    Args:
        node_id: of ``ray.nodes()``: 56 hex digits, or 28 bytes.
        soft: what happens if the node is not there or can never hold it. False: it fails with
            TaskUnschedulableError or ActorUnschedulableError. True: it runs elsewhere.
        _spill_on_unavailable: with ``soft``, it runs elsewhere, too, if the node has no room for it
            now. Otherwise it waits for the node.
        _fail_on_unavailable: without ``soft``, it fails as above, too, if the node has no room for
            it now. What is held there for idle workers counts as room.

    Raises:
        ValueError: ``_spill_on_unavailable`` without ``soft``, or ``_fail_on_unavailable`` with it.
            An id of a wrong form is refused when a task or actor is submitted.
        TypeError: ``node_id`` is neither a string nor bytes.

    Source: conformance cluster/test_scheduling.py::test_node_affinity.
    """

    def __init__(
        self,
        node_id: str | bytes,
        soft: bool,
        _spill_on_unavailable: bool = False,
        _fail_on_unavailable: bool = False,
    ) -> None:
        if not isinstance(node_id, (str, bytes)):
            raise TypeError(
                f"node_id must be a hex string or bytes, not {type(node_id).__name__}. The ids of"
                " the nodes are in ray.nodes()."
            )
        if _spill_on_unavailable and not soft:
            raise ValueError(
                "_spill_on_unavailable cannot be set when soft is False. Please set soft to True to"
                " use _spill_on_unavailable."
            )
        if _fail_on_unavailable and soft:
            raise ValueError(
                "_fail_on_unavailable cannot be set when soft is True. Please set soft to False to"
                " use _fail_on_unavailable."
            )
        self.node_id = node_id if isinstance(node_id, str) else node_id.hex()
        self.soft = soft
        self._spill_on_unavailable = _spill_on_unavailable
        self._fail_on_unavailable = _fail_on_unavailable


class _LabelOperator(_Value):
    """What a label must be. ``kind`` and ``values`` go to the native side."""

    kind: str

    def __init__(self, *values: str) -> None:
        if not values:
            raise ValueError(
                f"The variadic parameter of the {type(self).__name__} operator must be a non-empty"
                f' tuple: e.g. {type(self).__name__}("value1", "value2").'
            )
        for position, value in enumerate(values):
            if not isinstance(value, str):
                raise ValueError(
                    f"Type of value in position {position} for the {type(self).__name__} operator"
                    f' must be str (e.g. {type(self).__name__}("value1", "value2")) but got'
                    f" {value!r} of type {type(value)}."
                )
        self.values = list(values)

    def _key(self) -> tuple[Any, ...]:
        return tuple(self.values)


class In(_LabelOperator):
    """The label has one of these values.

    >>> from ray.util.scheduling_strategies import In
    >>> In("a", "b").values
    ['a', 'b']

    Raises:
        ValueError: no value, or one that is not a string.

    Source: conformance cluster/test_scheduling.py::test_hard_node_labels.
    """

    kind = "in"


class NotIn(_LabelOperator):
    """The label has none of these values, or the node has no such label.

    >>> from ray.util.scheduling_strategies import NotIn
    >>> NotIn("a").values
    ['a']

    Raises:
        ValueError: no value, or one that is not a string.

    Source: conformance cluster/test_scheduling.py::test_hard_node_labels.
    """

    kind = "not_in"


class _LabelPresence(_LabelOperator):
    def __init__(self) -> None:
        self.values = []


class Exists(_LabelPresence):
    """The node has the label, whatever its value.

    >>> from ray.util.scheduling_strategies import Exists
    >>> Exists() == Exists()
    True

    Source: conformance cluster/test_scheduling.py::test_hard_node_labels.
    """

    kind = "exists"


class DoesNotExist(_LabelPresence):
    """The node does not have the label.

    >>> from ray.util.scheduling_strategies import DoesNotExist
    >>> DoesNotExist() == DoesNotExist()
    True

    Source: conformance cluster/test_scheduling.py::test_hard_node_labels.
    """

    kind = "does_not_exist"


LabelMatchExpressionsT = dict[str, In | NotIn | Exists | DoesNotExist]


class NodeLabelSchedulingStrategy(_Value):
    """Runs a task or actor on nodes with certain labels.

    >>> import ray
    >>> from ray.util.scheduling_strategies import DoesNotExist, NodeLabelSchedulingStrategy
    >>> @ray.remote
    ... def work():
    ...     return "done"
    >>> anywhere = NodeLabelSchedulingStrategy(hard={"retired": DoesNotExist()})
    >>> ray.get(work.options(scheduling_strategy=anywhere).remote())
    'done'

    It stays pending, with a warning, while no node meets the hard rules.

    Args:
        hard: by label key, what must hold: In, NotIn, Exists or DoesNotExist.
        soft: what is preferred among the nodes that remain.

    Raises:
        ValueError: both are empty, a key is not a string, or a value not an operator.

    Source: conformance cluster/test_scheduling.py::test_hard_node_labels, ::test_bad_label_rules.
    """

    def __init__(
        self, hard: LabelMatchExpressionsT | None, *, soft: LabelMatchExpressionsT | None = None
    ) -> None:
        self.hard = _checked(hard, "hard")
        self.soft = _checked(soft, "soft")
        if not self.hard and not self.soft:
            raise ValueError(
                "The `hard` and `soft` parameter of NodeLabelSchedulingStrategy cannot both be"
                " empty."
            )


def _checked(rules: Mapping[str, Any] | None, name: str) -> LabelMatchExpressionsT:
    if rules is None:
        return {}
    example = '(e.g. {"key1": In("value1")})'
    if not isinstance(rules, Mapping):
        raise ValueError(f"The {name} parameter must be a map {example} but got {type(rules)}.")
    for key, operator in rules.items():
        if not isinstance(key, str):
            raise ValueError(
                f"The map key of the {name} parameter must be of type str {example} but got"
                f" {key!r} of type {type(key)}."
            )
        if not isinstance(operator, _LabelOperator):
            raise ValueError(
                f"The map value for key {key} of the {name} parameter must be one of the `In`,"
                f" `NotIn`, `Exists` or `DoesNotExist` operator {example} but got {operator!r} of"
                f" type {type(operator)}."
            )
    return dict(rules)


SchedulingStrategyT = (
    PlacementGroupSchedulingStrategy
    | NodeAffinitySchedulingStrategy
    | NodeLabelSchedulingStrategy
    | str
    | None
)
