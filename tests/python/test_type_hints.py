"""What type checkers infer of programs that use ray."""

import pathlib
import re
import subprocess
import sys

import pytest

import ray

PROGRAM = """
from collections.abc import Iterator

import ray


@ray.remote
def add(a: int, b: int = 0) -> int:
    return a + b


@ray.remote(num_cpus=1)
def name(of: int) -> str:
    return str(of)


@ray.remote(num_returns=2)
def pair() -> tuple[int, str]:
    return 1, "a"


@ray.remote
def items(n: int) -> Iterator[float]:
    yield from map(float, range(n))


@ray.remote
def untyped(x):  # type: ignore[no-untyped-def]
    return x


class Count:
    @ray.method(num_returns=1)
    def add(self, n: int) -> int:
        return n


Actor = ray.remote(Count)
WithOptions = ray.remote(num_cpus=0)(Count)

reveal_type(ray.get(add.remote(1)))  # int
reveal_type(ray.get(add.remote(add.remote(1), b=2)))  # int
reveal_type(ray.get(add.remote(b=add.remote(1), a=2)))  # int
reveal_type(ray.get([name.remote(1), name.remote(2)]))  # list[str]
reveal_type(ray.get(name.options(num_cpus=2).remote(1)))  # str
reveal_type(ray.get(ray.put(1.5)))  # float
reveal_type(ray.wait([add.remote(1)])[0])  # list[ObjectRef[int]]
reveal_type(add.bind(1))  # FunctionNode
first, second = pair.remote()
third, fourth = add.options(num_returns=2).remote(1)
for item in items.remote(3):
    ray.get(item)
ray.get(untyped.remote(1)).anything()
reveal_type(Actor.remote())  # ActorHandle[Count]
reveal_type(WithOptions.options(name="c").remote())  # ActorHandle[Count]
reveal_type(Count().add(1))  # int
Actor.remote().add.remote(1)
"""


def expected():
    """What the comments of the program say, by line."""
    lines = enumerate(PROGRAM.splitlines(), start=1)
    return {n: line.partition("  # ")[2] for n, line in lines if line.startswith("reveal_type")}


@pytest.mark.timeout(120)
def test_mypy_infers_results_of_tasks(tmp_path):
    path = tmp_path / "program.py"
    path.write_text(PROGRAM)
    package = pathlib.Path(ray.__file__).parents[1]
    checked = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--cache-dir", tmp_path / "cache", path],
        env={"MYPYPATH": str(package)} if "site-packages" not in package.parts else {},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    own = [line for line in checked.stdout.splitlines() if line.startswith("program.py:")]
    notes = [re.match(r'program\.py:(\d+): note: Revealed type is "(.*)"', line) for line in own]
    assert all(notes), checked.stdout + checked.stderr
    revealed = {int(note[1]): re.sub(r"[\w.]*\.(\w)", r"\1", note[2]) for note in notes}
    assert revealed == expected()


def test_package_says_that_it_has_types():
    assert (pathlib.Path(ray.__file__).parent / "py.typed").exists()
