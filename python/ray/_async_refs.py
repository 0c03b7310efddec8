"""References in asyncio and as concurrent futures: ``await ref``, ``ref.as_future()`` and
``ref.future()``.

All of them wait for completions in a native ReadyQueue. An event loop watches its queue's
descriptor, so an await costs no thread; plain futures share one daemon thread, which starts with
the first of them.

Source: conformance core/test_core_objects.py::test_ref_is_awaitable, test_ref_to_concurrent_future.
"""

from __future__ import annotations

import itertools
import logging
import threading
import weakref
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any

from ray._raylet import ObjectRef, ReadyQueue
from ray._runtime import RUNTIME

if TYPE_CHECKING:
    # Not at run time: they are most of what a program would pay for `import ray`.
    import asyncio
    import concurrent.futures

    from ray._raylet import Core

# Bounds only the way of a ready object from the store to this process.
_FETCH_TIMEOUT_S = 60.0

_logger = logging.getLogger(__name__)

# Given the value, or the error.
OnReady = Callable[[Any, BaseException | None], None]


class _Waiters:
    """References that wait in one queue, each with what to do once it is ready. Threads: any."""

    def __init__(self) -> None:
        self.queue = ReadyQueue()
        # Waits in the queue, and sends what is buffered before that; None: nobody does.
        self._waiting_thread: int | None = None
        self._tokens = itertools.count(1)
        self._waiting: dict[int, Callable[[], None]] = {}

    def watch(self, ref: ObjectRef[Any], on_ready: OnReady) -> None:
        """Calls ``on_ready`` exactly once: here if the object is ready, else in ``dispatch``."""
        core = RUNTIME.require()
        self.call_when_ready(ref, lambda: _deliver(core, ref, on_ready))

    def call_when_ready(self, ref: ObjectRef[Any], on_ready: Callable[[], None]) -> None:
        """As ``watch``, without fetching the value."""
        core = RUNTIME.require()
        token = next(self._tokens)
        self._waiting[token] = on_ready
        flush = self._waiting_thread != threading.get_ident()
        if core.notify_when_ready(ref, self.queue, token, flush):
            self.dispatch([token])

    def dispatch(self, tokens: list[int]) -> None:
        for token in tokens:
            try:
                self._waiting.pop(token)()
            except Exception:  # What the others wait for is not lost with it.
                _logger.exception("What follows from a result could not be done.")


def _deliver(core: Core, ref: ObjectRef[Any], on_ready: OnReady) -> None:
    try:
        value = core.get_one(ref, _FETCH_TIMEOUT_S)
    except StopIteration as error:
        # Neither kind of future can hold one: it would end the generator that awaits.
        wrapped = RuntimeError("The task raised StopIteration.")
        wrapped.__cause__ = error
        on_ready(None, wrapped)
    except BaseException as error:
        on_ready(None, error)
    else:
        on_ready(value, None)


class _LoopWaiters(_Waiters):
    """The waiters of one event loop. Threads: the loop's."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        loop.add_reader(self.queue.fileno(), lambda: self.dispatch(self.queue.drain()))


class _ThreadWaiters(_Waiters):
    """The waiters of plain futures, served by one daemon thread."""

    def __init__(self) -> None:
        super().__init__()
        threading.Thread(target=self._run, name="ray_futures", daemon=True).start()

    def _run(self) -> None:
        self._waiting_thread = threading.get_ident()
        while tokens := self._next_tokens():
            self.dispatch(tokens)

    def _next_tokens(self) -> list[int]:
        core = RUNTIME.core
        # The session has ended meanwhile: the first completion of the next one comes to the queue.
        return (core.await_ready(self.queue) if core is not None else []) or self.queue.wait()


class _AllWaiters:
    """The waiters of this process, each made when it is first needed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._thread: _ThreadWaiters | None = None
        # Gone with their loops.
        self._loops: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _LoopWaiters] = (
            weakref.WeakKeyDictionary()
        )

    def of_thread(self) -> _ThreadWaiters:
        with self._lock:
            if self._thread is None:
                self._thread = _ThreadWaiters()
            return self._thread

    def of_loop(self, loop: asyncio.AbstractEventLoop) -> _LoopWaiters:
        waiters = self._loops.get(loop)
        if waiters is None:
            waiters = self._loops[loop] = _LoopWaiters(loop)
        return waiters


_WAITERS = _AllWaiters()


def future(ref: ObjectRef[Any]) -> concurrent.futures.Future[Any]:
    """A concurrent future of the object's value or error. Does not block. Cancelling it does not
    cancel the task."""
    import concurrent.futures

    result: concurrent.futures.Future[Any] = concurrent.futures.Future()

    def on_ready(value: Any, error: BaseException | None) -> None:
        if not result.set_running_or_notify_cancel():
            return
        if error is None:
            result.set_result(value)
        else:
            result.set_exception(error)

    _WAITERS.of_thread().watch(ref, on_ready)
    return result


def call_on_outcome(ref: ObjectRef[Any], on_ready: OnReady) -> None:
    """Calls ``on_ready`` once with the object's value or error: here if the object is ready, else
    in the thread that serves futures, which it must not block."""
    _WAITERS.of_thread().watch(ref, on_ready)


def as_future(ref: ObjectRef[Any]) -> asyncio.Future[Any]:
    """An asyncio future, of the running event loop, of the object's value or error.

    Raises:
        RuntimeError: no event loop runs in this thread.
    """
    import asyncio

    loop = asyncio.get_running_loop()
    result: asyncio.Future[Any] = loop.create_future()

    def on_ready(value: Any, error: BaseException | None) -> None:
        if result.done():  # Cancelled by whoever awaited it.
            return
        if error is None:
            result.set_result(value)
        else:
            result.set_exception(error)

    _WAITERS.of_loop(loop).watch(ref, on_ready)
    return result


def ready_future(ref: ObjectRef[Any]) -> asyncio.Future[None]:
    """An asyncio future, of the running event loop, that is done once the object is ready; it does
    not fetch it."""
    import asyncio

    loop = asyncio.get_running_loop()
    result: asyncio.Future[None] = loop.create_future()

    def on_ready() -> None:
        if not result.done():
            result.set_result(None)

    _WAITERS.of_loop(loop).call_when_ready(ref, on_ready)
    return result


def _await(ref: ObjectRef[Any]) -> Generator[Any, None, Any]:
    return as_future(ref).__await__()


def _tensor_transport(ref: ObjectRef[Any]) -> str | None:
    from ray.experimental.rdt.rdt_manager import MANAGER  # Few programs need it.

    return MANAGER.transport_of(ref)


def install() -> None:
    """Gives ObjectRef, a native type, its methods that are written in Python."""
    methods: dict[str, Any] = {"__await__": _await, "as_future": as_future, "future": future}
    methods["tensor_transport"] = _tensor_transport
    for name, function in methods.items():
        setattr(ObjectRef, name, function)
