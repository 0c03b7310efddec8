"""Progress bars of many processes, drawn together below what this process prints.

On a terminal the bars stand in the last lines; everything printed through ``print_above`` scrolls
above them. Each change is one write, so nothing flickers. Elsewhere (a file, a pipe) a bar is an
ordinary line, printed when it appears, then every few seconds, and when it ends.
"""

from __future__ import annotations

import builtins
import json
import os
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, TextIO, TypedDict, cast

# Between two lines of a bar where there is no terminal.
_LINE_INTERVAL_S = 5.0

_BAR_WIDTH = 10
_FALLBACK_SIZE = (80, 24)

# Marks the lines by which workers tell of their bars.
RAY_TQDM_MAGIC = "__ray_tqdm_magic_token__"

_print = builtins.print


class ProgressBarState(TypedDict):
    """A bar, as its process describes it with every change."""

    __magic_token__: str
    x: int  # items done
    pos: int  # place among the bars of its process, from above
    desc: str
    total: int | None
    unit: str
    ip: str
    pid: int
    uuid: str
    closed: bool


def parse_state(line: str) -> ProgressBarState | None:
    """The state of a bar that a line of a worker's output tells; None for any other line."""
    if RAY_TQDM_MAGIC not in line:
        return None
    try:
        state = json.loads(line)
    except ValueError:
        return None
    if not isinstance(state, dict) or not state.keys() >= ProgressBarState.__required_keys__:
        return None
    return cast(ProgressBarState, state)


class _Bar:
    """A bar that is on the screen."""

    def __init__(self, state: ProgressBarState, now_s: float) -> None:
        self.state = state
        self._began_s = now_s
        self._first_x = state["x"]
        # Where there is no terminal: when it was last printed, and as what.
        self.printed_s = -_LINE_INTERVAL_S
        self.printed: ProgressBarState | None = None

    def text(self, now_s: float) -> str:
        """One line, as wide as it wants to be."""
        state, elapsed_s = self.state, now_s - self._began_s
        done, total = state["x"], state["total"]
        new = done - self._first_x
        rate = new / elapsed_s if elapsed_s > 0 and new > 0 else None
        speed = f"{rate:.2f}{state['unit']}/s" if rate is not None else f"?{state['unit']}/s"
        desc = f"{state['desc']}: " if state["desc"] else ""
        if not total:
            return f"{desc}{done}{state['unit']} [{_clock(elapsed_s)}, {speed}]"
        part = min(done / total, 1.0)
        filled = round(part * _BAR_WIDTH)
        bar = "█" * filled + " " * (_BAR_WIDTH - filled)
        left = _clock(max(total - done, 0) / rate) if rate is not None else "?"
        times = f"{_clock(elapsed_s)}<{left}"
        return f"{desc}{part:4.0%}|{bar}| {done}/{total} [{times}, {speed}]"


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes:02}:{seconds:02}"


