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


@pytest.mark.timeout(180)
def test_every_scale_row_can_be_measured():
    command = [sys.executable, BENCH / "scale.py", "--smoke", "--sizes", "1"]
    output = subprocess.check_output([*command, "--python", sys.executable], text=True)
    assert "STOPPED" not in output, output
    assert output.count("2 to 2") > 15


def test_scale_tells_what_grows_faster_than_its_size(monkeypatch):
    monkeypatch.syspath_prepend(BENCH)
    import scale

    sizes = (100, 1_000, 10_000)
    assert scale.verdict([(size, 0.5 + size * 1e-6) for size in sizes]) == "linear"
    assert scale.verdict([(size, size**2 * 1e-6) for size in sizes]) == "GROWS 1e+02x"
    # Quadratic only at the end, where a fit over all sizes hardly sees it.
    assert scale.verdict([(100, 1.0), (1_000, 1.5), (10_000, 60)]).startswith("GROWS")


def test_results_keep_the_sections_of_other_programs(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(BENCH)
    import results_file

    path = tmp_path / "RESULTS.md"
    results_file.write_section("Scale", "curves", path)
    results_file.write_section("Compared with Ray", "a table\n", path)
    results_file.write_section("Scale", "new curves", path)
    assert path.read_text().split("\n\n") == [
        "# Results",
        *("## Compared with Ray", "a table"),
        *("## Scale", "new curves\n"),
    ]


@pytest.mark.timeout(120)
def test_tail_latency_is_measured_in_every_situation():
    command = [sys.executable, BENCH / "tail_latency.py", "--smoke", "--python", sys.executable]
    output = subprocess.check_output([*command, "--reference-python", sys.executable], text=True)
    lines = [line.split("|")[2:-1] for line in output.splitlines() if line.startswith("| ")][2:]
    assert len(lines) == 8
    for _side, p50, p99, *_ in lines:
        assert 0 < int(p50.replace(",", "")) <= int(p99.replace(",", ""))


@pytest.mark.parametrize("library", ["ray", "ProcessPoolExecutor", "joblib/loky"])
def test_libraries_are_compared_by_the_same_rows(library):
    rows = json_lines(BENCH / "peer_rows.py", library, "--smoke")
    assert [row["row"] for row in rows if row["value"] > 0] == [
        "import to first result",
        "one call at a time",
        "calls submitted together",
        "the same, argument of 10 KB",
        "map over small items",
        "100 MB array to 8 calls",
    ]
