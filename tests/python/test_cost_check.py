"""The check of tests/cpp/cost: which counts it accepts."""

import importlib.util
import pathlib

import pytest

PATH = pathlib.Path(__file__).resolve().parents[1] / "cpp" / "cost" / "check_cost.py"
SPEC = importlib.util.spec_from_file_location("check_cost", PATH)
check_cost = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(check_cost)


def test_growth_by_more_than_a_tenth_is_named():
    faults = check_cost.compare({"send": 100, "receive": 100}, {"send": 109, "receive": 112})
    assert faults == ["receive: 112 instructions a call, 12% more than 100"]


def test_what_became_cheaper_is_accepted():
    assert check_cost.compare({"send": 100}, {"send": 50}) == []


def test_paths_and_numbers_have_to_match():
    faults = check_cost.compare({"gone": 1}, {"new": 1})
    assert faults == ["gone: no such path any more", "new: not in instructions.json"]


def test_dump_is_read(tmp_path):
    dump = tmp_path / "out.1"
    dump.write_text("desc: Trigger: Client Request: send: one\nsummary: 5\nfn=(1)\ntotals: 1200\n")
    assert check_cost.read_dump(dump) == ("send: one", 5)
    dump.write_text("something else")
    with pytest.raises(SystemExit, match="cannot read"):
        check_cost.read_dump(dump)
