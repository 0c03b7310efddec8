"""How rows are timed: warm-up, several windows, and the memory of a process tree."""

import dataclasses
import os
import pathlib
import statistics
import time
from collections.abc import Callable


@dataclasses.dataclass(frozen=True)
class Pace:
    """How long to measure."""

    warmup_s: float
    window_s: float
    windows: int


FULL_PACE = Pace(warmup_s=1.0, window_s=1.0, windows=5)
SMOKE_PACE = Pace(warmup_s=0.0, window_s=0.01, windows=2)


def rates(operation: Callable[[], object], units: float, pace: Pace) -> list[float]:
    """Units per second of each window; one call of `operation` does `units` of them."""
    run_for(operation, pace.warmup_s)
    results = []
    for _ in range(pace.windows):
        calls, elapsed_s = run_for(operation, pace.window_s)
        results.append(calls * units / elapsed_s)
    return results


def run_for(operation: Callable[[], object], duration_s: float) -> tuple[int, float]:
    """Calls `operation` until the time is up, at least once: (calls, seconds they took)."""
    calls = 0
    start = time.perf_counter()
    while True:
        operation()
        calls += 1
        elapsed_s = time.perf_counter() - start
        if elapsed_s >= duration_s:
            return calls, elapsed_s


def summary(values: list[float]) -> dict[str, float | int]:
    """What a row prints of its windows."""
    return {
        "min": min(values),
        "median": statistics.median(values),
        "max": max(values),
        "windows": len(values),
    }


def readable(result: dict) -> str:
    """Median (least to most)."""

    def number(value: float) -> str:
        return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"

    low, median, high = (number(result[key]) for key in ("min", "median", "max"))
    return f"{median} ({low} to {high})"


def marked_processes(mark: str) -> list[int]:
    """Processes with `mark` (NAME=value) in the environment they were started with.

    A daemon that left the process tree of its starter is found too, which a walk over children
    would miss.
    """
    found = []
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            environment = pathlib.Path(f"/proc/{entry}/environ").read_bytes()
        except OSError:  # it ended meanwhile, or belongs to somebody else
            continue
        if mark.encode() in environment.split(b"\0"):
            found.append(int(entry))
    return found


def memory_mb(processes: list[int]) -> float:
    """Proportional set size of the processes together, shared memory included."""
    total_kb = 0
    for pid in processes:
        try:
            lines = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        except OSError:
            continue
        total_kb += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total_kb / 1024


def settled_memory_mb(mark: str, interval_s: float, limit_s: float) -> float:
    """The memory of the marked processes once it has moved by less than 1 % for three intervals."""
    deadline = time.monotonic() + limit_s
    recent = [memory_mb(marked_processes(mark))]
    while time.monotonic() < deadline:
        time.sleep(interval_s)
        recent = [*recent[-3:], memory_mb(marked_processes(mark))]
        if len(recent) == 4 and max(recent) - min(recent) < 0.01 * max(recent):
            break
    return recent[-1]
