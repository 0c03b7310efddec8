"""What the tests that break things share. A short run is part of `make test`; `make soak`
(RAY_TEST_SOAK=1) runs them for long and prints figures."""

import os

import pytest

import ray

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")


@pytest.fixture
def soak():
    """Whether this is the long run."""
    return os.environ.get("RAY_TEST_SOAK") == "1"


@pytest.fixture
def start_cluster():
    """Starts a cluster of the test's own with the given arguments of ray.init."""
    ray.shutdown()
    yield lambda **arguments: ray.init(
        **{"address": "local", "num_cpus": 8, "log_to_driver": False, **arguments}
    )
    ray.shutdown()
