"""The processes of a pool: the actor that runs its chunks, and what its owner knows of it."""

from __future__ import annotations

import functools
import pickle
import time
from collections.abc import Callable, Iterable
from multiprocessing.pool import (  # type: ignore[attr-defined]
    ExceptionWithTraceback,
    MaybeEncodingError,
)
from typing import Any

import cloudpickle  # type: ignore[import-untyped]

import ray
from ray._runtime import RUNTIME
from ray.exceptions import RayActorError
from ray.util.multiprocessing._chunks import NOT_KEPT, Chunk, Function, PoolTaskError


@ray.remote(num_cpus=0)
class PoolActor:
    """A process of a pool."""

    def __init__(
        self, initializer: Callable[..., Any] | None = None, initargs: Iterable[Any] = ()
    ) -> None:
        self._func: Callable[..., Any] | None = None
        self._number = 0
        if initializer is not None:
            initializer(*initargs)

    def run_batch(
        self, func: Callable[..., Any] | None, number: int, batch: list[Any], unpack: bool
    ) -> tuple[list[Any], bool]:
        """Runs a chunk.

        Args:
            func: the function; None: the one that was kept last.
            number: of the function; one that is kept has a number of its own.
            batch: the items.
            unpack: call ``func(*item)``, not ``func(item)``.

        Returns:
            For each item the result or a PoolTaskError; and whether there is an error among them.
        """
        if func is None:
            if self._func is None or self._number != number:
                raise RuntimeError("The function of these calls could not be loaded.")
            func = self._func
        elif number != NOT_KEPT:
            self._func, self._number = func, number
        call = functools.partial(_call_unpacked, func) if unpack else func
        outcomes: list[Any] = []
        failed = False
        items = iter(batch)
        while True:
            try:
                for item in items:
                    outcomes.append(call(item))
                return outcomes, failed
            except Exception as error:
                outcomes.append(PoolTaskError(_portable(error)))
                failed = True


def _call_unpacked(func: Callable[..., Any], arguments: Iterable[Any]) -> Any:
    return func(*arguments)


def _portable(error: Exception) -> Any:
    """The error with its traceback as text, in a form that survives the way to the caller."""
    try:
        pickle.loads(cloudpickle.dumps(error))
    except Exception as reason:
        return MaybeEncodingError(reason, error)
    return ExceptionWithTraceback(error, error.__traceback__)


class Process:
    """A process of a pool, as its owner sees it. Threads: that of the pool's lock."""

    def __init__(self, actor: Any) -> None:
        self.actor = actor
        self._run_batch = actor.run_batch.remote
        self.chunks: list[Chunk] = []  # sent to it, in order: it runs the first
        self.chunks_taken = 0
        self.is_dead = False
        self._since = 0.0  # when it began with the first of them, as far as is known here
        self._function: Function | None = None  # the last one sent

    def send(self, chunk: Chunk) -> None:
        """Adds a chunk.

        Raises:
            TypeError: the function or an item cannot be serialized.
        """
        function = chunk.function
        func = function.func
        if function is self._function and function.number != NOT_KEPT:
            func = None
        chunk.ref = self._run_batch(func, function.number, chunk.batch, function.unpack)
        chunk.is_recalled = False
        self._function = function
        if not self.chunks:
            self._since = time.perf_counter()
        self.chunks.append(chunk)
        self.chunks_taken += 1

    def take_ended(self, chunk: Chunk) -> None:
        now = time.perf_counter()
        if self.chunks_taken > 1:  # Before the first one the process had to start.
            chunk.function.note_pace(now - self._since)
        self._since = now
        self.chunks.remove(chunk)

    def take_back(self, chunk: Chunk) -> None:
        """The chunk has not run here."""
        self.chunks.remove(chunk)
        self.chunks_taken -= 1

    def note_failure(self, error: BaseException) -> None:
        """A chunk ended without outcomes."""
        self._function = None  # It may be for want of the function.
        self.is_dead = self.is_dead or isinstance(error, RayActorError)

    def may_follow(self, chunk: Chunk) -> bool:
        """Whether the chunk may be sent behind those that are there: only one of the same result,
        which an error of any of them spoils anyway."""
        return chunk.function is self._function and not self.is_dead

    def recallable_count(self) -> int:
        """How many chunks may not have begun, and were not called back."""
        return sum(not chunk.is_recalled for chunk in self.chunks[1:])

    def recall_one(self) -> None:
        """Has the last of these taken back. Its outcome tells whether it had begun already."""
        chunk = next(each for each in reversed(self.chunks) if not each.is_recalled)
        chunk.is_recalled = True
        RUNTIME.require().cancel_unless_started(chunk.ref)
