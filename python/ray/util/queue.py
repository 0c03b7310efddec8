"""A queue between the processes of a job, kept by an actor.

Source: https://docs.ray.io/en/latest/ray-core/api/doc/ray.util.queue.Queue.html, conformance
actors/test_actor_utils.py.
"""

from __future__ import annotations

import asyncio
import queue
from collections.abc import Iterable
from typing import Any

import ray
from ray._raylet import ObjectRef

__all__ = ["Empty", "Full", "Queue"]

# Calls that may wait at once for an item, and for room; more wait in the order of their coming.
_WAITING_MAX = 1000


class Empty(queue.Empty):
    """The queue had no item, or not as many as were asked for, until the timeout."""


class Full(queue.Full):
    """The queue had no room, or not for as many items as there were, until the timeout."""


class Queue:
    """A first-in, first-out queue that can be passed to tasks and actors.

    All of its copies are the same queue. It lives as long as one of them does. The blocking methods
    release the GIL; in coroutines use ``put_async`` and ``get_async``.

    Args:
        maxsize: how many items it holds at most; 0 or less: without limit.
        actor_options: options of the actor that keeps it, as for ``ActorClass.options``.

    Attributes:
        maxsize: as given.
        actor: handle of the actor; None after ``shutdown``.

    Raises:
        TypeError: maxsize is not an integer.
        ValueError: an unknown option.

    Threads: any.

    >>> queue = Queue(maxsize=2)
    >>> queue.put("a")
    >>> queue.get()
    'a'
    """

    def __init__(self, maxsize: int = 0, actor_options: dict[str, Any] | None = None) -> None:
        if not isinstance(maxsize, int):
            raise TypeError(f"maxsize must be an int, not {type(maxsize).__name__}.")
        self.maxsize = maxsize
        keeper: Any = _QueueActor
        self.actor: Any = keeper.options(**(actor_options or {})).remote(maxsize)

    def __len__(self) -> int:
        return self.size()

    def size(self) -> int:
        """How many items are in the queue."""
        size: int = ray.get(self._actor.qsize.remote())
        return size

    def qsize(self) -> int:
        """How many items are in the queue."""
        return self.size()

    def empty(self) -> bool:
        """Whether there is no item."""
        return self.size() == 0

    def full(self) -> bool:
        """Whether there is no room."""
        return 0 < self.maxsize <= self.size()

    def put(self, item: Any, block: bool = True, timeout: float | None = None) -> None:
        """Adds an item. Blocks while there is no room.

        Args:
            item: anything that can be serialized.
            block: False: do not wait for room.
            timeout: how long to wait for room at most, in seconds. None: without limit.

        Raises:
            Full: there is no room in time.
            ValueError: the timeout is negative.
        """
        _get(self._put(item, block, timeout))

    async def put_async(self, item: Any, block: bool = True, timeout: float | None = None) -> None:
        """As ``put(item, block, timeout)``, for coroutines."""
        await _get_async(self._put(item, block, timeout))

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        """Takes the oldest item out. Blocks while there is none.

        A caller that is interrupted (Ctrl-C) takes no item.

        Args:
            block: False: do not wait for an item.
            timeout: how long to wait for one at most, in seconds. None: without limit.

        Raises:
            Empty: there is no item in time.
            ValueError: the timeout is negative.
        """
        return _get(self._take(block, timeout))

    async def get_async(self, block: bool = True, timeout: float | None = None) -> Any:
        """As ``get(block, timeout)``, for coroutines. One that is cancelled takes no item."""
        return await _get_async(self._take(block, timeout))

    def put_nowait(self, item: Any) -> None:
        """``put(item, block=False)``."""
        self.put(item, block=False)

    def get_nowait(self) -> Any:
        """``get(block=False)``."""
        return self.get(block=False)

    def put_nowait_batch(self, items: Iterable[Any]) -> None:
        """Adds all of the items, or none of them if there is no room for all. Does not wait for
        room.

        Raises:
            Full: there is no room for all of them.
            TypeError: items is not iterable.
        """
        if not isinstance(items, Iterable):
            raise TypeError("Argument 'items' must be an Iterable")
        _get(self._actor.put_nowait_batch.remote(list(items)))

    def get_nowait_batch(self, num_items: int) -> list[Any]:
        """Takes the oldest items out, or none if there are not as many. Does not wait for items.

        Args:
            num_items: how many.

        Raises:
            Empty: there are fewer.
            TypeError: num_items is not an integer.
            ValueError: num_items is negative.
        """
        if not isinstance(num_items, int):
            raise TypeError("Argument 'num_items' must be an int")
        if num_items < 0:
            raise ValueError("'num_items' must be nonnegative")
        items: list[Any] = _get(self._actor.get_nowait_batch.remote(num_items))
        return items

    def shutdown(self, force: bool = False, grace_period_s: int = 5) -> None:
        """Ends the actor that keeps the queue, for all copies; its items are lost.

        Args:
            force: kill it, without waiting for the calls that it runs.
            grace_period_s: how long it may take to end by itself, in seconds, before it is killed.
        """
        actor, self.actor = self.actor, None
        if actor is None:
            return
        if not force:
            ended, _ = ray.wait([actor.__ray_terminate__.remote()], timeout=grace_period_s)
            if ended:
                return
        ray.kill(actor, no_restart=True)

    @property
    def _actor(self) -> Any:
        if self.actor is None:
            raise RuntimeError("The queue was shut down. Make a new Queue.")
        return self.actor

    def _put(self, item: Any, block: bool, timeout: float | None) -> ObjectRef[Any]:
        reference: ObjectRef[Any] = self._actor.put.remote(item, _wait_limit(block, timeout))
        return reference

    def _take(self, block: bool, timeout: float | None) -> ObjectRef[Any]:
        reference: ObjectRef[Any] = self._actor.get.remote(_wait_limit(block, timeout))
        return reference


