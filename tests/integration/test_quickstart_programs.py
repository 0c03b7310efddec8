"""Small whole programs, run as their authors would run them."""

import pathlib
import re

EXAMPLES = pathlib.Path(__file__).resolve().parents[2] / "examples"


def test_squares(run_program):
    program = run_program("""
import ray

ray.init()

@ray.remote
def f(x):
    return x * x

futures = [f.remote(i) for i in range(4)]
print(ray.get(futures))
""")
    assert "[0, 1, 4, 9]" in program.finish().splitlines()


def test_four_counters(run_program):
    program = run_program("""
import ray

ray.init()

@ray.remote
class Counter:
    def __init__(self):
        self.n = 0

    def increment(self):
        self.n += 1

    def read(self):
        return self.n

counters = [Counter.remote() for i in range(4)]
[c.increment.remote() for c in counters]
futures = [c.read.remote() for c in counters]
print(ray.get(futures))
""")
    assert "[1, 1, 1, 1]" in program.finish().splitlines()


def test_tutorial_prints_refs_and_handles(run_program):
    program = run_program("""
import ray

@ray.remote
def ray_task(x):
    return x + 1

@ray.remote
def add_list(numbers):
    return sum(numbers)

@ray.remote
class GoalsScored:
    def __init__(self):
        self.goals = 0

    def score(self):
        self.goals += 1
        return self.goals

ref = ray_task.remote(1)  # starts a cluster by itself
print("task", ref)
print("value", ray.get(ref))
numbers = ray.put([1, 2, 3])
print("put", numbers)
print("sum", ray.get(add_list.remote(numbers)))
goals = GoalsScored.remote()
print("actor", goals)
print("goals", [ray.get(goals.score.remote()) for _ in range(3)])
""")
    printed = dict(line.split(" ", 1) for line in program.finish().splitlines() if " " in line)
    assert re.fullmatch(r"ObjectRef\([0-9a-f]{56}\)", printed["task"])
    assert re.fullmatch(r"ObjectRef\([0-9a-f]{56}\)", printed["put"])
    assert re.fullmatch(r"Actor\(GoalsScored, [0-9a-f]{32}\)", printed["actor"])
    assert (printed["value"], printed["sum"], printed["goals"]) == ("2", "6", "[1, 2, 3]")


def test_quickstart_example(run_program):
    output = run_program((EXAMPLES / "quickstart.py").read_text()).finish()
    assert "squares of 0..3: [0, 1, 4, 9]" in output
    assert "[10, 10, 10, 10]" in output
    assert "the most frequent: the " in output
    assert "pid=" not in output, "its workers print nothing"
