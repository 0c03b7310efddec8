"""Standard output and error of a worker: marks which task or actor the lines come from.

A line ``\\x1etask:NAME\\x1e`` in the log file says that the following lines are NAME's; the
raylet's log monitor reads it and does not forward it.
"""

from __future__ import annotations

import io
from collections.abc import Callable


class MarkedOutput(io.TextIOWrapper):
    """A line-buffered text stream on a descriptor. Threads: as print; a marker may be late between
    threads."""

    def __init__(self, descriptor: int, name_of_writer: Callable[[], str]) -> None:
        """``name_of_writer`` is asked at each write, in the thread that writes."""
        super().__init__(
            io.FileIO(descriptor, "w", closefd=False),
            encoding="utf-8",
            errors="backslashreplace",
            line_buffering=True,
        )
        self._name_of_writer = name_of_writer
        self._marked = ""
        self._at_line_start = True

    def write(self, text: str) -> int:
        if not text:
            return 0
        name = self._name_of_writer()
        if name != self._marked:
            self._marked = name
            line_end = "" if self._at_line_start else "\n"
            super().write(f"{line_end}\x1etask:{name}\x1e\n")
        self._at_line_start = text.endswith("\n")
        return super().write(text)