def _wait_limit(block: bool, timeout: float | None) -> float | None:
    """How long the actor is to wait, in seconds: 0 = not at all, None = without limit."""
    if not block:
        return 0
    if timeout is not None and timeout < 0:
        raise ValueError("'timeout' must be a non-negative number")
    return timeout


def _get(ref: ObjectRef[Any]) -> Any:
    try:
        return ray.get(ref)
    except (Empty, Full) as error:
        raise _plain(error) from None
    except KeyboardInterrupt:
        ray.cancel(ref)
        raise


async def _get_async(ref: ObjectRef[Any]) -> Any:
    try:
        return await ref  # type: ignore[misc]
    except (Empty, Full) as error:
        raise _plain(error) from None
    except asyncio.CancelledError:
        ray.cancel(ref)
        raise


def _plain(error: Empty | Full) -> Empty | Full:
    """The error without the traceback of the actor, which tells the caller nothing."""
    return Empty() if isinstance(error, Empty) else Full()


# Items and room are waited for in groups of their own, so that however many callers wait for the
# one, the other still comes.
@ray.remote(num_cpus=0, concurrency_groups={"put": _WAITING_MAX, "get": _WAITING_MAX})
class _QueueActor:
    def __init__(self, maxsize: int) -> None:
        self._items: asyncio.Queue[Any] = asyncio.Queue(maxsize)

    async def qsize(self) -> int:
        return self._items.qsize()

    @ray.method(concurrency_group="put")
    async def put(self, item: Any, timeout: float | None) -> None:
        try:
            if timeout == 0:
                self._items.put_nowait(item)
            else:
                await asyncio.wait_for(self._items.put(item), timeout)
        except (asyncio.QueueFull, asyncio.TimeoutError):
            raise Full from None

    @ray.method(concurrency_group="get")
    async def get(self, timeout: float | None) -> Any:
        try:
            if timeout == 0:
                return self._items.get_nowait()
            return await asyncio.wait_for(self._items.get(), timeout)
        except (asyncio.QueueEmpty, asyncio.TimeoutError):
            raise Empty from None

    async def put_nowait_batch(self, items: list[Any]) -> None:
        if 0 < self._items.maxsize < self._items.qsize() + len(items):
            raise Full
        for item in items:
            self._items.put_nowait(item)

    async def get_nowait_batch(self, num_items: int) -> list[Any]:
        if num_items > self._items.qsize():
            raise Empty
        return [self._items.get_nowait() for _ in range(num_items)]
