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
import pickle
import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from multiprocessing import TimeoutError
from multiprocessing.pool import (  # type: ignore[attr-defined]
    ExceptionWithTraceback,
    MaybeEncodingError,
)
from typing import Any

import cloudpickle  # type: ignore[import-untyped]

import ray
from ray._async_refs import call_on_outcome
from ray._runtime import RUNTIME
from ray.exceptions import ActorDiedError, RayActorError, TaskCancelledError

RAY_ADDRESS_ENV = "RAY_ADDRESS"

# Pieces that map makes for each process, so that they end at about the same time.
_CHUNKS_PER_PROCESS = 4

# Work that is sent ahead to a process, at most.
_AHEAD_S = 0.0005
_AHEAD_CHUNKS_MAX = 16
# The weight of the last chunk in what is known of a function's pace.
_PACE_WEIGHT = 0.25

_NOT_KEPT = 0  # the number of functions that processes do not keep

# Options with which a process may run several chunks at once, or forget what it was sent.
_UNRULY_OPTIONS = frozenset(
    ("concurrency_groups", "max_concurrency", "max_restarts", "max_task_retries")
)

_logger = logging.getLogger(__name__)


class PoolTaskError(Exception):
    """What a call in a pool raised. ``error_callback`` gets it.

    Attributes:
        underlying: the exception itself; its ``__cause__`` shows the traceback in the process.
    """

    def __init__(self, underlying: Exception) -> None:
        super().__init__(underlying)
        self.underlying = underlying


# ------------------------------------------------------------------------------------------------
# In the processes


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
        elif number != _NOT_KEPT:
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


# ------------------------------------------------------------------------------------------------
# Results


class _Function:
    """What the calls of one method of the pool run. Threads: that of the pool's lock.

    Args:
        func: the function or a reference to it.
        unpack: an item holds the arguments of a call.
        is_kept: processes keep it for further chunks.
        stand_together: all chunks belong to one result, which one error spoils.
    """

    _numbers = itertools.count(1)

    def __init__(
        self, func: Any, unpack: bool, *, is_kept: bool = False, stand_together: bool = False
    ) -> None:
        self.func = func
        self.unpack = unpack
        self.number = next(self._numbers) if is_kept else _NOT_KEPT
        self.stand_together = stand_together
        self.depth = 1  # how many chunks a process may have been sent
        self._pace_s: float | None = None  # from chunk to chunk in one process

    def note_pace(self, seconds: float) -> None:
        before = seconds if self._pace_s is None else self._pace_s
        self._pace_s = before + _PACE_WEIGHT * (seconds - before)
        if self.stand_together:
            ahead = int(_AHEAD_S / max(self._pace_s, 1e-6))
            self.depth = min(1 + ahead, _AHEAD_CHUNKS_MAX)


class _Chunk:
    """Calls that one process makes together, and their outcomes. Threads: any."""

    _lock = threading.Lock()  # of all chunks: held for moments, no callback runs under it

    def __init__(self, function: _Function, batch: list[Any]) -> None:
        self.function = function
        self.batch = batch
        # While it is in a process: what becomes ready with its outcomes, and whether it was called
        # back.
        self.ref: Any = None
        self.is_recalled = False
        self.is_done = False
        self.lost: BaseException | None = None  # why there are no outcomes
        self.outcomes: list[Any] = []
        self.error: PoolTaskError | None = None  # the first among the outcomes
        self._on_done: list[Callable[[_Chunk], None]] = []

    def call_when_done(self, on_done: Callable[[_Chunk], None]) -> None:
        """Calls it once, here if the chunk is done, else in the thread that finishes it."""
        with self._lock:
            if not self.is_done:
                self._on_done.append(on_done)
                return
        on_done(self)

    def finish(self, outcomes: list[Any], failed: bool) -> None:
        self.outcomes = outcomes
        if failed:
            self.error = next(each for each in outcomes if isinstance(each, PoolTaskError))
        self._end()

    def lose(self, error: BaseException) -> None:
        self.lost = error
        self._end()

    def _end(self) -> None:
        self.batch = []
        self.ref = None
        with self._lock:
            self.is_done = True
        for on_done in self._on_done:
            on_done(self)


class _Countdown:
    """Waits until so many chunks are done."""

    def __init__(self, chunks: Iterable[_Chunk]) -> None:
        chunks = list(chunks)
        self._lock = threading.Lock()
        self._left = len(chunks) + 1
        self._finished = threading.Event()
        for chunk in chunks:
            chunk.call_when_done(self._count)
        self._count(None)

    def _count(self, _: _Chunk | None) -> None:
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
        chunk_object_refs: Iterable[_Chunk],
        callback: Callable[[Any], Any] | None = None,
        error_callback: Callable[[Exception], Any] | None = None,
        single_result: bool = False,
    ) -> None:
        self._chunks = list(chunk_object_refs)
        self._countdown = _Countdown(self._chunks)
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
        self._function = _Function(ray.put(func), unpack=False, is_kept=pool._is_orderly)
        self._batches = _batches(iterable, 1 if chunksize is None else chunksize)
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
            chunk = _Chunk(self._function, batch)
            self._pool._submit([chunk])
            self._add(chunk)

    def _add(self, chunk: _Chunk) -> None:
        raise NotImplementedError

    def _take_done(self, timeout: float | None) -> _Chunk:
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
        self._chunks: collections.deque[_Chunk] = collections.deque()
        super().__init__(pool, func, iterable, chunksize)

    def _add(self, chunk: _Chunk) -> None:
        self._chunks.append(chunk)

    def _take_done(self, timeout: float | None) -> _Chunk:
        if not _Countdown([self._chunks[0]]).wait(timeout):
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
        self._done: queue.SimpleQueue[_Chunk] = queue.SimpleQueue()
        super().__init__(pool, func, iterable, chunksize)

    def _add(self, chunk: _Chunk) -> None:
        chunk.call_when_done(self._done.put)

    def _take_done(self, timeout: float | None) -> _Chunk:
        try:
            return self._done.get(timeout=timeout)
        except queue.Empty:
            raise TimeoutError("No result is ready yet.") from None


