"""Fixtures of the tests that run real processes through the public API."""

import importlib.metadata
import os
import pathlib

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
# Workers import what the tests share; a ray need not hand them the whole sys.path of the driver.
os.environ["PYTHONPATH"] = os.pathsep.join(
    [str(pathlib.Path(__file__).resolve().parents[1]), *os.environ.get("PYTHONPATH", "").split()]
)

import pytest

import ray
from integration.programs import Program

CLUSTER = {
    "address": "local",  # never join another cluster of this machine
    "num_cpus": 4,
    "include_dashboard": False,
    "log_to_driver": False,
}


def pytest_configure(config):
    config.addinivalue_line(
        "markers", "ours_only: behaviour that the reference does not have; deselected there"
    )


def pytest_collection_modifyitems(config, items):
    """The tests can be checked against the reference, of which less is asked."""
    if importlib.metadata.packages_distributions().get("ray") != ["ray"]:
        return
    deselected = [item for item in items if item.get_closest_marker("ours_only")]
    items[:] = [item for item in items if item not in deselected]
    config.hook.pytest_deselected(items=deselected)


@pytest.fixture(scope="module")
def cluster():
    """A four-CPU cluster shared by the tests of a module."""
    ray.shutdown()
    with ray.init(**CLUSTER) as context:
        yield context


def _start_clusters():
    ray.shutdown()
    yield lambda **arguments: ray.init(**{**CLUSTER, **arguments})
    ray.shutdown()


@pytest.fixture
def start_cluster():
    """Starts a cluster of the test's own with the given arguments of ray.init."""
    yield from _start_clusters()


@pytest.fixture(scope="module")
def start_module_cluster():
    """As start_cluster, for a cluster that the tests of a module share."""
    yield from _start_clusters()


@pytest.fixture
def run_program(tmp_path):
    """Starts Python programs that end with the test, at the latest."""
    programs = []

    def run(source, **environment):
        path = tmp_path / f"program{len(programs)}.py"
        path.write_text(source)
        programs.append(Program(path, environment))
        return programs[-1]

    yield run
    for program in programs:
        program.kill()
