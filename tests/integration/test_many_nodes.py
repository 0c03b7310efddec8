"""Tasks, objects, actors and output across the nodes of a cluster."""

import time

import numpy as np
import pytest

import ray
from integration.programs import wait_until
from ray.cluster_utils import Cluster
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module")
def nodes():
    """A head without CPUs and two nodes with two, named by a resource each."""
    made = Cluster()
    made.add_node(num_cpus=0)
    found = {name: made.add_node(num_cpus=2, resources={name: 4}).node_id for name in ("a", "b")}
    ray.init(address=made.address)
    made.wait_for_nodes()
    yield found
    ray.shutdown()
    made.shutdown()


def node_id():
    return ray.get_runtime_context().get_node_id()


@ray.remote
def where(*_):
    return node_id()


@ray.remote
def make(megabytes):
    return np.full(megabytes << 20, 7, dtype=np.uint8)


@ray.remote
class Keeper:
    def __init__(self, value=None):
        self.value = value

    def total(self, value=None):
        return int((self.value if value is None else value).sum())

    def make(self, megabytes):
        return np.full(megabytes << 20, 3, dtype=np.uint8)

    def put(self, megabytes):
        return [ray.put(np.full(megabytes << 20, 5, dtype=np.uint8))]

    def read(self, boxed):
        return int(ray.get(boxed[0]).sum())

    def wait(self, boxed):
        return len(ray.wait(boxed, timeout=30)[0])

    def call(self, other, boxed):
        return ray.get(other.read.remote(boxed))


def test_tasks_run_where_there_are_cpus(nodes):
    assert set(ray.get([where.remote() for _ in range(40)])) <= set(nodes.values())


def test_many_small_tasks_of_a_driver_without_cpus(nodes):
    @ray.remote
    def add(x):
        return x + 1

    assert ray.get([add.remote(i) for i in range(3000)]) == list(range(1, 3001))


def test_a_task_runs_where_its_large_argument_is(nodes):
    for name in ("a", "b"):
        data = make.options(resources={name: 1}).remote(8)
        ray.wait([data], fetch_local=False)
        assert ray.get(where.options(num_cpus=0).remote(data)) == nodes[name]


def test_objects_go_everywhere(nodes):
    data = make.options(resources={"a": 1}).remote(4)
    sums = [
        Keeper.options(resources={name: 1}, num_cpus=0).remote().total.remote(data)
        for name in ("a", "b", "a", "b")
    ]
    assert ray.get(sums) == [7 * (4 << 20)] * 4
    assert int(ray.get(data).sum()) == 7 * (4 << 20)


def test_an_actor_made_elsewhere_gets_large_creation_arguments(nodes):
    value = np.ones(2 << 20, dtype=np.uint8)
    keeper = Keeper.options(resources={"b": 1}, num_cpus=0).remote(value)
    assert ray.get(keeper.total.remote()) == 2 << 20
    by_reference = Keeper.options(resources={"a": 1}, num_cpus=0).remote(ray.put(value))
    assert ray.get(by_reference.total.remote()) == 2 << 20


def test_references_inside_values_cross_nodes(nodes):
    owner = Keeper.options(resources={"a": 1}, num_cpus=0).remote()
    reader = Keeper.options(resources={"b": 1}, num_cpus=0).remote()
    boxed = ray.get(owner.put.remote(2))
    assert ray.get(reader.wait.remote(boxed)) == 1
    assert ray.get(reader.read.remote(boxed)) == 5 * (2 << 20)
    assert ray.get(owner.call.remote(reader, boxed)) == 5 * (2 << 20)
    assert int(ray.get(boxed[0]).sum()) == 5 * (2 << 20)


def test_freed_objects_leave_every_node(nodes):
    def used():
        return sum(
            node["Resources"].get("object_store_memory", 0) for node in ray.nodes()
        ) - ray.available_resources().get("object_store_memory", 0)

    before = used()
    data = make.options(resources={"a": 1}).remote(32)
    ray.get(Keeper.options(resources={"b": 1}, num_cpus=0).remote().total.remote(data))
    del data
    deadline = time.monotonic() + 20
    while used() > before + (1 << 20):
        assert time.monotonic() < deadline, "the object's bytes are still held"
        time.sleep(0.1)


def test_generators_and_errors_cross_nodes(nodes):
    @ray.remote(resources={"b": 1}, num_cpus=0)
    def count(n):
        for i in range(n):
            yield np.full(1 << 18, i, dtype=np.uint8)
        raise ValueError("the end of it")

    seen = []
    with pytest.raises(ValueError, match="the end of it"):
        for ref in count.remote(5):
            seen.append(int(ray.get(ref)[0]))
    assert seen == list(range(5))


