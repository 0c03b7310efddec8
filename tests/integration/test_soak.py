"""No process grows with the number of tasks and actors that a program has run. The long run is
``make soak``."""

import os

import pytest

import ray
from soak import soak

pytestmark = pytest.mark.ours_only


@pytest.mark.timeout(300)
def test_memory_stays_flat(start_cluster):
    start_cluster(_system_config=soak.SYSTEM_CONFIG)
    samples = soak.soak(tasks=20_000, actors=200, batches=20)
    for growth in soak.growths(samples):
        assert growth.is_flat(slack_kib=2048), f"{growth.kind}: {growth.before} -> {growth.after}"


def test_tasks_that_are_handed_back_leave_nothing_with_their_owner(start_cluster):
    # So many short ones at once that most wait behind another at a worker, until some are taken
    # back and run elsewhere.
    start_cluster()
    own = []
    for _ in range(60):
        ray.get([soak.nothing.remote() for _ in range(1000)])
        own.append(soak.own_kib(os.getpid()))
    assert own[-1] - own[20] < 1500, own
