"""The benchmark's scripts run; their figures do not matter here."""

import json
import pathlib
import subprocess
import sys

import pytest

BENCH = pathlib.Path(__file__).resolve().parents[2] / "bench"


def json_lines(*command):
    output = subprocess.check_output([sys.executable, *command], text=True)
    return [json.loads(line) for line in output.splitlines() if line.startswith("{")]


@pytest.mark.timeout(120)
def test_every_row_can_be_measured():
    about, *rows = json_lines(BENCH / "rows.py", "--smoke", "--json")
    assert about["about"]["cores"] >= 1
    assert len(rows) > 20
    assert not [row for row in rows if "error" in row]
    for row in rows:
        assert 0 < row["min"] <= row["median"] <= row["max"], row


FAILING_RAY = """
def remote(*function, **options):
    return function[0] if function else lambda function: function

def is_initialized():
    return False

def init(**arguments):
    raise RuntimeError("cannot start")
"""


def test_failing_row_reports_its_error_and_the_next_one_runs(tmp_path, monkeypatch):
    (tmp_path / "ray.py").write_text(FAILING_RAY)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    rows = json_lines(BENCH / "rows.py", "--smoke", "--json", "--rows", "put small|import")[1:]
    assert [row.get("error") for row in rows] == [None] + 2 * ["RuntimeError: cannot start"]


def test_comparison_prints_a_line_for_each_row():
    command = [sys.executable, BENCH / "compare.py", "--smoke", "--group", "objects"]
    command += ["--rows", "small", "--python", sys.executable, "--reference-python"]
    output = subprocess.check_output([*command, sys.executable], text=True)
    lines = [line.split("|")[1:-1] for line in output.splitlines() if line.startswith("| ")]
    names = [line[0].strip() for line in lines[2:]]
    assert names == [
        "single client put small",
        "multi client put small",
        "single client get small",
    ]
    for line in lines[2:]:
        assert line[4].strip().rstrip("* ").endswith("x")
