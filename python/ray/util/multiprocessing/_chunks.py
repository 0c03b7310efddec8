"""What a pool's processes are sent: calls in chunks, and what is known of the function they run."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

NOT_KEPT = 0  # the number of functions that processes do not keep

# Work that is sent ahead to a process, at most.
_AHEAD_S = 0.0005
_AHEAD_CHUNKS_MAX = 16
# The weight of the last chunk in what is known of a function's pace.
_PACE_WEIGHT = 0.25


class PoolTaskError(Exception):
    """What a call in a pool raised. ``error_callback`` gets it.

    Attributes:
        underlying: the exception itself; its ``__cause__`` shows the traceback in the process.
    """

    def __init__(self, underlying: Exception) -> None:
        super().__init__(underlying)
        self.underlying = underlying


class Function:
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
        self.number = next(self._numbers) if is_kept else NOT_KEPT
        self.stand_together = stand_together
        self.depth = 1  # how many chunks a process may have been sent
        self._pace_s: float | None = None  # from chunk to chunk in one process

    def note_pace(self, seconds: float) -> None:
        before = seconds if self._pace_s is None else self._pace_s
        self._pace_s = before + _PACE_WEIGHT * (seconds - before)
        if self.stand_together:
            ahead = int(_AHEAD_S / max(self._pace_s, 1e-6))
            self.depth = min(1 + ahead, _AHEAD_CHUNKS_MAX)


class Chunk:
    """Calls that one process makes together, and their outcomes. Threads: any."""

    _lock = threading.Lock()  # of all chunks: held for moments, no callback runs under it

    def __init__(self, function: Function, batch: list[Any]) -> None:
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
        self._on_done: list[Callable[[Chunk], None]] = []

    def call_when_done(self, on_done: Callable[[Chunk], None]) -> None:
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


def in_batches(iterable: Iterable[Any], chunksize: int) -> Iterator[list[Any]]:
    """The items in chunks."""
    if chunksize < 1:
        raise ValueError(f"chunksize must be 1 or more, but is {chunksize}.")
    if isinstance(iterable, list):
        return (iterable[i : i + chunksize] for i in range(0, len(iterable), chunksize))
    items = iter(iterable)
    return iter(lambda: list(itertools.islice(items, chunksize)), [])