class BarManager:
    """The bars on the screen of this process. Bars of one process stand together, in the order of
    their positions; processes stand in the order in which they first showed a bar.

    Threads: any. Never blocks, other than on the stream.
    """

    def __init__(
        self,
        stream: Callable[[], TextIO | None] = lambda: sys.stderr,
        now_s: Callable[[], float] = time.monotonic,
        patches_print: bool = False,
    ) -> None:
        """``stream`` is asked each time: programs and test runners replace it. ``now_s`` tells the
        time. With ``patches_print`` the builtin ``print`` prints above the bars while there are
        any."""
        self._stream = stream
        self._now_s = now_s
        self._lock = threading.RLock()
        self._bars: dict[str, _Bar] = {}
        # When each process first showed a bar: its place.
        self._places: dict[tuple[str, int], int] = {}
        # Lines at the end of the screen that belong to the bars.
        self._lines = 0
        self._hidden = False
        self._patches_print = patches_print

    def process_state_update(self, state: ProgressBarState) -> None:
        """Takes ``state``, what a process says of one of its bars, and draws."""
        with self._lock:
            self.apply(state)
            self.draw()

    def apply(self, state: ProgressBarState) -> None:
        """Takes ``state``, what a process says of one of its bars; ``draw`` shows it."""
        with self._lock:
            bar = self._bars.get(state["uuid"])
            if bar is not None:
                bar.state = state
            elif not state["closed"]:
                self._places.setdefault((state["ip"], state["pid"]), len(self._places))
                self._bars[state["uuid"]] = bar = _Bar(state, self._now_s())
                if self._patches_print and builtins.print is _print:
                    builtins.print = safe_print
            if bar is not None and state["closed"]:
                self._end(bar)

    def draw(self) -> None:
        """Shows the bars as they are now."""
        with self._lock:
            stream = self._stream()
            if stream is None or self._hidden:
                return
            if not _is_terminal(stream):
                self._print_lines(stream)
                return
            lines = self._visible_lines()
            text = self._start_of_bars() + "\n".join(f"{line}\x1b[K" for line in lines)
            write(stream, f"{text}\x1b[J" if lines or self._lines else "")
            self._lines = len(lines)

    def print_above(self, print_lines: Callable[[], None]) -> None:
        """Calls ``print_lines``, with the bars out of the way of what it prints."""
        with self._lock:
            self._clear()
            try:
                print_lines()
            finally:
                self.draw()

    def hide_bars(self) -> None:
        """Takes the bars off the screen until ``unhide_bars``."""
        with self._lock:
            self._clear()
            self._hidden = True

    def unhide_bars(self) -> None:
        """Shows the bars again."""
        with self._lock:
            self._hidden = False
            self.draw()

    def close_others(self) -> None:
        """Ends the bars of all processes but this one: the session ends."""
        with self._lock:
            for bar in list(self._bars.values()):
                if bar.state["pid"] != os.getpid():
                    self._end(bar)
            self.draw()

    def _end(self, bar: _Bar) -> None:
        """Takes a bar off. The first of its process leaves its last state behind, as a line."""
        stream = self._stream()
        if stream is not None and not _is_terminal(stream):
            self._print_line(stream, bar)
        elif stream is not None and bar.state["pos"] == 0 and not self._hidden:
            text = self._cut(bar.text(self._now_s()))
            write(stream, f"{self._start_of_bars()}{text}\x1b[K\n\x1b[J")
            self._lines = 0
        del self._bars[bar.state["uuid"]]
        if self._patches_print and not self._bars and builtins.print is safe_print:
            builtins.print = _print

    def _visible_lines(self) -> list[str]:
        bars = sorted(self._bars.values(), key=self._place)
        now_s, rows = self._now_s(), _terminal_size().lines - 1
        lines = [self._cut(bar.text(now_s)) for bar in bars]
        if len(lines) > rows:
            hidden = len(lines) - rows + 1
            lines[rows - 1 :] = [f"... and {hidden} more"]
        return lines

    def _place(self, bar: _Bar) -> tuple[int, int]:
        return self._places[bar.state["ip"], bar.state["pid"]], bar.state["pos"]

    @staticmethod
    def _cut(text: str) -> str:
        # A line that reached the last column would make the terminal wrap.
        return text[: _terminal_size().columns - 1]

    def _start_of_bars(self) -> str:
        """What puts the cursor where the bars begin on the terminal."""
        up = f"\x1b[{self._lines - 1}A" if self._lines > 1 else ""
        return f"{up}\r" if self._lines else ""

    def _clear(self) -> None:
        stream = self._stream()
        if stream is not None and self._lines:
            write(stream, f"{self._start_of_bars()}\x1b[J")
        self._lines = 0

    def _print_lines(self, stream: TextIO) -> None:
        now_s = self._now_s()
        for bar in self._bars.values():
            if now_s - bar.printed_s >= _LINE_INTERVAL_S:
                self._print_line(stream, bar)

    def _print_line(self, stream: TextIO, bar: _Bar) -> None:
        state, printed, now_s = bar.state, bar.printed, self._now_s()
        if printed is None or (state["x"], state["desc"]) != (printed["x"], printed["desc"]):
            bar.printed, bar.printed_s = state, now_s
            write(stream, bar.text(now_s) + "\n")


def write(stream: TextIO | None, text: str) -> None:
    """Writes and flushes; a stream that is closed or has no reader is no error."""
    if stream is None:  # A program without a console.
        return
    try:
        stream.write(text)
        stream.flush()
    except UnicodeEncodeError:
        encoding = stream.encoding or "ascii"
        write(stream, text.encode(encoding, "replace").decode(encoding))
    except (OSError, ValueError):
        return


def _terminal_size() -> os.terminal_size:
    """As ``shutil`` tells it, which loads three compression libraries for its other purposes."""
    try:
        columns, lines = os.get_terminal_size(sys.__stdout__.fileno())  # type: ignore[union-attr]
    except (AttributeError, ValueError, OSError):
        columns, lines = 0, 0
    columns = int(os.environ.get("COLUMNS") or 0) or columns or _FALLBACK_SIZE[0]
    lines = int(os.environ.get("LINES") or 0) or lines or _FALLBACK_SIZE[1]
    return os.terminal_size((columns, lines))


def _is_terminal(stream: Any) -> bool:
    try:
        return bool(stream.isatty())
    except (AttributeError, ValueError):
        return False


def safe_print(*args: Any, **kwargs: Any) -> None:
    """``print(*args, **kwargs)``, above the bars."""
    MANAGER.print_above(lambda: _print(*args, **kwargs))


# The bars on this process's standard error.
MANAGER = BarManager(patches_print=os.environ.get("RAY_TQDM_PATCH_PRINT", "1") != "0")
