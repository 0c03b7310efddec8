"""Progress bars in tasks and actors, drawn together on the driver.

A worker prints the state of each of its bars as a marked line; the driver, which shows what workers
print, draws the bars below everything else. ``tqdm`` in the driver itself draws directly. Set
RAY_TQDM_PATCH_PRINT=0 to leave the builtin ``print`` alone while there are bars.

Source: https://docs.ray.io/en/latest/ray-observability/user-guides/configure-logging.html.
"""

from __future__ import annotations

import json
import os
import sys
import time
import uuid
from collections.abc import Iterable, Iterator, Sized
from typing import Any

from ray._progress_bars import (
    MANAGER,
    RAY_TQDM_MAGIC,
    BarManager,
    ProgressBarState,
    safe_print,
)
from ray._runtime import RUNTIME

__all__ = ["RAY_TQDM_MAGIC", "BarManager", "ProgressBarState", "instance", "safe_print", "tqdm"]


def instance() -> BarManager:
    """The bars on the screen of this process."""
    return MANAGER


class tqdm:
    """A progress bar with a part of the interface of ``tqdm.tqdm``.

    Args:
        iterable: what to iterate over; the bar counts its items.
        desc: stands before the bar.
        total: how many items there will be; by default the length of ``iterable``, if it has one.
        unit: of the items; "it" by default.
        position: place among the bars of this process, from above; 0 by default.
        flush_interval_s: the bar is drawn at most once in so many seconds; 1.0 by default.

    Raises:
        TypeError: iterable cannot be iterated over, or total is not a number.

    Threads: one.

    >>> sum(tqdm(range(4), desc="adding"))
    6
    """

    DEFAULT_FLUSH_INTERVAL_SECONDS = 1.0

    def __init__(
        self,
        iterable: Iterable[Any] | None = None,
        desc: str | None = None,
        total: int | None = None,
        unit: str | None = None,
        position: int | None = None,
        flush_interval_s: float | None = None,
    ) -> None:
        if iterable is not None and not isinstance(iterable, Iterable):
            raise TypeError(f"tqdm needs an iterable, not {type(iterable).__name__}.")
        if total is not None and not isinstance(total, (int, float)):
            raise TypeError(f"total must be a number, not {type(total).__name__}.")
        if total is None and isinstance(iterable, Sized):
            total = len(iterable)
        self._iterable = iterable
        self._desc = desc or ""
        self._total = total
        self._unit = unit or "it"
        self._position = position or 0
        self._flush_interval_s = (
            self.DEFAULT_FLUSH_INTERVAL_SECONDS if flush_interval_s is None else flush_interval_s
        )
        self._uuid = uuid.uuid4().hex
        self._done = 0
        self._closed = False
        self._shown_s = 0.0
        self.refresh()

    def __iter__(self) -> Iterator[Any]:
        """The items of the iterable; the bar is closed after the last, or when the loop is left.

        Raises:
            ValueError: the bar was made without an iterable.
        """
        if self._iterable is None:
            raise ValueError("No iterable provided")
        try:
            for item in self._iterable:
                yield item
                self.update(1)
        finally:
            self.close()

    def update(self, n: int = 1) -> None:
        """Counts ``n`` more items."""
        self._done += n
        if time.monotonic() - self._shown_s >= self._flush_interval_s:
            self.refresh()

    def set_description(self, desc: str) -> None:
        """Changes what stands before the bar, and shows it."""
        self._desc = desc
        self.refresh()

    def refresh(self) -> None:
        """Shows the bar as it is now, whenever it was shown last."""
        if self._closed:
            return
        self._shown_s = time.monotonic()
        self._show()

    def close(self) -> None:
        """Ends the bar. Nothing happens to one that has ended."""
        if not self._closed:
            self._closed = True
            self._show()

    @property
    def n(self) -> int:
        """How many items are done."""
        return self._done

    @n.setter
    def n(self, value: int) -> None:
        self._done = value

    @property
    def total(self) -> int | None:
        """How many items there will be; None if that is not known."""
        return self._total

    @total.setter
    def total(self, value: int | None) -> None:
        self._total = value

    def _get_state(self) -> ProgressBarState:
        core = RUNTIME.core
        return {
            "__magic_token__": RAY_TQDM_MAGIC,
            "x": self._done,
            "pos": self._position,
            "desc": self._desc,
            "total": self._total,
            "unit": self._unit,
            "ip": "" if core is None else core.node_ip,
            "pid": os.getpid(),
            "uuid": self._uuid,
            "closed": self._closed,
        }

    def _show(self) -> None:
        core = RUNTIME.core
        if core is None or core.is_driver:
            MANAGER.process_state_update(self._get_state())
        else:
            sys.stdout.write(json.dumps(self._get_state()) + "\n")
