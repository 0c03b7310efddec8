"""The results of a pool's calls: those that come at once, and those that come item by item."""

from __future__ import annotations

import collections
import itertools
import queue
import threading
from collections.abc import Callable, Iterable
from multiprocessing import TimeoutError
from typing import TYPE_CHECKING, Any

import ray
from ray.util.multiprocessing._chunks import Chunk, Function, PoolTaskError, in_batches

if TYPE_CHECKING:
    from ray.util.multiprocessing.pool import Pool


class Countdown:
    """Waits until so many chunks are done."""

    def __init__(self, chunks: Iterable[Chunk]) -> None:
        chunks = list(chunks)
        self._lock = threading.Lock()
        self._left = len(chunks) + 1
        self._finished = threading.Event()
        for chunk in chunks:
            chunk.call_when_done(self._count)
        self._count(None)

    def _count(self, _: Chunk | None) -> None:
        with self._lock:
            self._left -= 1
            left = self._left
        if left == 0:
            self._finished.set()

    def wait(self, timeout: float | None = None) -> bool:
        return self._finished.wait(timeout)


class AsyncResult:
    """The result of a call that may not have ended. The pool's methods make it.

    Args:
        chunk_object_refs: the chunks, in order.
        callback: is called with the result, in a thread of its own.
        error_callback: is called with a PoolTaskError, or with the error that lost the process, in
            a thread of its own.
        single_result: the result is that of the only call, not a list.

    Threads: any.
    """

    def __init__(
        self,
        chunk_object_refs: Iterable[Chunk],
        callback: Callable[[Any], Any] | None = None,
        error_callback: Callable[[Exception], Any] | None = None,
        single_result: bool = False,
    ) -> None:
        self._chunks = list(chunk_object_refs)
        self._countdown = Countdown(self._chunks)
        self._single_result = single_result
        if callback is not None or error_callback is not None:
            threading.Thread(
                target=self._call_back,
                args=(callback, error_callback),
                name="ray_pool_callback",
                daemon=True,
            ).start()

    def wait(self, timeout: float | None = None) -> None:
        """Blocks until the result is there, or for ``timeout`` seconds."""
        self._countdown.wait(timeout)

    def get(self, timeout: float | None = None) -> Any:
        """The result. Blocks until it is there.

        Args:
            timeout: how long to wait at most, in seconds. None: without limit.

        Raises:
            multiprocessing.TimeoutError: it is not there in time.
            Exception: the first that a call raised, in the order of the items.
        """
        self.wait(timeout)
        if not self.ready():
            raise TimeoutError("The result is not ready yet.")
        error = self._first_error()
        if error is not None:
            raise error.underlying if isinstance(error, PoolTaskError) else error
        return self._value()

    def ready(self) -> bool:
        """Whether the result is there, or an error."""
        return self._countdown.wait(0)

    def successful(self) -> bool:
        """Whether no call raised.

        Raises:
            ValueError: the result is not there yet.
        """
        if not self.ready():
            raise ValueError(f"{self!r} not ready")
        return self._first_error() is None

    def _first_error(self) -> BaseException | None:
        errors = (chunk.lost or chunk.error for chunk in self._chunks)
        return next((error for error in errors if error is not None), None)

    def _value(self) -> Any:
        if self._single_result:
            return self._chunks[0].outcomes[0]
        return list(itertools.chain.from_iterable(chunk.outcomes for chunk in self._chunks))

    def _call_back(
        self,
        callback: Callable[[Any], Any] | None,
        error_callback: Callable[[Any], Any] | None,
    ) -> None:
        self.wait()
        error = self._first_error()
        if error is None and callback is not None:
            callback(self._value())
        elif error is not None and error_callback is not None:
            error_callback(error)


class IMapIterator:
    """Results of ``imap`` and ``imap_unordered``, item by item.

    Takes items only as results are taken: as many chunks as the pool has processes are under way.
    """

    def __init__(
        self,
        pool: Pool,
        func: Callable[..., Any],
        iterable: Iterable[Any],
        chunksize: int | None = None,
    ) -> None:
        self._pool = pool
        self._function = Function(ray.put(func), unpack=False, is_kept=pool._is_orderly)
        self._batches = in_batches(iterable, 1 if chunksize is None else chunksize)
        self._outcomes: collections.deque[Any] = collections.deque()
        self._unfinished = 0
        for _ in range(pool._size):
            self._submit_next_chunk()

    def __iter__(self) -> IMapIterator:
        return self

    def __next__(self) -> Any:
        return self.next()

    def next(self, timeout: float | None = None) -> Any:
        """The next result. Blocks until it is there.

        Args:
            timeout: how long to wait at most, in seconds. None: without limit.

        Raises:
            StopIteration: there are no more.
            multiprocessing.TimeoutError: it is not there in time.
            Exception: what the call raised; further results can be taken.
        """
        if not self._outcomes:
            self._outcomes.extend(self._next_chunk(timeout))
        outcome = self._outcomes.popleft()
        if isinstance(outcome, PoolTaskError):
            raise outcome.underlying
        return outcome

    def _next_chunk(self, timeout: float | None) -> list[Any]:
        if self._unfinished == 0:
            raise StopIteration
        chunk = self._take_done(timeout)
        self._unfinished -= 1
        self._submit_next_chunk()
        if chunk.lost is not None:
            raise chunk.lost
        return chunk.outcomes

    def _submit_next_chunk(self) -> None:
        batch = next(self._batches, None)
        if batch is not None:
            self._unfinished += 1
            chunk = Chunk(self._function, batch)
            self._pool._submit([chunk])
            self._add(chunk)

    def _add(self, chunk: Chunk) -> None:
        raise NotImplementedError

    def _take_done(self, timeout: float | None) -> Chunk:
        """A chunk that has ended; raises multiprocessing.TimeoutError."""
        raise NotImplementedError


class OrderedIMapIterator(IMapIterator):
    """Results in the order of the items."""

    def __init__(
        self,
        pool: Pool,
        func: Callable[..., Any],
        iterable: Iterable[Any],
        chunksize: int | None = None,
    ) -> None:
        self._chunks: collections.deque[Chunk] = collections.deque()
        super().__init__(pool, func, iterable, chunksize)

    def _add(self, chunk: Chunk) -> None:
        self._chunks.append(chunk)

    def _take_done(self, timeout: float | None) -> Chunk:
        if not Countdown([self._chunks[0]]).wait(timeout):
            raise TimeoutError("The next result is not ready yet.")
        return self._chunks.popleft()


class UnorderedIMapIterator(IMapIterator):
    """Results as they become ready."""

    def __init__(
        self,
        pool: Pool,
        func: Callable[..., Any],
        iterable: Iterable[Any],
        chunksize: int | None = None,
    ) -> None:
        self._done: queue.SimpleQueue[Chunk] = queue.SimpleQueue()
        super().__init__(pool, func, iterable, chunksize)

    def _add(self, chunk: Chunk) -> None:
        chunk.call_when_done(self._done.put)

    def _take_done(self, timeout: float | None) -> Chunk:
        try:
            return self._done.get(timeout=timeout)
        except queue.Empty:
            raise TimeoutError("No result is ready yet.") from None
