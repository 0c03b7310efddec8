"""Results in the order in which they become ready: ``as_completed`` and ``map_unordered``.

Source: https://docs.ray.io/en/latest/ray-core/api/doc/ray.util.as_completed.html,
https://docs.ray.io/en/latest/ray-core/api/doc/ray.util.map_unordered.html.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import ray
from ray._raylet import ObjectRef

DEFAULT_CHUNK_SIZE = 10
DEFAULT_BACKPRESSURE_SIZE = 100


def as_completed(
    refs: Sequence[ObjectRef[Any]],
    *,
    chunk_size: int = DEFAULT_CHUNK_SIZE,
    yield_obj_refs: bool = False,
    **kwargs: Any,
) -> Iterator[Any]:
    """Yields the values of objects as they become ready.

    Args:
        refs: references, each once.
        chunk_size: how many values to fetch in one step, at most.
        yield_obj_refs: yield the references instead of the values.
        **kwargs: options of ``ray.wait``: ``timeout`` (seconds to wait in one step) and
            ``fetch_local``.

    Yields:
        The values, or with ``yield_obj_refs`` the references, of ready objects.

    Raises:
        ValueError: chunk_size is below 1, num_returns is given, or a reference occurs twice.
        Exception: what a task raised, where its value would be yielded.

    >>> sorted(as_completed([ray.put(1), ray.put(2)]))
    [1, 2]
    """
    _check_chunks(chunk_size, kwargs)
    remaining = list(refs)
    while remaining:
        batch, remaining = _next_batch(remaining, chunk_size, yield_obj_refs, kwargs)
        yield from batch


def map_unordered(
    fn: Any,
    items: Iterable[Any],
    *,
    backpressure_size: int | None = DEFAULT_BACKPRESSURE_SIZE,
    chunk_size: int = DEFAULT_CHUNK_SIZE,
    yield_obj_refs: bool = False,
    **kwargs: Any,
) -> Iterator[Any]:
    """Calls ``fn.remote(item)`` for each item, and yields the results as they become ready.

    Args:
        fn: a remote function, or a method of an actor handle.
        items: the arguments; taken as results are, so they may be without end.
        backpressure_size: how many calls may be unfinished, or finished and not yet yielded, at
            most. None: without limit.
        chunk_size: how many values to fetch in one step, at most.
        yield_obj_refs: yield references instead of the values.
        **kwargs: options of ``ray.wait``, as for ``as_completed``.

    Yields:
        The results, or with ``yield_obj_refs`` references to them.

    Raises:
        ValueError: chunk_size or backpressure_size is below 1, or num_returns is given.
        Exception: what a call raised, where its result would be yielded.

    >>> square = ray.remote(lambda x: x * x)
    >>> sorted(map_unordered(square, range(4)))
    [0, 1, 4, 9]
    """
    _check_chunks(chunk_size, kwargs)
    if backpressure_size is not None and backpressure_size < 1:
        raise ValueError(f"backpressure_size must be positive, but is {backpressure_size}.")
    arguments = iter(items)
    running: list[ObjectRef[Any]] = []
    while True:
        room = None if backpressure_size is None else backpressure_size - len(running)
        running += [fn.remote(item) for item in itertools.islice(arguments, room)]
        if not running:
            return
        batch, running = _next_batch(running, chunk_size, yield_obj_refs, kwargs)
        yield from batch


def _check_chunks(chunk_size: int, wait_options: dict[str, Any]) -> None:
    if chunk_size < 1:
        raise ValueError("`chunk_size` must be >= 1")
    if "num_returns" in wait_options:
        raise ValueError("Use the `chunk_size` argument instead of `num_returns`.")


def _next_batch(
    refs: list[ObjectRef[Any]], chunk_size: int, yield_refs: bool, wait_options: dict[str, Any]
) -> tuple[list[Any], list[ObjectRef[Any]]]:
    """What is ready of ``refs``, once something is, and the other references."""
    ready, rest = ray.wait(refs, num_returns=1, **wait_options)
    # Whatever else is ready by now goes along; fetching it together costs less.
    more, rest = ray.wait(rest, num_returns=len(rest), timeout=0) if rest else ([], [])
    ready += more
    ready, rest = ready[:chunk_size], ready[chunk_size:] + rest
    return (ready if yield_refs else ray.get(ready)), rest
