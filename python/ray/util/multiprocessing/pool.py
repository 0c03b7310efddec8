"""A pool of processes with the interface of ``multiprocessing.Pool``; its processes are actors.

Calls wait in one queue, in chunks, and each process takes the next chunk when it is done with the
last. So that it need not wait for that, chunks of one ``map`` are sent ahead to it while they prove
short. Those behind one that turns out to be long are taken back as soon as another process has
nothing to do, so that calls may wait for each other as they may in ``multiprocessing.Pool``.

Source: https://docs.ray.io/en/latest/ray-more-libs/multiprocessing.html,
https://docs.python.org/3/library/multiprocessing.html#multiprocessing.pool.Pool, conformance
actors/test_actor_utils.py.
"""

from __future__ import annotations

import collections
import contextlib
import functools
import itertools
import logging
import os
import threading
from collections.abc import Callable, Iterable
from typing import Any

import ray
from ray._async_refs import call_on_outcome
from ray.exceptions import ActorDiedError, TaskCancelledError
from ray.util.multiprocessing._chunks import Chunk, Function, PoolTaskError, in_batches
from ray.util.multiprocessing._processes import PoolActor, Process
from ray.util.multiprocessing._results import (
    AsyncResult,
    Countdown,
    IMapIterator,
    OrderedIMapIterator,
    UnorderedIMapIterator,
)

__all__ = [
    "RAY_ADDRESS_ENV",
    "AsyncResult",
    "IMapIterator",
    "OrderedIMapIterator",
    "Pool",
    "PoolActor",
    "PoolTaskError",
    "UnorderedIMapIterator",
]

RAY_ADDRESS_ENV = "RAY_ADDRESS"

# Pieces that map makes for each process, so that they end at about the same time.
_CHUNKS_PER_PROCESS = 4

# Options with which a process may run several chunks at once, or forget what it was sent.
_UNRULY_OPTIONS = frozenset(
    ("concurrency_groups", "max_concurrency", "max_restarts", "max_task_retries")
)

_logger = logging.getLogger(__name__)


