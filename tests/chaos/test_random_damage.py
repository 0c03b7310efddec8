"""Programs that must give the right answer while processes of their cluster are killed and stopped
at random. The damage follows from a seed; `make soak` runs many of them and prints it."""

import os
import time

import pytest

import ray
from chaos.damage import ALL_KINDS, RAYLET, WORKER, Damage, processes_of
from chaos.workloads import (
    NODE_CPUS,
    NODES,
    actors,
    check_nothing_is_held,
    gang,
    more_than_memory,
    shuffle,
    tree,
)
from integration.programs import wait_until
from ray.cluster_utils import Cluster

pytestmark = pytest.mark.timeout(300)

NODE = {"num_cpus": NODE_CPUS, "object_store_memory": 100 << 20}
# Less of it than a program of the long run lasts: what is killed without end makes no progress.
SHORT_DAMAGE_MAX, SOAK_DAMAGE_MAX = 8, 30


@pytest.fixture
def cluster():
    """A head without CPUs, with the driver, and nodes that may die."""
    ray.shutdown()
    made = Cluster()
    made.add_node(num_cpus=0, object_store_memory=100 << 20)
    for _ in range(NODES):
        made.add_node(**NODE)
    ray.init(address=made.address, log_to_driver=False)
    made.wait_for_nodes()
    yield made
    ray.shutdown()
    made.shutdown()


def check_nothing_is_left(session_dirs):
    wait_until(lambda: not processes_of(session_dirs), 10)
    for session_dir in session_dirs:
        assert set(os.listdir(session_dir)) <= {"logs"}, session_dir


@pytest.mark.parametrize(
    "kinds", [(WORKER,), (RAYLET,), ALL_KINDS], ids=["workers", "nodes", "all"]
)
@pytest.mark.parametrize("program", [shuffle, tree, actors, gang, more_than_memory])
def test_the_answer_is_right(cluster, soak, program, kinds):
    for seed in range(5 if soak else 1):
        with Damage(
            cluster,
            seed,
            kinds,
            node_args=NODE,
            limit=SOAK_DAMAGE_MAX if soak else SHORT_DAMAGE_MAX,
        ) as damage:
            rounds = 0
            deadline = time.monotonic() + (60 if soak else 1.5)
            while rounds == 0 or (time.monotonic() < deadline and not damage.is_over()):
                program(1000 * seed + rounds)
                rounds += 1
        if soak:
            print(f"\n{program.__name__}, seed {seed}: {rounds} rounds, damage {damage.summary()}")
        check_nothing_is_held()
    ray.shutdown()
    cluster.shutdown()
    check_nothing_is_left(damage.session_dirs)
