"""Runs bench/rows.py on Manta and on Ray 2.60.0 in turn and prints both, with their ratio.

    python bench/compare.py [--write] [--group NAME] [--rows REGEX] [--smoke]
                            [--python PATH] [--reference-python PATH]

Ray is installed from PyPI into an environment of its own outside the repository, once. Also
printed: the ratio that is asked for, and the share of what the machine allows at best
(bench/floor). With --write the table becomes a section of bench/RESULTS.md.
"""

import argparse
import dataclasses
import json
import pathlib
import subprocess
import sys

import environments
import machine
import results_file
import timing

HERE = pathlib.Path(__file__).resolve().parent
GROUPS = ("start", "tasks", "actors", "groups", "objects")


@dataclasses.dataclass(frozen=True)
class Goal:
    """What a row should reach."""

    required: float | None = None  # ratio to the reference; the first release needs it
    budget: float | None = None  # ratio that the design asks for
    floor: str | None = None  # the figure of measure_floor.py to set it against


GOALS = {
    "import ray": Goal(budget=4),
    "ray.init": Goal(required=8, budget=10),
    "idle cluster memory (PSS)": Goal(required=6, budget=8),
    "single client tasks sync": Goal(10, 15, "call_sync"),
    "single client tasks async": Goal(15, 20, "call_pipelined"),
    "1:1 actor calls sync": Goal(10, 15, "call_sync"),
    "1:1 actor calls async": Goal(15, 20, "call_pipelined"),
    "1:1 threaded actor calls async": Goal(floor="call_pipelined"),
    "n:n actor calls async": Goal(budget=15),
    "1:1 async-actor calls sync": Goal(budget=10, floor="call_sync"),
    "1:1 async-actor calls async": Goal(10, 15, "call_pipelined"),
    "actor start (20 more)": Goal(15, 20, "fork"),
    "single client put small": Goal(30, 50, "store_small"),
    "single client get small": Goal(15, 20, "load_small"),
    "single client put large": Goal(floor="copy_gb"),
    "multi client put large": Goal(floor="copy_gb"),
    "wait on 1k refs one by one": Goal(budget=30),
    "get an object holding 10k refs": Goal(budget=10),
}
HEADINGS = ["row", "unit", "ours", "Ray 2.60.0", "ratio", "required", "budget", "of the floor"]


def run_rows(python: pathlib.Path, group: str, options: list[str]) -> tuple[dict, dict[str, dict]]:
    """(what was measured, the results by row) of one group on one ray."""
    command = [python, HERE / "rows.py", "--json", "--group", group, *options]
    run = subprocess.run(command, capture_output=True, text=True)
    lines = [json.loads(line) for line in run.stdout.splitlines() if line.startswith("{")]
    if not lines:
        raise SystemExit(f"{python} cannot run the rows:\n{run.stderr}")
    if run.returncode != 0:
        print(f"{python} ended with {run.returncode} in group {group}:", file=sys.stderr)
        print(run.stderr, file=sys.stderr)
    return lines[0]["about"], {line["row"]: line for line in lines[1:]}


def measure_floor(python: pathlib.Path, smoke: bool) -> dict[str, float]:
    command = [python, HERE / "measure_floor.py"]
    if smoke:
        command += ["--windows", "2", "--window-s", "0.01"]
    return json.loads(subprocess.check_output(command, text=True))


def table_line(ours: dict, theirs: dict | None, floor: dict[str, float]) -> list[str]:
    goal = GOALS.get(ours["row"], Goal())
    ratio = advantage(ours, theirs)
    share = None
    if goal.floor and "median" in ours:
        share = ours["median"] / floor[goal.floor]
    return [
        ours["row"],
        ours["unit"],
        figure(ours),
        figure(theirs),
        times(ratio) + (" *" if ratio and goal.required and ratio < goal.required else ""),
        times(goal.required),
        times(goal.budget),
        f"{share:.2g}" if share else "",
    ]


def advantage(ours: dict, theirs: dict | None) -> float | None:
    """How many times better ours is; less than 1 if it is worse."""
    if not theirs or "median" not in ours or "median" not in theirs:
        return None
    if ours["lower_is_better"]:
        return theirs["median"] / ours["median"]
    return ours["median"] / theirs["median"]


def figure(result: dict | None) -> str:
    if result is None:
        return ""
    return "error" if "error" in result else timing.readable(result)


def times(ratio: float | None) -> str:
    return f"{ratio:.3g}x" if ratio else ""


NOTES = """\
Median (least to most) of the windows. Ratio: how many times better ours is; `*`: less than
required. Of the floor: ours as a share of what `bench/floor` reaches on this machine.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    ours_default = HERE.parent / ".venv" / "bin" / "python"
    parser.add_argument("--python", type=pathlib.Path, default=ours_default, help="runs ours")
    parser.add_argument("--reference-python", type=pathlib.Path, help="has Ray 2.60.0 already")
    parser.add_argument("--rows", default="", metavar="REGEX")
    parser.add_argument("--group", choices=GROUPS, action="append", help="default: all")
    parser.add_argument("--smoke", action="store_true", help="tiny and fast; figures mean nothing")
    parser.add_argument("--write", action="store_true", help="write bench/RESULTS.md")
    args = parser.parse_args()

    build = machine.build_type()
    warnings = machine.warnings(build)
    for warning in warnings:
        print(f"WARNING: {warning}", file=sys.stderr)
    reference = args.reference_python or environments.reference()
    options = ["--rows", args.rows] + (["--smoke"] if args.smoke else [])
    floor = measure_floor(args.python, args.smoke)
    facts = machine.facts() | {"commit": machine.commit(), "build type": build}
    lines = []
    for group in args.group or GROUPS:
        about, ours = run_rows(args.python, group, options)
        reference_about, theirs = run_rows(reference, group, options)
        for side, subject in (("ours", about), ("theirs", reference_about)):
            facts[side] = f"{subject['distribution']} {subject['version']}"
        lines += [table_line(ours[name], theirs.get(name), floor) for name in ours]
        for name, result in ours.items():
            if "error" in result:
                print(f"{name}: {result['error']}", file=sys.stderr)

    description = results_file.description(facts, warnings)
    text = "\n\n".join([description, results_file.table(HEADINGS, lines), NOTES])
    print(text)
    if args.write:
        results_file.write_section("Compared with Ray", text)


if __name__ == "__main__":
    main()
