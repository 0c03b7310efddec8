"""Prints on the driver what workers print: ``(name pid=N) line``, with repeated lines of many
processes folded, and above their progress bars.

Source: https://docs.ray.io/en/latest/ray-observability/user-guides/configure-logging.html.
"""

from __future__ import annotations

import itertools
import os
import re
import sys
import threading
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from ray import _progress_bars

if TYPE_CHECKING:
    from ray._raylet import Core

_CYAN, _GREEN, _YELLOW, _RESET = "\x1b[36m", "\x1b[32m", "\x1b[33m", "\x1b[0m"

# A repeated line is held back this long, to be printed once with its count.
_FOLD_WINDOW_S = 5.0
_HINT = " (set RAY_DEDUP_LOGS=0 to see every line)"

_DIGITS = re.compile(r"\d+")


class Source(NamedTuple):
    """Where a line comes from."""

    name: str
    pid: int
    ip: str  # "" on this node
    is_stderr: bool


class Folded(NamedTuple):
    """A line to print, standing for ``lines`` lines that are alike."""

    source: Source
    line: str
    lines: int


class _Repeats:
    """A line that was printed, and what came from other processes since."""

    __slots__ = ("count", "first_source", "last", "since_s", "source")

    def __init__(self, source: Source, now_s: float) -> None:
        self.first_source = source
        self.since_s = now_s
        self.count = 0
        self.source = source
        self.last = ""


class LineFolder:
    """Folds lines that several processes print alike; lines that differ in digits only are alike.

    The first of them is printed at once, as are repetitions by the same process (a loop in one
    task). Those of other processes are counted, and the last one is printed with the count at the
    end of the window.

    Sans I/O: takes lines and time, gives what to print. Threads: one.
    """

    def __init__(self, window_s: float = _FOLD_WINDOW_S) -> None:
        self._window_s = window_s
        self._repeats: dict[tuple[str, bool], _Repeats] = {}

    def add(self, source: Source, line: str, now_s: float) -> Folded | None:
        """Takes a line; returns it if it is to be printed now."""
        if not line.strip():
            return Folded(source, line, 1)
        key = (_DIGITS.sub("", line), source.is_stderr)
        repeats = self._repeats.get(key)
        if repeats is None:
            self._repeats[key] = _Repeats(source, now_s)
            return Folded(source, line, 1)
        if repeats.count == 0:
            repeats.since_s = now_s
            if source.pid == repeats.first_source.pid and source.ip == repeats.first_source.ip:
                return Folded(source, line, 1)
        repeats.count += 1
        repeats.source, repeats.last = source, line
        return None

    def expire(self, now_s: float) -> Iterator[Folded]:
        """What was held back for the whole window. Lines not seen for that long count as new from
        now on."""
        for key, repeats in list(self._repeats.items()):
            if now_s - repeats.since_s >= self._window_s:
                del self._repeats[key]
                if repeats.count:
                    yield Folded(repeats.source, repeats.last, repeats.count)

    def drain(self) -> Iterator[Folded]:
        """Everything that is held back: the end of the session."""
        yield from self.expire(float("inf"))


class LogPrinter:
    """A daemon thread that prints until the session ends.

    Lines of a job with a LoggingConfig are ``structured``: they say themselves where they are from,
    and are printed as they are, so that they can be parsed.
    """

    def __init__(self, core: Core, node_ip: str, structured: bool = False) -> None:
        self._core = core
        self._node_ip = node_ip
        self._structured = structured
        self._folds = os.environ.get("RAY_DEDUP_LOGS", "1") != "0"
        self._folder = LineFolder()
        self._hinted = False
        # What is to be printed together: texts, and whether on standard error.
        self._out: list[tuple[str, bool]] = []
        self._thread = threading.Thread(target=self._run, name="ray_log_printer", daemon=True)
        self._thread.start()

    def join(self) -> None:
        """Blocks until everything is printed; call it after ``Core.shutdown``."""
        self._thread.join()

    def _run(self) -> None:
        while (messages := self._core.next_messages(_FOLD_WINDOW_S)) is not None:
            for kind, pid, name, ip, is_stderr, lines in messages:
                if kind == "warning":
                    self._print_warning(lines)
                else:
                    here = ip == self._node_ip
                    self._take(Source(name, pid, "" if here else ip, is_stderr), lines)
            self._print_all(self._folder.expire(time.monotonic()))
            self._flush()
        self._print_all(self._folder.drain())
        self._flush()
        _progress_bars.MANAGER.close_others()

    def _take(self, source: Source, lines: list[str]) -> None:
        now_s = time.monotonic()
        for line in lines:
            bar = _progress_bars.parse_state(line)
            if bar is not None:
                _progress_bars.MANAGER.apply(bar)
                continue
            folded = (
                self._folder.add(source, line, now_s) if self._folds else Folded(source, line, 1)
            )
            if folded is not None:
                self._print(folded)

    def _print_all(self, lines: Iterator[Folded]) -> None:
        for folded in lines:
            self._print(folded)

    def _print(self, folded: Folded) -> None:
        hint = "" if self._hinted else _HINT
        self._hinted |= folded.lines > 1
        text = format_line(folded, hint, prefixed=not self._structured)
        self._out.append((text, folded.source.is_stderr))

    def _print_warning(self, lines: list[str]) -> None:
        self._out += [(f"{_YELLOW}(raylet){_RESET} {line}", True) for line in lines]

    def _flush(self) -> None:
        out, self._out = self._out, []
        if out:
            _progress_bars.MANAGER.print_above(lambda: _write(out))
        else:
            _progress_bars.MANAGER.draw()


def format_line(folded: Folded, hint: str = "", prefixed: bool = True) -> str:
    """A line as it is printed: ``(name pid=N, ip=A) line [repeated 3x across cluster]``."""
    source = folded.source
    where = f"pid={source.pid}" + (f", ip={source.ip}" if source.ip else "")
    prefix = f"({source.name} {where})" if source.name else f"({where})"
    text = f"{_CYAN}{prefix}{_RESET} {folded.line}" if prefixed else folded.line
    if folded.lines > 1:
        text += f"{_GREEN} [repeated {folded.lines}x across cluster]{hint}{_RESET}"
    return text


def _write(out: list[tuple[str, bool]]) -> None:
    """Prints lines; what follows each other on one stream, in one write."""
    for is_stderr, texts in itertools.groupby(out, key=lambda line: line[1]):
        # Looked up each time: programs and test runners replace them. Lines that cannot be printed
        # are in the workers' log files, too.
        stream = sys.stderr if is_stderr else sys.stdout
        _progress_bars.write(stream, "".join(f"{text}\n" for text, _ in texts))
