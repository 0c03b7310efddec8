"""Does cost stay in proportion as work grows? Each row at several sizes, with a fit and a plot.

    python bench/scale.py [--write] [--rows REGEX] [--sizes N] [--smoke] [--python PATH]

The rows are in bench/scale_rows.py. Each measurement is a process of its own, ended with all that
it started when its time is up or the machine runs out of memory: the row then shows the sizes that
it reached. With --write the table becomes a section of bench/RESULTS.md, the curves
bench/plots/*.svg.
"""

import argparse
import dataclasses
import json
import math
import os
import pathlib
import re
import signal
import statistics
import subprocess
import sys
import time
import uuid

import machine
import results_file
import timing

HERE = pathlib.Path(__file__).resolve().parent
PLOTS = HERE / "plots"
MARK = "RAY_BENCH_MARK"
MEMORY_LEFT_BYTES = 2 << 30  # less available memory than this ends a measurement
RUNS_MAX = 5
RUNS_S = 15.0  # a further run of one size is made only while the ones before took less together
EXPONENT_MAX = 1.2  # of the fit total = a * size^exponent
GROWTH_MAX = 3  # cost per item at the largest size, against the least: caches end on the way


@dataclasses.dataclass(frozen=True)
class Row:
    name: str  # of scale_rows.py
    sizes: tuple[int, ...]
    limit_s: float = 120.0  # of one measurement

    @property
    def file_name(self) -> str:
        return self.name.replace(" ", "_") + ".svg"


ROWS = [
    Row("queued tasks", (10_000, 30_000, 100_000, 300_000, 1_000_000), 300),
    Row("pending calls on one actor", (1_000, 3_000, 10_000, 30_000, 100_000)),
    Row("reference arguments of one task", (100, 300, 1_000, 3_000, 10_000)),
    Row("returns of one task", (30, 100, 300, 1_000, 3_000)),
    Row("small objects in one get", (100, 1_000, 10_000, 100_000)),
    Row("stored objects in one get", (100, 300, 1_000, 3_000, 10_000)),
    Row("references in one object", (100, 300, 1_000, 3_000, 10_000)),
    Row("live references", (10_000, 30_000, 100_000, 300_000, 1_000_000)),
    Row("placement groups at once", (100, 300, 1_000, 3_000, 10_000)),
    Row("actors of one machine", (30, 100, 300, 1_000), 240),
    Row("drivers at once", (3, 10, 30, 100), 240),
    Row("MB spilled and read back", (960, 3_200, 9_600), 300),
]
SMOKE_SIZES = {"MB spilled and read back": (32, 64)}


class Stopped(Exception):
    """A measurement did not end by itself."""


def measure_once(row: Row, size: int, python: pathlib.Path) -> dict[str, float]:
    """The totals of one process."""
    mark = uuid.uuid4().hex
    process = subprocess.Popen(
        [python, HERE / "scale_rows.py", row.name, str(size)],
        env={**os.environ, MARK: mark},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        output, errors = wait(process, row.limit_s)
    finally:
        end_all(process, f"{MARK}={mark}")
    lines = [line for line in output.splitlines() if line.startswith("{")]
    if process.returncode != 0 or not lines:
        last = errors.strip().splitlines()[-1:] or [f"exit code {process.returncode}"]
        raise Stopped(last[0])
    return json.loads(lines[-1])["totals"]


def wait(process: subprocess.Popen, limit_s: float) -> tuple[str, str]:
    deadline = time.monotonic() + limit_s
    while True:
        try:
            return process.communicate(timeout=0.25)
        except subprocess.TimeoutExpired:
            if time.monotonic() > deadline:
                raise Stopped(f"not done after {limit_s:.0f} s") from None
            if available_memory() < MEMORY_LEFT_BYTES:
                raise Stopped("the machine's memory is used up") from None


def available_memory() -> int:
    text = pathlib.Path("/proc/meminfo").read_text()
    return int(re.search(r"^MemAvailable:\s+(\d+) kB", text, re.MULTILINE).group(1)) * 1024


def end_all(process: subprocess.Popen, mark: str) -> None:
    """Waits until nothing is left of a measurement; kills it if it does not end by itself."""
    process.kill()
    process.wait()
    deadline = time.monotonic() + 10
    while left := timing.marked_processes(mark):
        if time.monotonic() > deadline:
            for pid in left:
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.05)


def measure(row: Row, sizes: tuple[int, ...], runs_max: int, python: pathlib.Path) -> "Curves":
    """All sizes of a row, until one fails."""
    curves = Curves(row)
    for size in sizes:
        began = time.monotonic()
        runs = []
        try:
            while len(runs) < runs_max and time.monotonic() - began < RUNS_S:
                runs.append(measure_once(row, size, python))
        except Stopped as error:
            curves.error = f"{size:,}: {error}"
            break
        for name in runs[0]:
            total = min(run[name] for run in runs)  # what disturbs only adds
            curves.points.setdefault(name, []).append((size, total))
        print(f"{row.name} {size}: {runs[-1]}", file=sys.stderr, flush=True)
    return curves