def test_nested_tasks_spread_over_the_cluster(nodes):
    @ray.remote
    def tree(depth):
        if depth == 0:
            return 1
        return sum(ray.get([tree.remote(depth - 1) for _ in range(2)]))

    assert ray.get(tree.remote(5)) == 32


def test_the_timeline_has_tasks_of_all_nodes(nodes):
    @ray.remote(num_cpus=0)
    def somewhere():
        return ray.get_runtime_context().get_worker_id()

    workers = ray.get([somewhere.options(resources={name: 1}).remote() for name in ("a", "b")])
    expected = {f"worker:{worker}" for worker in workers}
    deadline = time.monotonic() + 20
    while True:
        spans = [span for span in ray.timeline() if span["args"].get("name") == "somewhere"]
        if {span["tid"] for span in spans} == expected:
            break
        assert time.monotonic() < deadline, "not all nodes' tasks appear"
        time.sleep(0.1)
    assert len({span["pid"] for span in spans}) in (1, 2)


def test_cancel_reaches_another_node(nodes):
    @ray.remote(resources={"a": 1}, num_cpus=0)
    def sleep():
        time.sleep(100)

    ref = sleep.remote()
    assert ray.wait([ref], timeout=0.5)[0] == []
    ray.cancel(ref)
    with pytest.raises(ray.exceptions.TaskCancelledError):
        ray.get(ref, timeout=30)


def test_a_crash_elsewhere_tells_how_the_worker_ended(nodes):
    @ray.remote(resources={"b": 1}, num_cpus=0, max_retries=0)
    def crash():
        import os
        import signal

        os.kill(os.getpid(), signal.SIGSEGV)

    with pytest.raises(ray.exceptions.WorkerCrashedError, match="SIGSEGV"):
        ray.get(crash.remote(), timeout=30)


def test_output_of_other_nodes_reaches_the_driver(nodes, capfd):
    @ray.remote(resources={"a": 1}, num_cpus=0)
    def speak():
        print("from the other node")

    ray.get(speak.remote())
    text, deadline = "", time.monotonic() + 20
    while "from the other node" not in text and time.monotonic() < deadline:
        time.sleep(0.1)
        text += "".join(capfd.readouterr())
    assert "from the other node" in text


def test_named_actors_are_found_from_everywhere(nodes):
    keeper = Keeper.options(name="far", resources={"a": 1}, num_cpus=0).remote()
    ray.get(keeper.make.remote(1))

    @ray.remote(resources={"b": 1}, num_cpus=0)
    def use():
        return int(ray.get(ray.get_actor("far").make.remote(1))[0])

    assert ray.get(use.remote()) == 3


def test_affinity_chooses_the_node(nodes):
    for node in nodes.values():
        strategy = NodeAffinitySchedulingStrategy(node, soft=False)
        assert ray.get(where.options(scheduling_strategy=strategy).remote()) == node


def test_affinity_to_a_busy_node(nodes, tmp_path):
    @ray.remote(num_cpus=2)
    def hold(marker, end):
        marker.touch()
        while not end.exists():
            time.sleep(0.01)

    @ray.remote(num_cpus=1)
    class Settler:
        def where(self):
            return node_id()

    for name, other in (("a", "b"), ("b", "a")):
        named = nodes[name]
        busy = hold.options(
            scheduling_strategy=NodeAffinitySchedulingStrategy(named, soft=False)
        ).remote(tmp_path / name, tmp_path / f"{name} ends")
        wait_until((tmp_path / name).exists)
        spill = NodeAffinitySchedulingStrategy(named, soft=True, _spill_on_unavailable=True)
        assert ray.get(where.options(scheduling_strategy=spill).remote()) == nodes[other]
        settler = Settler.options(scheduling_strategy=spill).remote()
        assert ray.get(settler.where.remote()) == nodes[other]
        fail = NodeAffinitySchedulingStrategy(named, soft=False, _fail_on_unavailable=True)
        with pytest.raises(ray.exceptions.TaskUnschedulableError, match="free now"):
            ray.get(where.options(scheduling_strategy=fail).remote())
        with pytest.raises(ray.exceptions.ActorUnschedulableError, match="free now"):
            ray.get(Settler.options(scheduling_strategy=fail).remote().where.remote())
        # Without either, both wait.
        soft = NodeAffinitySchedulingStrategy(named, soft=True)
        patient = Settler.options(scheduling_strategy=soft).remote()
        waits = where.options(scheduling_strategy=soft).remote()
        assert ray.wait([waits, busy], timeout=0.2)[0] == []
        (tmp_path / f"{name} ends").touch()
        assert ray.get([waits, patient.where.remote()]) == [named, named]
        assert ray.get(where.options(scheduling_strategy=fail).remote()) == named
        time.sleep(0.5)  # Nothing is held any more for the next task of the same kind.
        assert ray.get(where.options(scheduling_strategy=spill).remote()) == named
        for actor in (settler, patient):
            ray.kill(actor)
