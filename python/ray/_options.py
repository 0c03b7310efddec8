"""The options of tasks, actors and methods: one table each, checked in the caller's process.

Unknown options and bad values are ValueError, values of a wrong type TypeError.

Source:
    https://docs.ray.io/en/latest/ray-core/api/doc/ray.remote_function.RemoteFunction.options.html,
conformance core/test_core_tasks.py::test_bad_option_values,
actors/test_actor_basics.py::test_bad_actor_options.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from ray._strategy import (
    check_fallback_strategy,
    check_label_selector,
    check_placement_group,
    check_scheduling_strategy,
)

# The smallest share of a resource that is accounted for.
RESOURCE_PRECISION = 0.0001

_NONE = type(None)


class Option(NamedTuple):
    """One row of a table: the types of its values, and a check that raises ValueError."""

    types: tuple[type, ...]
    check: Callable[[str, Any], None]


Table = Mapping[str, Option]


def _anything(name: str, value: Any) -> None:
    """For options whose type says it all."""


def _quantity(name: str, value: float | None) -> None:
    if value is None:
        return
    if value < 0:
        raise ValueError(f"The quantity of resource {name} cannot be negative")
    if 0 < value < RESOURCE_PRECISION:
        raise ValueError(
            f"The precision of the fractional quantity of resource {name} cannot go beyond"
            f" {RESOURCE_PRECISION}"
        )


def _gpus(name: str, value: float | None) -> None:
    _quantity(name, value)
    if value is not None and value > 1 and value != int(value):
        raise ValueError(f"{name}={value}: more than one GPU must be a whole number of GPUs")


def _custom_resources(name: str, value: dict[str, float] | None) -> None:
    for resource, quantity in (value or {}).items():
        if resource in ("CPU", "GPU"):
            raise ValueError(
                f"Use the 'num_cpus' and 'num_gpus' keyword instead of 'CPU' and 'GPU' in {name!r}"
                " keyword"
            )
        if not isinstance(resource, str) or not isinstance(quantity, (int, float)):
            raise TypeError(
                f"{name!r} must map names to numbers, but has {resource!r}: {quantity!r}"
            )
        _quantity(resource, quantity)


def _count(lowest: int) -> Callable[[str, Any], None]:
    """At least ``lowest``; -1 stands for "without limit" where it is allowed."""
    meaning = ", where -1 means without limit" if lowest == -1 else ""

    def check(name: str, value: int | None) -> None:
        if value is not None and value < lowest:
            raise ValueError(
                f"The keyword {name!r} only accepts None or an integer of at least"
                f" {lowest}{meaning}."
            )

    return check


def _num_returns(name: str, value: int | str | None) -> None:
    is_count = isinstance(value, int) and value >= 0
    if not (value is None or is_count or value in ("dynamic", "streaming")):
        raise ValueError(
            f'The keyword {name!r} only accepts None, a non-negative integer, "streaming" or'
            f' "dynamic", not {value!r}.'
        )


def _is_limit(value: int | None) -> bool:
    return value is None or value == -1 or value >= 1


def _backpressure(name: str, value: int | None) -> None:
    if not _is_limit(value):
        raise ValueError(
            f"The keyword {name!r} only accepts None, a positive integer or -1 (without limit), not"
            f" {value!r}."
        )


def _objects_per_yield(name: str, value: int | None) -> None:
    if value is not None and value < 1:
        raise ValueError(
            f"{name} is a private streaming generator option that must be set to a positive"
            f" integer, not {value!r}."
        )


def _actor_backpressure(name: str, value: int | None) -> None:
    if not _is_limit(value):
        raise ValueError(
            f"{name} must be > 0 to cap the actor's total unconsumed generator objects, or -1 to"
            f" disable. Got {value!r}."
        )


def _labels(name: str, value: dict[str, str] | None) -> None:
    for key, label in (value or {}).items():
        for what, text in (("key", key), ("value", label)):
            if not isinstance(text, str):
                raise ValueError(f"Label {what} must be string, but got {type(text)} in {name}")


def _retry_exceptions(name: str, value: bool | list[Any] | tuple[Any, ...]) -> None:
    if isinstance(value, bool):
        return
    if not all(isinstance(item, type) and issubclass(item, BaseException) for item in value):
        raise ValueError(f"{name} must be either a boolean or a list of exceptions, not {value!r}")


def _one_of(*allowed: Any) -> Callable[[str, Any], None]:
    def check(name: str, value: Any) -> None:
        if value not in allowed:
            listed = ", ".join(repr(item) for item in allowed)
            raise ValueError(f"The option {name!r} must be one of {listed}, not {value!r}.")

    return check


def _not_empty(name: str, value: str | None) -> None:
    if value == "":
        raise ValueError(f"The option {name!r} must be a non-empty string or None.")


def _groups(name: str, value: dict[str, int] | None) -> None:
    for group, limit in (value or {}).items():
        if not isinstance(group, str) or not isinstance(limit, int):
            raise TypeError(f"{name!r} must map names to integers, but has {group!r}: {limit!r}")
        if not group or limit < 1:
            raise ValueError(
                f"{name!r} must give non-empty names positive limits, but has {group!r}: {limit!r}"
            )


def _runtime_env(name: str, value: dict[str, Any] | None) -> None:
    if value:
        from ray._runtime_env.resolution import check  # Builds upon this module.

        check(value)


def _tensor_transport(name: str, value: str | None) -> None:
    if value is not None:
        from ray.experimental.rdt.transports import TRANSPORTS  # Few programs need it.

        TRANSPORTS.check_name(value)


_NUMBER = (float, int, _NONE)
_INTEGER = (int, _NONE)
_TEXT = (str, _NONE)

# What tasks and actors share.
_COMMON: dict[str, Option] = {
    "_labels": Option((dict, _NONE), _labels),
    "accelerator_type": Option(_TEXT, _not_empty),
    "enable_task_events": Option((bool,), _anything),
    "memory": Option(_NUMBER, _quantity),
    "name": Option(_TEXT, _anything),
    "num_cpus": Option(_NUMBER, _quantity),
    "num_gpus": Option(_NUMBER, _gpus),
    "object_store_memory": Option(_NUMBER, _quantity),
    "resources": Option((dict, _NONE), _custom_resources),
    "fallback_strategy": Option((list, _NONE), check_fallback_strategy),
    "label_selector": Option((dict, _NONE), check_label_selector),
    "placement_group": Option((object,), check_placement_group),
    "placement_group_bundle_index": Option((int,), _anything),
    "placement_group_capture_child_tasks": Option((bool, _NONE), _anything),
    "runtime_env": Option((dict, _NONE), _runtime_env),
    "scheduling_strategy": Option((object,), check_scheduling_strategy),
}

# What tasks and methods share.
_GENERATORS: dict[str, Option] = {
    "_generator_backpressure_num_objects": Option(_INTEGER, _backpressure),
    "_num_objects_per_yield": Option(_INTEGER, _objects_per_yield),
}

TASK_OPTIONS: Table = (
    _COMMON
    | _GENERATORS
    | {
        "max_calls": Option(_INTEGER, _count(0)),
        "max_retries": Option(_INTEGER, _count(-1)),
        "num_returns": Option((int, str, _NONE), _num_returns),
        "retry_exceptions": Option((bool, list, tuple), _retry_exceptions),
    }
)

ACTOR_OPTIONS: Table = _COMMON | {
    "_actor_generator_backpressure_num_objects": Option(_INTEGER, _actor_backpressure),
    "allow_out_of_order_execution": Option((bool, _NONE), _anything),
    "enable_tensor_transport": Option((bool, _NONE), _anything),
    "concurrency_groups": Option((dict, _NONE), _groups),
    "get_if_exists": Option((bool,), _anything),
    "lifetime": Option(_TEXT, _one_of("detached", "non_detached", None)),
    "max_concurrency": Option(_INTEGER, _count(0)),
    "max_pending_calls": Option(_INTEGER, _count(-1)),
    "max_restarts": Option(_INTEGER, _count(-1)),
    "max_task_retries": Option(_INTEGER, _count(-1)),
    "name": Option(_TEXT, _not_empty),
    "namespace": Option(_TEXT, _not_empty),
}

METHOD_OPTIONS: Table = _GENERATORS | {
    "concurrency_group": Option(_TEXT, _anything),
    "enable_task_events": Option((bool,), _anything),
    "max_task_retries": Option(_INTEGER, _count(-1)),
    "name": Option(_TEXT, _anything),
    "num_returns": Option((int, str, _NONE), _num_returns),
    "retry_exceptions": Option((bool, list, tuple, _NONE), _retry_exceptions),
    "tensor_transport": Option(_TEXT, _tensor_transport),
}


def check_options(options: Mapping[str, Any], table: Table, of_what: str) -> None:
    """Checks options by a table.

    Args:
        options: what the user gave.
        table: TASK_OPTIONS, ACTOR_OPTIONS or METHOD_OPTIONS.
        of_what: for messages: "remote functions", "actors" or "actor methods".

    Raises:
        ValueError: an unknown option (the message lists the valid ones), or a value out of range.
        TypeError: a value of a wrong type.
    """
    for name, value in options.items():
        row = table.get(name)
        if row is None:
            raise ValueError(
                f"Invalid option keyword {name} for {of_what}. Valid ones are {sorted(table)}."
            )
        if not isinstance(value, row.types):
            expected = " or ".join(t.__name__ for t in row.types)
            raise TypeError(
                f"The type of keyword {name!r} must be {expected}, but received {value!r} of type"
                f" {type(value).__name__}"
            )
        row.check(name, value)


def check_actor_options(options: Mapping[str, Any]) -> None:
    """As check_options for actors, with the rules that join several options."""
    check_options(options, ACTOR_OPTIONS, "actors")
    if options.get("get_if_exists") and not options.get("name"):
        raise ValueError("The actor name must be specified to use `get_if_exists`.")


def stream_backpressure(options: Mapping[str, Any], of_actor: int = 0) -> int:
    """How many items of a generator may wait to be read; 0 for no limit.

    Args:
        options: checked options of the task or method.
        of_actor: what actor_backpressure gave for the method's actor.
    """
    own = max(options.get("_generator_backpressure_num_objects") or 0, 0)
    return min(own, of_actor) if own and of_actor else own or of_actor


def actor_backpressure(options: Mapping[str, Any]) -> int:
    """How many items of all generators of an actor may wait to be read; 0 for no limit."""
    return max(options.get("_actor_generator_backpressure_num_objects") or 0, 0)


def objects_per_yield(options: Mapping[str, Any]) -> int:
    """How many items a generator yields at once; 0 if what it yields is one item."""
    count: int = options.get("_num_objects_per_yield") or 1
    return 0 if count == 1 else count


def check_objects_per_yield_stays(
    options: Mapping[str, Any], declared: Mapping[str, Any] | None, of_what: str, decorator: str
) -> None:
    """How many items a yield is belongs to the function, and stays as it was declared.

    Args:
        options: what a call gives.
        declared: what the function was declared with; None: a call may not even repeat it.
        of_what: for the message: "task" or "actor method".
        decorator: for the message: where it can be given.

    Raises:
        ValueError: ``options`` has another one.
    """
    name = "_num_objects_per_yield"
    if name not in options:
        return
    if declared is None or options[name] != (declared.get(name) or 1):
        raise ValueError(
            f"{name} cannot be overridden per {of_what} call. Use @{decorator}({name}=...) instead."
        )


def freeze_options(options: Mapping[str, Any]) -> Any:
    """The options as a key for a dict: equal for equal options."""
    return tuple((name, _freeze(value)) for name, value in sorted(options.items()))


def _freeze(value: Any) -> Any:
    if isinstance(value, dict):
        return tuple((name, _freeze(item)) for name, item in value.items())
    return tuple(map(_freeze, value)) if isinstance(value, list) else value


def resource_demand(options: Mapping[str, Any], default_cpus: float) -> dict[str, float]:
    """What the options demand, by resource name, without zeros.

    Args:
        options: checked options of a task or actor.
        default_cpus: CPUs to demand if ``num_cpus`` is not given.
    """
    cpus = options.get("num_cpus")
    demand = {
        "CPU": default_cpus if cpus is None else cpus,
        "GPU": options.get("num_gpus") or 0,
        "memory": options.get("memory") or 0,
        "object_store_memory": options.get("object_store_memory") or 0,
        **(options.get("resources") or {}),
    }
    if accelerator := options.get("accelerator_type"):
        # Any share of the accelerator's resource will do: it only says where it is.
        demand[f"accelerator_type:{accelerator}"] = 0.001
    return {name: float(quantity) for name, quantity in demand.items() if quantity}


def actor_demand(options: Mapping[str, Any]) -> tuple[dict[str, float], dict[str, float]]:
    """What an actor demands to be placed, and what it holds while it lives.

    An actor that says nothing of CPUs needs one to be placed and holds none; if it demands GPUs or
    custom resources, it holds the CPU as well.
    """
    says_nothing = options.get("num_cpus") is None and not (
        options.get("num_gpus") is not None
        or options.get("resources")
        or options.get("accelerator_type")
    )
    creation = resource_demand(options, default_cpus=1)
    lifetime = resource_demand(options, default_cpus=0) if says_nothing else creation
    return creation, lifetime
