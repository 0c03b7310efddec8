"""Why an object is not there yet."""

from __future__ import annotations

from typing import Any

from ray._generators import ObjectRefGenerator
from ray._raylet import ObjectRef
from ray._runtime import RUNTIME


def why_pending(ref: ObjectRef[Any] | ObjectRefGenerator[Any]) -> str | None:
    """What an object waits for: the resource that is missing and what the node has of it, the
    worker that is being started or the environment that is being set up for it, its task's
    arguments, the calls ahead of it, or the state of its actor. Blocks for one request to the
    raylet. Not in Ray.

    Args:
        ref: a reference, or a generator, of which the task is meant.

    Returns:
        Whole sentences, or None if the object is ready.

    Raises:
        TypeError: not a reference.

    >>> import ray
    >>> @ray.remote(resources={"telescope": 1})
    ... def observe(): ...
    >>> ref = observe.remote()
    >>> "telescope" in ray.util.why_pending(ref)
    True
    >>> ray.cancel(ref)
    """
    if isinstance(ref, ObjectRefGenerator):
        ref = ref.completed()
    if type(ref) is not ObjectRef:
        raise TypeError(f"why_pending takes an ObjectRef, not a {type(ref).__name__}.")
    return RUNTIME.require().why_pending(ref) or None
