"""Nodes that leave in good order, and copies that are the last ones of an object."""

import os
import subprocess
import time

import numpy as np
import pytest

import ray
from integration.command_line import RAY
from ray.cluster_utils import Cluster

pytestmark = pytest.mark.timeout(120)
MB = 1 << 20


@pytest.fixture
def cluster():
    """A head without CPUs, with the driver; the test adds the others."""
    made = Cluster()
    made.add_node(num_cpus=0, object_store_memory=100 * MB)
    ray.init(address=made.address, log_to_driver=False)
    yield made
    ray.shutdown()
    made.shutdown()


@pytest.fixture
def marks(tmp_path):
    """A file that tasks write an x to, and how many there are."""
    path = tmp_path / "marks"
    path.touch()
    return str(path), lambda: os.path.getsize(path)


def drain(cluster, node, seconds=60):
    """Orders it."""
    subprocess.run(
        [
            *(*RAY, "drain-node", f"--address={cluster.address}", f"--node-id={node.node_id}"),
            *("--reason=DRAIN_NODE_REASON_PREEMPTION", "--reason-message=the machine goes"),
            f"--deadline-remaining-seconds={seconds}",
        ],
        check=True,
        timeout=60,
    )


def wait_until_gone(node):
    deadline = time.monotonic() + 60
    while node.node_id in [each["NodeID"] for each in ray.nodes() if each["Alive"]]:
        assert time.monotonic() < deadline, "the node does not leave"
        time.sleep(0.1)


@ray.remote(max_retries=0)
def make(path, megabytes, value):
    with open(path, "a") as file:
        file.write("x")
    return np.full(megabytes * MB, value, np.uint8)


@ray.remote(num_cpus=0)
def total(data):
    return int(data.sum())


def test_a_drained_node_hands_its_objects_over(cluster, marks):
    path, count = marks
    leaving = cluster.add_node(num_cpus=2, object_store_memory=200 * MB)
    refs = [make.remote(path, 2, i) for i in range(20)]
    ray.wait(refs, num_returns=20, fetch_local=False)
    freed = refs.pop()
    staying = cluster.add_node(num_cpus=1, object_store_memory=200 * MB, resources={"stay": 1})
    drain(cluster, leaving)
    del freed
    wait_until_gone(leaving)

    @ray.remote(resources={"stay": 0.1}, num_cpus=0)
    def fill():
        """Makes the store drop all that it may."""
        return len([ray.put(np.ones(20 * MB, np.uint8)) for _ in range(12)])

    assert ray.get(fill.remote()) == 12
    reader = total.options(resources={"stay": 0.1})
    assert ray.get([reader.remote(ref) for ref in refs], timeout=60) == [
        i * 2 * MB for i in range(19)
    ]
    assert [int(value[0]) for value in ray.get(refs, timeout=60)] == list(range(19))
    assert count() == 20
    assert staying.any_processes_alive()


def test_a_drained_node_lets_its_tasks_end_and_moves_what_they_made(cluster, marks):
    path, count = marks
    leaving = cluster.add_node(num_cpus=1)

    @ray.remote(max_retries=0)
    def slow():
        with open(path, "a") as file:
            file.write("x")
        time.sleep(2)
        return np.full(4 * MB, 9, np.uint8)

    ref = slow.remote()
    while count() == 0:
        time.sleep(0.05)
    drain(cluster, leaving)
    wait_until_gone(leaving)
    assert int(ray.get(ref, timeout=60)[-1]) == 9
    assert count() == 1


def test_a_node_that_is_never_idle_hands_its_objects_over_before_it_goes(cluster, marks):
    path, count = marks
    leaving = cluster.add_node(num_cpus=2, resources={"leave": 1})
    cluster.add_node(num_cpus=1)

    @ray.remote(num_cpus=1, resources={"leave": 0.1}, max_retries=0)
    def run_on():
        time.sleep(600)

    refs = [make.options(resources={"leave": 0.1}).remote(path, 2, i) for i in range(5)]
    ray.wait(refs, num_returns=5, fetch_local=False)
    endless = run_on.remote()
    ray.wait([endless], timeout=0.5)
    drain(cluster, leaving, seconds=4)
    wait_until_gone(leaving)
    assert [int(value[0]) for value in ray.get(refs, timeout=60)] == list(range(5))
    assert count() == 5, "none was computed again"
    with pytest.raises(ray.exceptions.RayError):
        ray.get(endless, timeout=60)


def test_the_last_copy_of_a_lost_object_is_kept(cluster, marks):
    path, count = marks
    lost = cluster.add_node(num_cpus=1, resources={"lost": 1})
    cluster.add_node(num_cpus=1, object_store_memory=80 * MB, resources={"left": 1})
    ref = make.options(resources={"lost": 1}).remote(path, 20, 6)
    reader = total.options(resources={"left": 0.1})
    assert ray.get(reader.remote(ref)) == 6 * 20 * MB  # a copy is there now
    cluster.remove_node(lost, allow_graceful=False)
    wait_until_gone(lost)

    @ray.remote(resources={"left": 0.1}, num_cpus=0)
    def fill():
        """Makes the store drop all that it may."""
        return len([ray.put(np.ones(10 * MB, np.uint8)) for _ in range(12)])

    assert ray.get(fill.remote()) == 12
    assert int(ray.get(ref, timeout=60)[0]) == 6
    assert count() == 1


def test_what_runs_on_a_draining_node_submits_to_others(cluster):
    leaving = cluster.add_node(num_cpus=4, resources={"leave": 1})
    elsewhere = cluster.add_node(num_cpus=2)

    @ray.remote
    def where():
        return ray.get_runtime_context().get_node_id()

    @ray.remote(num_cpus=0, resources={"leave": 1})
    class Parent:
        def places(self):
            return set(ray.get([where.remote() for _ in range(8)], timeout=30))

    parent = Parent.remote()
    assert leaving.node_id in ray.get(parent.places.remote())
    drain(cluster, leaving, seconds=3600)
    deadline = time.monotonic() + 20
    while ray.get(parent.places.remote()) != {elsewhere.node_id}:
        assert time.monotonic() < deadline, "tasks still start on the draining node"
    del parent
    wait_until_gone(leaving)
