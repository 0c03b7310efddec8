"""Fails when a hot path takes more instructions than instructions.json says.

    python3 tests/cpp/cost/check_cost.py build/release/tests/cpp/cost/hot_paths [--update]

Instructions, counted by valgrind, do not depend on how busy the machine is: the same program gives
the same number, within a thousandth. A path may grow by a tenth before this fails. After a path has
become cheaper the numbers are updated, so that what was gained is kept.
"""

import argparse
import json
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

NUMBERS = pathlib.Path(__file__).resolve().parent / "instructions.json"
GROWTH_MAX = 0.10


def count(program: str) -> dict[str, float]:
    """Instructions of one call on each path."""
    valgrind = shutil.which("valgrind")
    if valgrind is None:
        raise SystemExit("valgrind is missing: run make setup (system-packages.txt lists it)")
    with tempfile.TemporaryDirectory() as folder:
        command = [valgrind, "--tool=callgrind", "--collect-atstart=no"]
        command += [f"--callgrind-out-file={folder}/out", program]
        run = subprocess.run(command, capture_output=True, text=True)
        if run.returncode != 0:
            raise SystemExit(f"{program} has failed under valgrind:\n{run.stderr}")
        calls = dict(line.rsplit(" ", 1) for line in run.stdout.splitlines())
        totals = dict(read_dump(path) for path in pathlib.Path(folder).glob("out.*"))
    return {name: round(totals[name] / int(number), 1) for name, number in calls.items()}


def read_dump(path: pathlib.Path) -> tuple[str, int]:
    """The name a dump was made with, and the instructions in it."""
    text = path.read_text()
    name = re.search(r"^desc: Trigger: Client Request: (.*)$", text, re.MULTILINE)
    total = re.search(r"^summary: (\d+)", text, re.MULTILINE)
    if name is None or total is None:
        raise SystemExit(f"cannot read what callgrind wrote: {text[:300]}")
    return name.group(1), int(total.group(1))


def compare(expected: dict[str, float], counted: dict[str, float]) -> list[str]:
    """A sentence for each path that is off."""
    faults = [f"{name}: not in {NUMBERS.name}" for name in counted.keys() - expected.keys()]
    faults += [f"{name}: no such path any more" for name in expected.keys() - counted.keys()]
    for name in expected.keys() & counted.keys():
        growth = counted[name] / expected[name] - 1
        if growth > GROWTH_MAX:
            faults.append(
                f"{name}: {counted[name]:,.0f} instructions a call, {growth:.0%} more than "
                f"{expected[name]:,.0f}"
            )
    return sorted(faults)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("program", help="the built hot_paths")
    parser.add_argument("--update", action="store_true", help="write the numbers instead")
    args = parser.parse_args()
    counted = count(args.program)
    if args.update:
        NUMBERS.write_text(json.dumps(counted, indent=2) + "\n")
        return
    expected = json.loads(NUMBERS.read_text())
    for name, number in counted.items():
        print(f"{number:10,.1f}  {name} (expected {expected.get(name, 0):,.1f})")
    faults = compare(expected, counted)
    if faults:
        print("\nHot paths have grown:", *faults, sep="\n  ")
        print("If it is meant, update the numbers and say in the commit why:")
        print(f"  {sys.executable} {' '.join(sys.argv)} --update")
        raise SystemExit(1)


if __name__ == "__main__":
    main()
