"""From the options of a task or actor to where it may run, as the native side takes it.

Source: conformance cluster/test_scheduling.py, cluster/test_placement_groups.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from ray._ids import NodeID, PlacementGroupID
from ray._labels import LabelCondition, parse_label_selector
from ray._runtime import RUNTIME

if TYPE_CHECKING:
    from ray._raylet import Core
    from ray.util.placement_group import PlacementGroup
    from ray.util.scheduling_strategies import (
        LabelMatchExpressionsT,
        NodeAffinitySchedulingStrategy,
    )

# The options that say where something runs.
_PLACING = frozenset(
    {
        "fallback_strategy",
        "label_selector",
        "placement_group",
        "placement_group_bundle_index",
        "scheduling_strategy",
    }
)

# What TaskTemplate and Core.create_actor take as ``strategy``; see _raylet.pyi.
Strategy = dict[str, Any]


class _Place(NamedTuple):
    """A bundle of a group, by its index; -1: any."""

    group: PlacementGroup
    bundle: int
    capture: bool


def check_scheduling_strategy(name: str, value: Any) -> None:
    """Raises ValueError or TypeError unless ``value`` can be the option ``scheduling_strategy``."""
    if value in (None, "DEFAULT", "SPREAD"):
        return
    from ray.util.scheduling_strategies import (
        NodeAffinitySchedulingStrategy,
        NodeLabelSchedulingStrategy,
        PlacementGroupSchedulingStrategy,
    )

    classes = (
        NodeAffinitySchedulingStrategy,
        NodeLabelSchedulingStrategy,
        PlacementGroupSchedulingStrategy,
    )
    if isinstance(value, str):
        raise ValueError(
            f'Invalid {name} value {value}. Valid values are ["DEFAULT" | "SPREAD" | '
            + " | ".join(cls.__name__ for cls in classes)
            + "]"
        )
    if not isinstance(value, classes):
        listed = ", ".join(cls.__name__ for cls in classes)
        raise TypeError(
            f"The type of keyword {name!r} must be str, None, {listed}, but received type"
            f" {type(value)}"
        )


def check_placement_group(name: str, value: Any) -> None:
    """Raises ValueError or TypeError unless ``value`` can be the option ``placement_group``."""
    if value in (None, "default"):
        return
    from ray.util.placement_group import PlacementGroup

    if isinstance(value, str):
        raise ValueError(
            f"The option {name!r} must be a PlacementGroup, None or 'default', not {value!r}."
        )
    if not isinstance(value, PlacementGroup):
        raise TypeError(
            f"The type of keyword {name!r} must be PlacementGroup, str or None, but received type"
            f" {type(value)}"
        )


def check_label_selector(name: str, value: dict[str, str] | None) -> None:
    """Raises ValueError or TypeError unless ``value`` can be the option ``label_selector``."""
    parse_label_selector(value or {})


def check_fallback_strategy(name: str, value: list[Any] | None) -> None:
    """Raises ValueError or TypeError unless ``value`` can be the option ``fallback_strategy``."""
    for fallback in value or []:
        if not isinstance(fallback, dict):
            raise TypeError(f"{name!r} must be a list of dicts, but has {fallback!r}.")
        for option in fallback:
            if option != "label_selector":
                raise ValueError(
                    f"Unsupported option found: '{option}'. Only ['label_selector'] is currently"
                    " supported."
                )
        parse_label_selector(fallback.get("label_selector") or {})


def captured_group(options: Mapping[str, Any], core: Core) -> bytes | None:
    """The group that a child of the running task belongs to although its options name none."""
    says_where = (
        options.get("scheduling_strategy") is not None
        or options.get("placement_group", "default") != "default"
    )
    if says_where or not RUNTIME.captures_children:
        return None
    current = core.current_task()["placement_group"]
    if current is None:
        return None
    group_id, captures = current
    return group_id if captures else None


def strategy_for(
    options: Mapping[str, Any], demand: Mapping[str, float], name: str, captured: bytes | None
) -> Strategy:
    """Where a task or actor may run.

    Args:
        options: checked options.
        demand: what it asks for, by resource.
        name: of the function or class, for messages.
        captured: what captured_group gave.

    Raises:
        ValueError: the options contradict each other, the group has no such bundle or cannot hold
            it, or the id of a node is malformed.
    """
    strategy: Strategy = {}
    if captured is None and _PLACING.isdisjoint(options):
        return strategy
    place = _place_of(options, captured)
    if place is not None:
        _check_place(place, demand, name)
        strategy["bundle"] = (place.group.id.binary(), place.bundle, place.capture)
    elif options.get("placement_group_bundle_index", -1) != -1:
        raise ValueError("If placement group is not set, the value of bundle index must be -1.")
    else:
        strategy |= _choice_of_nodes(options.get("scheduling_strategy"))
    if selector := options.get("label_selector"):
        strategy.setdefault("required_labels", []).extend(parse_label_selector(selector))
    if fallbacks := options.get("fallback_strategy"):
        strategy["fallback_labels"] = [
            parse_label_selector(fallback.get("label_selector") or {}) for fallback in fallbacks
        ]
    return strategy


def _place_of(options: Mapping[str, Any], captured: bytes | None) -> _Place | None:
    from ray.util.placement_group import PlacementGroup
    from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

    chosen = options.get("scheduling_strategy")
    group = options.get("placement_group")
    place: _Place | None = None
    if isinstance(group, PlacementGroup):
        if chosen is not None:
            raise ValueError(
                "Placement groups should be specified via the scheduling_strategy option. The"
                " placement_group option is deprecated."
            )
        place = _Place(
            group,
            options.get("placement_group_bundle_index", -1),
            bool(options.get("placement_group_capture_child_tasks")),
        )
    elif isinstance(chosen, PlacementGroupSchedulingStrategy):
        if chosen.placement_group is not None:
            place = _Place(
                chosen.placement_group,
                chosen.placement_group_bundle_index,
                bool(chosen.placement_group_capture_child_tasks),
            )
    elif captured is not None:
        place = _Place(PlacementGroup(PlacementGroupID(captured)), -1, capture=True)
    return None if place is None or place.group.is_empty else place


def _check_place(place: _Place, demand: Mapping[str, float], name: str) -> None:
    from ray.util.placement_group import check_placement_group_index

    check_placement_group_index(place.group, place.bundle)
    specs = place.group.bundle_specs
    for bundle in specs if place.bundle < 0 else [specs[place.bundle]]:
        if all(bundle.get(resource, 0) >= quantity for resource, quantity in demand.items()):
            return
    raise ValueError(
        f"Cannot schedule {name} with the placement group because the resource request"
        f" {dict(demand)} cannot fit into any bundles for the placement group, {specs}."
    )


def _choice_of_nodes(chosen: Any) -> Strategy:
    from ray.util.scheduling_strategies import (
        NodeAffinitySchedulingStrategy,
        NodeLabelSchedulingStrategy,
    )

    if chosen == "SPREAD":
        return {"spread": True}
    if isinstance(chosen, NodeAffinitySchedulingStrategy):
        spill, fail = chosen._spill_on_unavailable, chosen._fail_on_unavailable
        return {"node": (_node_id(chosen), bool(chosen.soft), bool(spill), bool(fail))}
    if isinstance(chosen, NodeLabelSchedulingStrategy):
        return {
            "required_labels": _conditions(chosen.hard),
            "preferred_labels": _conditions(chosen.soft),
        }
    return {}


def _conditions(rules: LabelMatchExpressionsT) -> list[LabelCondition]:
    return [(key, operator.kind, operator.values) for key, operator in rules.items()]


def _node_id(strategy: NodeAffinitySchedulingStrategy) -> bytes:
    try:
        node_id = NodeID.from_hex(strategy.node_id)
    except ValueError:
        node_id = NodeID.nil()
    if node_id.is_nil():
        raise ValueError(
            f"Invalid node_id '{strategy.node_id}'. Node ID must be a valid hex string. To get a"
            " list of all nodes and their IDs in your cluster, use ray.nodes()."
        )
    return node_id.binary()
