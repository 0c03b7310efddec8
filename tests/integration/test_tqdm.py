"""Progress bars of workers on the driver."""

import re

import pytest

from ray.experimental import tqdm_ray

HEADER = """
import ray
from ray.experimental import tqdm_ray
ray.init(address="local", num_cpus=2, include_dashboard=False)
"""

pytestmark = pytest.mark.ours_only


def test_bars_of_workers_are_drawn_by_the_driver(run_program):
    program = run_program(
        HEADER
        + """
@ray.remote
def work(name):
    for i in tqdm_ray.tqdm(range(3), desc=name):
        print("line", i, "of", name)

ray.get([work.remote(name) for name in ("one", "two")])
"""
    )
    output = program.finish()
    for name in ("one", "two"):
        assert re.search(rf"^{name}: 100%\|█+\| 3/3 \[", output, re.MULTILINE), output
        assert f"line 2 of {name}" in output
    assert tqdm_ray.RAY_TQDM_MAGIC not in output


def test_bar_of_a_task_that_never_closes_it_ends_with_the_session(run_program):
    program = run_program(
        HEADER
        + """
@ray.remote
def work():
    bar = tqdm_ray.tqdm(desc="open", total=9, flush_interval_s=0)
    bar.update(4)

ray.get(work.remote())
"""
    )
    assert "4/9" in program.finish()


@pytest.fixture
def states(monkeypatch):
    """What the bars of this process tell."""
    states = []
    monkeypatch.setattr(tqdm_ray.instance(), "process_state_update", states.append)
    return states


def test_bar_counts_the_items_of_a_loop(states):
    items = iter([1, 2, 3])
    assert list(tqdm_ray.tqdm(items, desc="loop", total=5, position=2, unit="b")) == [1, 2, 3]
    last = states[-1]
    assert (last["x"], last["total"], last["closed"]) == (3, 5, True)
    assert (last["desc"], last["pos"], last["unit"]) == ("loop", 2, "b")


def test_total_is_the_length_if_there_is_one(states):
    assert tqdm_ray.tqdm(range(7)).total == 7
    assert tqdm_ray.tqdm(iter(range(7))).total is None


def test_bar_is_told_of_now_and_then(states):
    bar = tqdm_ray.tqdm(total=100, flush_interval_s=1000)
    for _ in range(50):
        bar.update()
    assert [state["x"] for state in states] == [0]
    bar.set_description("half")
    bar.update(25)
    bar.refresh()
    bar.close()
    bar.close()
    bar.update()
    assert [(state["x"], state["desc"]) for state in states[1:]] == [
        (50, "half"),
        (75, "half"),
        (75, "half"),
    ]
    assert [state["closed"] for state in states] == [False, False, False, True]
    assert bar.n == 76


def test_loop_that_is_left_closes_its_bar(states):
    for _ in tqdm_ray.tqdm(range(3)):
        break
    assert states[-1]["closed"]


def test_bad_arguments(states):
    with pytest.raises(TypeError):
        tqdm_ray.tqdm(3)
    with pytest.raises(TypeError):
        tqdm_ray.tqdm(total="3")
    with pytest.raises(ValueError, match="No iterable"):
        list(tqdm_ray.tqdm(total=3))


def test_safe_print_prints(capsys):
    tqdm_ray.safe_print("hello", "x", sep="-")
    assert capsys.readouterr().out == "hello-x\n"