class Pool:
    """A pool of processes that run calls, as ``multiprocessing.Pool``.

    Starts a session if there is none. Errors of calls are raised where results are taken. A process
    that dies fails the calls that it ran, and with them the ``map`` that they belong to, and is
    replaced.

    Args:
        processes: how many; by default one for each CPU of the cluster.
        initializer: is called first in each process.
        initargs: its arguments.
        maxtasksperchild: a process is replaced after as many chunks of calls. None: never.
        context: not supported; ignored with a warning.
        ray_address: address of the cluster to join, if there is no session.
        ray_remote_args: options of the processes' actors, as for ``ActorClass.options``. By default
            they need no CPU.

    Raises:
        ValueError: processes or maxtasksperchild is below 1, or the cluster has fewer CPUs.
        TypeError: processes is not an integer.

    Threads: any.

    >>> with Pool(2) as pool:
    ...     pool.map(abs, [-1, 2, -3])
    [1, 2, 3]
    """

    def __init__(
        self,
        processes: int | None = None,
        initializer: Callable[..., Any] | None = None,
        initargs: Iterable[Any] | None = None,
        maxtasksperchild: int | None = None,
        context: Any = None,
        ray_address: str | None = None,
        ray_remote_args: dict[str, Any] | None = None,
    ) -> None:
        _check_count("processes", processes, "Processes in the pool must be >0.")
        _check_count("maxtasksperchild", maxtasksperchild, "maxtasksperchild must be >0 or None.")
        if context is not None:
            _logger.warning("The 'context' argument of Pool is ignored: its processes are actors.")
        if initializer is not None and not callable(initializer):
            raise TypeError("initializer must be a callable.")
        actor_class: Any = PoolActor
        self._is_orderly = not _UNRULY_OPTIONS & set(ray_remote_args or ())
        self._make_actor = functools.partial(
            actor_class.options(**(ray_remote_args or {})).remote,
            initializer,
            tuple(initargs or ()),
        )
        self._chunks_per_process = maxtasksperchild
        self._size = _start_session(processes, ray_address)
        # Guards all below. Held only for moments; no callback runs under it.
        self._lock = threading.RLock()
        self._closed = False
        self._terminated = False
        self._waiting: collections.deque[Chunk] = collections.deque()
        self._idle = [Process(self._make_actor()) for _ in range(self._size)]
        self._busy: set[Process] = set()
        self._recalls = 0  # chunks called back whose outcome is not known
        # Chunks that could not be sent; to be lost without the lock.
        self._unsendable: collections.deque[tuple[Chunk, Exception]] = collections.deque()
        # Of processes that were told to end, what is ready once they have.
        self._ends: list[Any] = []

    def apply(
        self,
        func: Callable[..., Any],
        args: Iterable[Any] | None = None,
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """``func(*args, **kwargs)``, called in a process. Blocks until it has ended.

        Raises:
            ValueError: the pool is closed.
            Exception: what the call raised.
        """
        return self.apply_async(func, args, kwargs).get()

    def apply_async(
        self,
        func: Callable[..., Any],
        args: Iterable[Any] | None = None,
        kwargs: dict[str, Any] | None = None,
        callback: Callable[[Any], Any] | None = None,
        error_callback: Callable[[Exception], Any] | None = None,
    ) -> AsyncResult:
        """As ``apply``, but does not block.

        Args:
            func: the function.
            args: its arguments.
            kwargs: its keyword arguments.
            callback: is called with the result.
            error_callback: is called with a PoolTaskError.

        Raises:
            ValueError: the pool is closed.
        """
        call = functools.partial(func, **kwargs) if kwargs else func
        chunk = Chunk(Function(call, unpack=True), [tuple(args or ())])
        self._submit([chunk])
        return AsyncResult([chunk], callback, error_callback, single_result=True)

    def map(
        self, func: Callable[..., Any], iterable: Iterable[Any], chunksize: int | None = None
    ) -> list[Any]:
        """``[func(x) for x in iterable]``, with the calls shared out over the processes. Blocks.

        Args:
            func: the function.
            iterable: the items.
            chunksize: how many a process takes at once; by default a fourth of its share.

        Raises:
            ValueError: the pool is closed, or chunksize is below 1.
            Exception: what the first failing call raised.
        """
        return self.map_async(func, iterable, chunksize).get()  # type: ignore[no-any-return]

    def map_async(
        self,
        func: Callable[..., Any],
        iterable: Iterable[Any],
        chunksize: int | None = None,
        callback: Callable[[list[Any]], Any] | None = None,
        error_callback: Callable[[Exception], Any] | None = None,
    ) -> AsyncResult:
        """As ``map(func, iterable, chunksize)``, but does not block; ``callback`` and
        ``error_callback`` are as for ``apply_async``."""
        chunks = self._submit_all(func, iterable, chunksize, unpack=False)
        return AsyncResult(chunks, callback, error_callback)

    def starmap(
        self,
        func: Callable[..., Any],
        iterable: Iterable[Iterable[Any]],
        chunksize: int | None = None,
    ) -> list[Any]:
        """As ``map(func, iterable, chunksize)``, but each item holds the arguments of a call:
        ``func(*item)``."""
        chunks = self._submit_all(func, iterable, chunksize, unpack=True)
        return AsyncResult(chunks).get()  # type: ignore[no-any-return]

    def starmap_async(
        self,
        func: Callable[..., Any],
        iterable: Iterable[Iterable[Any]],
        callback: Callable[[list[Any]], Any] | None = None,
        error_callback: Callable[[Exception], Any] | None = None,
    ) -> AsyncResult:
        """As ``starmap(func, iterable)``, but does not block; ``callback`` and
        ``error_callback`` are as for ``apply_async``."""
        chunks = self._submit_all(func, iterable, None, unpack=True)
        return AsyncResult(chunks, callback, error_callback)

    def imap(
        self, func: Callable[..., Any], iterable: Iterable[Any], chunksize: int | None = 1
    ) -> OrderedIMapIterator:
        """As ``map``, but an iterator, which takes items only as results are taken.

        Args:
            func: the function.
            iterable: the items; may be without end.
            chunksize: how many a process takes at once.

        Raises:
            ValueError: the pool is closed, or chunksize is below 1.
        """
        self._check_running()
        return OrderedIMapIterator(self, func, iterable, chunksize)

    def imap_unordered(
        self, func: Callable[..., Any], iterable: Iterable[Any], chunksize: int | None = 1
    ) -> UnorderedIMapIterator:
        """As ``imap(func, iterable, chunksize)``, but the results come as they become ready."""
        self._check_running()
        return UnorderedIMapIterator(self, func, iterable, chunksize)

    def close(self) -> None:
        """Takes no more calls; the processes end after those already made. Does not block."""
        with self._lock:
            self._closed = True
            self._end_idle()

    def terminate(self) -> None:
        """Kills the processes; calls that have not ended raise ActorDiedError. Does not block."""
        with self._lock:
            self._closed = self._terminated = True
            dropped = list(self._waiting)
            self._waiting.clear()
            self._end_idle()
            for process in self._busy:
                ray.kill(process.actor)
        for chunk in dropped:
            chunk.lose(_terminated())

    def join(self) -> None:
        """Blocks until the processes have ended; call ``close`` or ``terminate`` first.

        Raises:
            ValueError: the pool still takes calls.
        """
        with self._lock:
            if not self._closed:
                raise ValueError("Pool is still running; call close() or terminate() first.")
            running = itertools.chain.from_iterable(process.chunks for process in self._busy)
            unfinished = Countdown([*running, *self._waiting])
        unfinished.wait()
        with self._lock:
            ends = list(self._ends)
        if ends:
            ray.wait(ends, num_returns=len(ends))

    def __enter__(self) -> Pool:
        self._check_running()
        return self

    def __exit__(self, exc_type: object, exc_val: object, exc_tb: object) -> None:
        self.terminate()

    def __reduce__(self) -> Any:
        raise NotImplementedError(
            "Pool objects cannot be passed between processes or pickled. Make a pool where it is"
            " used."
        )

    def _check_running(self) -> None:
        if self._closed:
            raise ValueError("Pool not running")

    def _submit_all(
        self,
        func: Callable[..., Any],
        iterable: Iterable[Any],
        chunksize: int | None,
        unpack: bool,
    ) -> list[Chunk]:
        self._check_running()
        items = iterable if isinstance(iterable, list) else list(iterable)
        if chunksize is None:
            chunksize = max(1, -(-len(items) // (self._size * _CHUNKS_PER_PROCESS)))
        batches = in_batches(items, chunksize)
        function = Function(
            ray.put(func),  # Pickled once, not with each chunk.
            unpack,
            is_kept=self._is_orderly,
            stand_together=self._is_orderly,
        )
        chunks = [Chunk(function, batch) for batch in batches]
        self._submit(chunks)
        return chunks

    def _submit(self, chunks: list[Chunk]) -> None:
        with self._lock:
            self._check_running()
            self._waiting.extend(chunks)
            self._start_waiting()
        self._lose_unsendable()

    def _start_waiting(self) -> None:
        """Gives a chunk to each process that has none, as far as there are any."""
        while self._waiting and self._idle:
            process = self._idle.pop()
            self._busy.add(process)
            self._send_next(process)

    def _send_ahead(self, process: Process) -> None:
        """Gives a busy process more of the same, as far as others get their share, too."""
        while self._waiting and process.chunks and process.may_follow(self._waiting[0]):
            share = 1 + len(self._waiting) // self._size
            depth = min(self._waiting[0].function.depth, share)
            if len(process.chunks) >= depth or process.chunks_taken == self._chunks_per_process:
                return
            self._send_next(process)

    def _send_next(self, process: Process) -> None:
        chunk = self._waiting.popleft()
        try:
            process.send(chunk)
        except Exception as error:
            self._unsendable.append((chunk, error))
            if not process.chunks:
                self._settle(process)
        else:
            call_on_outcome(chunk.ref, functools.partial(self._on_done, process, chunk))

    def _lose_unsendable(self) -> None:
        while self._unsendable:
            with contextlib.suppress(IndexError):  # Another thread has taken the last one.
                chunk, error = self._unsendable.popleft()
                chunk.lose(error)

    def _on_done(
        self,
        process: Process,
        chunk: Chunk,
        result: tuple[list[Any], bool] | None,
        error: BaseException | None,
    ) -> None:
        with self._lock:
            has_run = not (chunk.is_recalled and isinstance(error, TaskCancelledError))
            self._recalls -= chunk.is_recalled
            if has_run:
                process.take_ended(chunk)
            else:
                process.take_back(chunk)
                if not self._terminated:
                    self._waiting.appendleft(chunk)
            if has_run and error is not None:
                process.note_failure(error)
            if not process.chunks:
                self._settle(process)
            self._start_waiting()
            self._send_ahead(process)
            self._recall_for_idle()
            if self._closed:
                self._end_idle()
        self._lose_unsendable()
        if result is not None:
            chunk.finish(*result)
        elif has_run:
            assert error is not None
            chunk.lose(error)
        elif self._terminated:
            chunk.lose(_terminated())

    def _settle(self, process: Process) -> None:
        """A busy process has nothing left to do."""
        self._busy.remove(process)
        is_worn = process.chunks_taken == self._chunks_per_process
        if not is_worn and not process.is_dead:
            self._idle.append(process)
            return
        if not process.is_dead:
            self._end(process)
        if not self._closed:
            self._idle.append(Process(self._make_actor()))

    def _recall_for_idle(self) -> None:
        """Has chunks that wait in a process taken back, one for each process without any."""
        while self._recalls < len(self._idle):
            fullest = max(self._busy, key=Process.recallable_count, default=None)
            if fullest is None or fullest.recallable_count() == 0:
                return
            self._recalls += 1
            fullest.recall_one()

    def _end_idle(self) -> None:
        waits = self._waiting or self._recalls or any(len(each.chunks) > 1 for each in self._busy)
        if self._terminated or not waits:
            while self._idle:
                self._end(self._idle.pop())

    def _end(self, process: Process) -> None:
        self._ends.append(process.actor.__ray_terminate__.remote())


def _terminated() -> ActorDiedError:
    return ActorDiedError("The pool was terminated before the call.")


def _check_count(name: str, value: int | None, too_small: str) -> None:
    if value is None:
        return
    if not isinstance(value, int):
        raise TypeError(f"{name} must be an int, not {type(value).__name__}.")
    if value < 1:
        raise ValueError(too_small)


def _start_session(processes: int | None, address: str | None) -> int:
    """Makes sure that there is a session, and returns how many processes to start."""
    if not ray.is_initialized():
        address = address or os.environ.get(RAY_ADDRESS_ENV)
        if address is None or address == "local":
            ray.init(address="local", num_cpus=processes)
        else:
            ray.init(address=address)
    cpus = int(ray.cluster_resources().get("CPU", 0))
    if processes is None:
        return max(1, cpus)
    if processes > cpus:
        raise ValueError(
            f"Tried to start a pool with {processes} processes on an existing ray cluster, but"
            f" there are only {cpus} CPUs in the ray cluster."
        )
    return processes
