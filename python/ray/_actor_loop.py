"""The event loop of an asyncio actor: takes calls from the native queue, runs them as asyncio
tasks, answers.

How many calls run at once is decided by the native side, which hands out no more than the actor's
limits allow.
"""

from __future__ import annotations

import asyncio
import selectors
import types
from collections.abc import AsyncIterable, Iterable
from typing import TYPE_CHECKING, Any, TypeVar

from ray import _raylet
from ray.runtime_context import CURRENT_CALL

if TYPE_CHECKING:
    from collections.abc import Callable

    from ray._raylet import Call, Core

T = TypeVar("T")

# Calls taken at once; between batches the loop serves what else is ready.
_BATCH = 128


class _RuntimeSelector(selectors.EpollSelector):
    """Waits for the runtime and for the program's descriptors at once.

    The thread that runs asyncio so drives the runtime's own loop: a call that comes in is not
    handed over from another thread, which costs more than the call.
    """

    def __init__(self, core: Core) -> None:
        super().__init__()
        self._core = core
        self._take: Callable[[], None] | None = None

    def serve(self, take: Callable[[], None]) -> None:
        """From now on ``take`` is called when there are calls to take, out of ``select``."""
        self._core.watch_other_loop(self.fileno())
        self._take = take

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if self._take is None:
            return super().select(timeout)
        has_calls, has_descriptors = self._core.await_events(timeout)
        if has_calls:
            self._take()
        return super().select(0) if has_descriptors else []


class ActorLoop:
    """Runs the calls of one asyncio actor. Threads: the worker's main thread."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._selector = _RuntimeSelector(core)
        self._loop = asyncio.SelectorEventLoop(self._selector)
        self._running: dict[bytes, asyncio.Task[None]] = {}  # by task id
        self._taken = asyncio.Event()  # set whenever something came from the native side
        asyncio.set_event_loop(self._loop)
        _raylet.set_current_call_variable(CURRENT_CALL)

    def construct(self, make: Callable[[], T]) -> T:
        """Runs the actor's constructor inside the loop, so that it may start asyncio tasks."""

        async def run() -> T:
            return make()

        return self._loop.run_until_complete(run())

    def run(self) -> None:
        """Blocks until the worker is to exit."""
        self._selector.serve(self._take)
        self._loop.run_forever()

    def _take(self) -> None:
        calls = self._core.take_calls(_BATCH)
        if calls is None:
            self._loop.stop()
            return
        self._taken.set()
        for call in calls:
            running = self._running.get(call.task_id)
            if running is not None:
                running.cancel()  # Given a second time: it was cancelled.
            elif call.cancelled:
                call.fail(asyncio.CancelledError())
            else:
                self._running[call.task_id] = self._loop.create_task(self._run(call))

    async def _run(self, call: Call) -> None:
        CURRENT_CALL.set(call)
        try:
            value = call.method(*call.args, **call.kwargs)
            if isinstance(value, types.CoroutineType):
                value = await value
            if call.is_stream:
                await self._stream(call, value)
            else:
                call.reply(value)
        except BaseException as error:
            # CancelledError and SystemExit, too: the native side knows what they mean here, and a
            # SystemExit that leaves an asyncio task would end the loop under all other calls.
            call.fail(error)
        finally:
            self._running.pop(call.task_id, None)

    async def _stream(self, call: Call, items: AsyncIterable[Any] | Iterable[Any]) -> None:
        await self._room(call)
        if isinstance(items, AsyncIterable):
            async for item in items:
                call.send_item(item)
                await self._room(call)
        else:
            for item in items:
                call.send_item(item)
                await self._room(call)
        call.end_stream()

    async def _room(self, call: Call) -> None:
        """Waits until the reader of the stream has room for another item."""
        while not call.has_room():
            self._taken.clear()
            await self._taken.wait()