@dataclasses.dataclass
class Curves:
    """What was measured of a row: totals by size."""

    row: Row
    points: dict[str, list[tuple[int, float]]] = dataclasses.field(default_factory=dict)
    error: str = ""  # of the first size that failed


def exponent(points: list[tuple[int, float]]) -> float:
    """Of the power of the size that fits the totals best; 1 is linear."""
    xs = [math.log(size) for size, _ in points]
    ys = [math.log(max(total, 1e-12)) for _, total in points]
    return statistics.linear_regression(xs, ys).slope


def verdict(points: list[tuple[int, float]]) -> str:
    each = [total / size for size, total in points]
    if exponent(points) > EXPONENT_MAX or each[-1] > GROWTH_MAX * min(each):
        return f"GROWS {each[-1] / min(each):.2g}x"
    return "linear"


def readable(name: str, amount: float) -> str:
    """A cost of one item: seconds, or bytes."""
    if name == "memory":
        units = [(2**20, "MB"), (2**10, "KB"), (1, "B")]
    else:
        units = [(1, "s"), (1e-3, "ms"), (1e-6, "us"), (1e-9, "ns")]
    for factor, unit in units:
        if abs(amount) >= factor:
            return f"{amount / factor:.3g} {unit}"
    return f"{amount:.1g} {units[-1][1]}"


HEADINGS = ["row", "cost", "sizes", "each, least size", "each, largest size", "total, largest"]
HEADINGS += ["exponent", ""]


def table_lines(curves: Curves) -> list[list[str]]:
    lines = []
    link = f"[{curves.row.name}](plots/{curves.row.file_name})"
    for name, points in curves.points.items():
        (least, first), (largest, last) = points[0], points[-1]
        fitted = len(points) > 1
        lines.append(
            [
                "" if lines else link,
                name,
                f"{least:,} to {largest:,}",
                readable(name, first / least),
                readable(name, last / largest),
                readable(name, last),
                f"{exponent(points):.2f}" if fitted else "",
                verdict(points) if fitted else "",
            ]
        )
    if curves.error:
        first = "" if lines else curves.row.name
        lines.append([first, "STOPPED", curves.error, "", "", "", "", ""])
    return lines


def plot(curves: Curves, folder: pathlib.Path) -> None:
    """The row's totals by size on logarithmic axes, with the line of proportion."""
    import matplotlib  # only here: everything else runs without it

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "manta"  # the same figures give the same file
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(
        1, len(curves.points), figsize=(4.2 * len(curves.points), 3.4), squeeze=False
    )
    for panel, (name, points) in zip(panels[0], curves.points.items()):
        sizes, totals = zip(*points)
        scale = 2**20 if name == "memory" else 1
        panel.loglog(sizes, [total / scale for total in totals], "o-", label="measured")
        proportional = [totals[-1] / scale * size / sizes[-1] for size in sizes]
        panel.loglog(sizes, proportional, "--", color="gray", label="proportional")
        panel.set_title(f"{name}, exponent {exponent(points):.2f}", fontsize=10)
        panel.set_xlabel(curves.row.name)
        panel.set_ylabel("MB" if name == "memory" else "s")
        panel.grid(True, which="major", alpha=0.3)
        panel.legend(fontsize=8)
    figure.tight_layout()
    folder.mkdir(exist_ok=True)
    figure.savefig(folder / curves.row.file_name, metadata={"Date": None})
    pyplot.close(figure)


NOTES = f"""\
The least of up to {RUNS_MAX} processes for each size. Exponent: of the power of the size that fits
the totals best. `linear`: it is at most {EXPONENT_MAX}, and an item costs at the largest size
at most {GROWTH_MAX} times what it costs at the best one: what leaves the processor's caches on the
way costs that much, while what is quadratic costs ten times as much for each decade. Memory:
proportional set size of the driver and all processes that it has started, beyond what they had
before.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    default = HERE.parent / ".venv" / "bin" / "python"
    parser.add_argument("--python", type=pathlib.Path, default=default, help="runs the rows")
    parser.add_argument("--rows", default="", metavar="REGEX")
    parser.add_argument("--sizes", type=int, default=9, help="only the first so many of a row")
    parser.add_argument("--smoke", action="store_true", help="tiny and fast; figures mean nothing")
    parser.add_argument("--write", action="store_true", help="write RESULTS.md and plots")
    args = parser.parse_args()

    build = machine.build_type()
    facts = machine.facts() | {"commit": machine.commit(), "build type": build}
    warnings = machine.warnings(build)
    lines = []
    for row in ROWS:
        if not re.search(args.rows, row.name):
            continue
        sizes = SMOKE_SIZES.get(row.name, (2, 4)) if args.smoke else row.sizes
        curves = measure(row, sizes[: args.sizes], 1 if args.smoke else RUNS_MAX, args.python)
        lines += table_lines(curves)
        if args.write and curves.points:
            plot(curves, PLOTS)
    description = results_file.description(facts, warnings)
    text = "\n\n".join([description, results_file.table(HEADINGS, lines), NOTES])
    print(text)
    if args.write:
        results_file.write_section("Scale", text)


if __name__ == "__main__":
    main()
