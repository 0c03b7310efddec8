"""ActorPool: shares out calls over a fixed set of actors.

Source: https://docs.ray.io/en/latest/ray-core/api/doc/ray.util.ActorPool.html, conformance
actors/test_actor_utils.py.
"""

from __future__ import annotations

import collections
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple, TypeVar

import ray
from ray._raylet import ObjectRef
from ray.actor import ActorHandle
from ray.exceptions import RayActorError

V = TypeVar("V")

# Makes a call: given an actor and a value, returns the reference to the result.
CallActor = Callable[[Any, V], Any]


class _Running(NamedTuple):
    """A call whose result nobody has taken."""

    ref: ObjectRef[Any]
    actor: ActorHandle[Any]


class ActorPool:
    """Gives each call to an actor that is idle, and queues calls while none is.

    An actor is idle again when the result of its call is taken, so a pool makes progress only while
    somebody takes results.

    Args:
        actors: handles of the actors; they should be of use to nobody else meanwhile.

    Threads: one; the pool has no lock.

    >>> @ray.remote
    ... class Doubler:
    ...     def double(self, x):
    ...         return 2 * x
    >>> pool = ActorPool([Doubler.remote(), Doubler.remote()])
    >>> list(pool.map(lambda actor, x: actor.double.remote(x), [1, 2, 3]))
    [2, 4, 6]
    """

    def __init__(self, actors: Iterable[ActorHandle[Any]]) -> None:
        self._idle = list(actors)
        # By the number of the submission.
        self._running: dict[int, _Running] = {}
        self._queued: collections.deque[tuple[CallActor[Any], Any]] = collections.deque()
        self._submitted = 0
        # The submission that get_next returns next.
        self._next = 0

    def map(self, fn: CallActor[V], values: Iterable[V]) -> Iterator[Any]:
        """Makes a call for each value and yields the results in the order of the values.

        Args:
            fn: given an actor and a value, makes the call and returns its reference.
            values: the values; all of them are submitted at once.

        Returns:
            An iterator over the results; ``next`` blocks until there is one, and raises what the
            call raised. Results of earlier submissions that nobody took are dropped.
        """
        return self._map(fn, values, self.get_next)

    def map_unordered(self, fn: CallActor[V], values: Iterable[V]) -> Iterator[Any]:
        """As ``map(fn, values)``, but yields the results in the order in which they become
        ready."""
        return self._map(fn, values, self.get_next_unordered)

    def submit(self, fn: CallActor[V], value: V) -> None:
        """Makes a call, at once if an actor is idle, else when one is. Does not block.

        Args:
            fn: given an actor and a value, makes the call and returns its reference.
            value: the value.
        """
        self._queued.append((fn, value))
        self._start_queued()

    def has_next(self) -> bool:
        """Whether there are results to take, or to wait for."""
        return bool(self._running)

    def get_next(self, timeout: float | None = None, ignore_if_timedout: bool = False) -> Any:
        """The next result in the order of submission. Blocks until it is there.

        Args:
            timeout: how long to wait at most, in seconds. None: without limit.
            ignore_if_timedout: after the timeout, drop this result and free its actor.

        Raises:
            StopIteration: there are no more results.
            TimeoutError: it is not there in time.
            ValueError: ``get_next_unordered`` has gone past it already.
            Exception: what the call raised; the pool can be used on.
        """
        if not self._running:
            raise StopIteration("No more results to get")
        if self._next not in self._running:
            raise ValueError("It is not allowed to call get_next() after get_next_unordered().")
        ref = self._running[self._next].ref
        ready, _ = ray.wait([ref], timeout=timeout)
        if ready:
            return self._take(self._next)
        if ignore_if_timedout:
            self._drop(self._next)
            raise TimeoutError(f"Timed out waiting for result. The task {ref} has been ignored.")
        raise TimeoutError("Timed out waiting for result")

    def get_next_unordered(
        self, timeout: float | None = None, ignore_if_timedout: bool = False
    ) -> Any:
        """Any of the results. Blocks until one is there.

        Args:
            timeout: how long to wait at most, in seconds. None: without limit.
            ignore_if_timedout: after the timeout, drop all results that are waited for and free
                their actors.

        Raises:
            StopIteration: there are no more results.
            TimeoutError: none is there in time.
            Exception: what the call raised; the pool can be used on.
        """
        if not self._running:
            raise StopIteration("No more results to get")
        numbers = {call.ref: number for number, call in self._running.items()}
        ready, _ = ray.wait(list(numbers), timeout=timeout)
        if ready:
            return self._take(numbers[ready[0]])
        if ignore_if_timedout:
            for number in numbers.values():
                self._drop(number)
            raise TimeoutError("Timed out waiting for result. The running tasks have been ignored.")
        raise TimeoutError("Timed out waiting for result")

    def has_free(self) -> bool:
        """Whether an actor is idle and no call waits for one."""
        return bool(self._idle) and not self._queued

    def pop_idle(self) -> ActorHandle[Any] | None:
        """Takes an idle actor out of the pool; None if there is none."""
        return self._idle.pop() if self.has_free() else None

    def push(self, actor: ActorHandle[Any]) -> None:
        """Adds an actor to the pool.

        Args:
            actor: its handle.

        Raises:
            ValueError: it is in the pool already.
        """
        busy = (call.actor for call in self._running.values())
        if actor in self._idle or actor in busy:
            raise ValueError("Actor already belongs to current ActorPool")
        self._free(actor)

    def _map(
        self, fn: CallActor[V], values: Iterable[V], take_next: Callable[[], Any]
    ) -> Iterator[Any]:
        self._queued.clear()
        for number in list(self._running):
            self._drop(number)
        for value in values:
            self.submit(fn, value)

        def results() -> Iterator[Any]:
            while self.has_next():
                yield take_next()

        return results()

    def _start_queued(self) -> None:
        while self._queued and self._idle:
            fn, value = self._queued.popleft()
            actor = self._idle.pop()
            try:
                ref = fn(actor, value)
            except BaseException:
                self._idle.append(actor)
                raise
            self._running[self._submitted] = _Running(ref, actor)
            self._submitted += 1

    def _take(self, number: int) -> Any:
        """The result of a call that is ready; its actor becomes idle, unless it is dead."""
        self._next = max(self._next, number + 1)
        call = self._running.pop(number)
        try:
            result = ray.get(call.ref)
        except RayActorError:
            raise
        except Exception:
            self._free(call.actor)
            raise
        self._free(call.actor)
        return result

    def _drop(self, number: int) -> None:
        self._next = max(self._next, number + 1)
        self._free(self._running.pop(number).actor)

    def _free(self, actor: ActorHandle[Any]) -> None:
        self._idle.append(actor)
        self._start_queued()
