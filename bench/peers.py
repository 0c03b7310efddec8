"""Runs bench/peer_rows.py on ours, Ray 2.60.0 and other libraries, and prints them in one table.

    python bench/peers.py [--write] [--smoke] [--python PATH] [--reference-python PATH]
                          [--peers-python PATH]

The other libraries are installed from PyPI into an environment of their own outside the
repository, once. With --write the table becomes a section of bench/RESULTS.md.
"""

import argparse
import json
import pathlib
import subprocess
import sys

import environments
import machine
import results_file

HERE = pathlib.Path(__file__).resolve().parent
LIMIT_S = 240  # of one library
OURS = "ours"


def measure(python: pathlib.Path, library: str, smoke: bool) -> dict[str, dict]:
    """The results by row; incomplete if the library hangs or fails."""
    command = [python, HERE / "peer_rows.py", library] + (["--smoke"] if smoke else [])
    try:
        run = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S)
        output, errors = run.stdout, run.stderr
    except subprocess.TimeoutExpired as expired:
        output, errors = (expired.stdout or b"").decode(), f"not done after {LIMIT_S} s"
    lines = [json.loads(line) for line in output.splitlines() if line.startswith("{")]
    if not lines:
        print(f"{library}: {errors}", file=sys.stderr)
    return {line["row"]: line for line in lines}


def cell(result: dict | None, ours: dict | None) -> str:
    """A figure, and how many times better ours is."""
    if result is None:
        return ""
    if "error" in result:
        return "error"
    value = result["value"]
    text = f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"
    if result is ours or ours is None or "error" in ours:
        return text
    ratio = value / ours["value"] if result["unit"] == "s" else ours["value"] / value
    return f"{text} ({ratio:.3g}x)"


NOTES = """\
Median of up to five windows of a second; in brackets, how many times better ours is. Each library
has as many processes as there are cores. In the map, items go in chunks of 100 where the library
takes a size (joblib chooses its own). The array is new to the other processes each time.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    default = HERE.parent / ".venv" / "bin" / "python"
    parser.add_argument("--python", type=pathlib.Path, default=default, help="runs ours")
    parser.add_argument("--reference-python", type=pathlib.Path, help="has Ray 2.60.0 already")
    parser.add_argument("--peers-python", type=pathlib.Path, help="has joblib and dask already")
    parser.add_argument("--smoke", action="store_true", help="tiny and fast; figures mean nothing")
    parser.add_argument("--write", action="store_true", help="write bench/RESULTS.md")
    args = parser.parse_args()

    build = machine.build_type()
    facts = machine.facts() | {"commit": machine.commit(), "build type": build}
    warnings = machine.warnings(build)
    others = args.peers_python or environments.peers()
    contenders = {
        OURS: (args.python, "ray"),
        "Ray 2.60.0": (args.reference_python or environments.reference(), "ray"),
        "ProcessPoolExecutor": (others, "ProcessPoolExecutor"),
        "multiprocessing.Pool": (others, "multiprocessing.Pool"),
        "joblib/loky": (others, "joblib/loky"),
        "dask.distributed": (others, "dask.distributed"),
    }
    results = {}
    for name, where in contenders.items():
        results[name] = measure(*where, args.smoke)
        print(f"{name}: {list(results[name].values())}", file=sys.stderr, flush=True)
    ours = results[OURS]
    lines = [
        [name, row["unit"], *(cell(results[side].get(name), row) for side in contenders)]
        for name, row in ours.items()
    ]
    description = results_file.description(facts, warnings)
    text = "\n\n".join(
        [description, results_file.table(["row", "unit", *contenders], lines), NOTES]
    )
    print(text)
    if args.write:
        results_file.write_section("Other libraries", text)


if __name__ == "__main__":
    main()
