"""Where objects are."""

from __future__ import annotations

from typing import Any

from ray._raylet import Core, ObjectRef
from ray._runtime import RUNTIME
from ray._serialization import serialized_size

# An owner that is not heard of for this long has the object not ready: it answers once it is.
_OWNER_ANSWERS_S = 0.5


def get_object_locations(
    obj_refs: list[ObjectRef[Any]], timeout_ms: int = -1
) -> dict[ObjectRef[Any], dict[str, Any]]:
    """Which nodes have objects, and how large they are. Asks the objects' owners.

    Args:
        obj_refs: references.
        timeout_ms: how long to wait for an owner at most, in milliseconds. -1: as long as it takes
            an owner that lives. Objects that are not ready are not waited for.

    Returns:
        For each reference a dict: "node_ids" (list of hex ids; empty while the object is not
        ready), "object_size" (bytes when serialized; None while the object is not ready),
        "did_spill" (whether it is on disk only; looking at it has brought it back).

    Raises:
        TypeError: obj_refs is not a list of references, or timeout_ms not an integer.
    """
    if not isinstance(timeout_ms, int):
        raise TypeError(f"timeout_ms must be an int, not {type(timeout_ms).__name__}.")
    patience_s = _OWNER_ANSWERS_S if timeout_ms < 0 else min(timeout_ms / 1000, _OWNER_ANSWERS_S)
    return _locations(obj_refs, patience_s)


def get_local_object_locations(
    obj_refs: list[ObjectRef[Any]],
) -> dict[ObjectRef[Any], dict[str, Any]]:
    """As ``get_object_locations``, but tells only what this process knows, and asks nobody.

    Args:
        obj_refs: references.

    Raises:
        TypeError: obj_refs is not a list of references.
    """
    return _locations(obj_refs, 0)


def _locations(refs: Any, patience_s: float) -> dict[ObjectRef[Any], dict[str, Any]]:
    if not isinstance(refs, list) or not all(isinstance(ref, ObjectRef) for ref in refs):
        raise TypeError("obj_refs must be a list of ObjectRefs.")
    core = RUNTIME.require()
    borrowed = [ref for ref in refs if core.worker_id not in ref.owner_address()]
    if borrowed:
        core.wait(borrowed, len(borrowed), patience_s, False)
    return {ref: _location(core, ref) for ref in refs}


def _location(core: Core, ref: ObjectRef[Any]) -> dict[str, Any]:
    # There is one node: what is ready is at hand here.
    ready, _ = core.wait([ref], 1, 0, False)
    if not ready:
        return {"node_ids": [], "object_size": None, "did_spill": False}
    try:
        value = core.get_one(ref, None)
    except Exception as error:
        value = error
    return {
        "node_ids": [core.node_id.hex()],
        "object_size": serialized_size(value),
        "did_spill": False,
    }