# ------------------------------------------------------------------------------------------------
# The pool


class _Process:
    """A process of a pool, as its owner sees it. Threads: that of the pool's lock."""

    def __init__(self, actor: Any) -> None:
        self.actor = actor
        self._run_batch = actor.run_batch.remote
        self.chunks: list[_Chunk] = []  # sent to it, in order: it runs the first
        self.chunks_taken = 0
        self.is_dead = False
        self._since = 0.0  # when it began with the first of them, as far as is known here
        self._function: _Function | None = None  # the last one sent

    def send(self, chunk: _Chunk) -> None:
        """Adds a chunk.

        Raises:
            TypeError: the function or an item cannot be serialized.
        """
        function = chunk.function
        func = function.func
        if function is self._function and function.number != _NOT_KEPT:
            func = None
        chunk.ref = self._run_batch(func, function.number, chunk.batch, function.unpack)
        chunk.is_recalled = False
        self._function = function
        if not self.chunks:
            self._since = time.perf_counter()
        self.chunks.append(chunk)
        self.chunks_taken += 1

    def take_ended(self, chunk: _Chunk) -> None:
        now = time.perf_counter()
        if self.chunks_taken > 1:  # Before the first one the process had to start.
            chunk.function.note_pace(now - self._since)
        self._since = now
        self.chunks.remove(chunk)

    def take_back(self, chunk: _Chunk) -> None:
        """The chunk has not run here."""
        self.chunks.remove(chunk)
        self.chunks_taken -= 1

    def note_failure(self, error: BaseException) -> None:
        """A chunk ended without outcomes."""
        self._function = None  # It may be for want of the function.
        self.is_dead = self.is_dead or isinstance(error, RayActorError)

    def may_follow(self, chunk: _Chunk) -> bool:
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
        self._waiting: collections.deque[_Chunk] = collections.deque()
        self._idle = [_Process(self._make_actor()) for _ in range(self._size)]
        self._busy: set[_Process] = set()
        self._recalls = 0  # chunks called back whose outcome is not known
        # Chunks that could not be sent; to be lost without the lock.
        self._unsendable: collections.deque[tuple[_Chunk, Exception]] = collections.deque()
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
        chunk = _Chunk(_Function(call, unpack=True), [tuple(args or ())])
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
            unfinished = _Countdown([*running, *self._waiting])
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
    ) -> list[_Chunk]:
        self._check_running()
        items = iterable if isinstance(iterable, list) else list(iterable)
        if chunksize is None:
            chunksize = max(1, -(-len(items) // (self._size * _CHUNKS_PER_PROCESS)))
        batches = _batches(items, chunksize)
        function = _Function(
            ray.put(func),  # Pickled once, not with each chunk.
            unpack,
            is_kept=self._is_orderly,
            stand_together=self._is_orderly,
        )
        chunks = [_Chunk(function, batch) for batch in batches]
        self._submit(chunks)
        return chunks

    def _submit(self, chunks: list[_Chunk]) -> None:
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

    def _send_ahead(self, process: _Process) -> None:
        """Gives a busy process more of the same, as far as others get their share, too."""
        while self._waiting and process.chunks and process.may_follow(self._waiting[0]):
            share = 1 + len(self._waiting) // self._size
            depth = min(self._waiting[0].function.depth, share)
            if len(process.chunks) >= depth or process.chunks_taken == self._chunks_per_process:
                return
            self._send_next(process)

    def _send_next(self, process: _Process) -> None:
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
        process: _Process,
        chunk: _Chunk,
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

    def _settle(self, process: _Process) -> None:
        """A busy process has nothing left to do."""
        self._busy.remove(process)
        is_worn = process.chunks_taken == self._chunks_per_process
        if not is_worn and not process.is_dead:
            self._idle.append(process)
            return
        if not process.is_dead:
            self._end(process)
        if not self._closed:
            self._idle.append(_Process(self._make_actor()))

    def _recall_for_idle(self) -> None:
        """Has chunks that wait in a process taken back, one for each process without any."""
        while self._recalls < len(self._idle):
            fullest = max(self._busy, key=_Process.recallable_count, default=None)
            if fullest is None or fullest.recallable_count() == 0:
                return
            self._recalls += 1
            fullest.recall_one()

    def _end_idle(self) -> None:
        waits = self._waiting or self._recalls or any(len(each.chunks) > 1 for each in self._busy)
        if self._terminated or not waits:
            while self._idle:
                self._end(self._idle.pop())

    def _end(self, process: _Process) -> None:
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


def _batches(iterable: Iterable[Any], chunksize: int) -> Iterator[list[Any]]:
    """The items in chunks."""
    if chunksize < 1:
        raise ValueError(f"chunksize must be 1 or more, but is {chunksize}.")
    if isinstance(iterable, list):
        return (iterable[i : i + chunksize] for i in range(0, len(iterable), chunksize))
    items = iter(iterable)
    return iter(lambda: list(itertools.islice(items, chunksize)), [])
