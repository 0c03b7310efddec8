"""Lost objects are computed again, and what cannot be says why."""

import os
import signal
import time

import numpy as np
import pytest

import ray
from integration.programs import wait_until
from ray.cluster_utils import Cluster

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
def cluster():
    """A head without CPUs, with the driver; the test adds the others."""
    made = Cluster()
    made.add_node(num_cpus=0)
    ray.init(address=made.address, log_to_driver=False)
    yield made
    ray.shutdown()
    made.shutdown()


@pytest.fixture
def count(tmp_path):
    """A function that tasks call to leave a mark, and one that counts the marks."""
    path = str(tmp_path / "marks")

    def mark():
        with open(path, "a") as file:
            file.write("x")

    return mark, lambda: os.path.getsize(path) if os.path.exists(path) else 0


@pytest.fixture
def worker(cluster):
    """A node with CPUs, on which what is computed stays."""
    return cluster.add_node(num_cpus=2)


@pytest.fixture
def make(count):
    """A task that marks each time it runs, with a value that goes to the store."""
    mark, _ = count

    @ray.remote
    def make():
        mark()
        return np.ones(300_000)

    return make


def lose(cluster, node, cpus=2):
    cluster.remove_node(node)
    return cluster.add_node(num_cpus=cpus)


def made_there(ref):
    """Once it is computed, without a copy of it here."""
    ray.wait([ref], fetch_local=False)
    return ref


def test_a_chain_is_computed_again_though_its_inputs_were_let_go(cluster, worker, count):
    mark, marks = count

    @ray.remote
    def first():
        mark()
        return np.arange(300_000)

    @ray.remote
    def double(data):
        mark()
        return data * 2

    ref = first.remote()
    for _ in range(3):
        ref = double.remote(ref)
    made_there(ref)
    assert marks() == 4
    lose(cluster, worker)
    np.testing.assert_array_equal(ray.get(ref, timeout=60), np.arange(300_000) * 8)
    assert marks() == 8


def test_an_argument_that_was_put_is_there_for_the_second_computation(cluster, worker, count):
    mark, marks = count

    @ray.remote
    def double(data):
        mark()
        return data * 2

    doubled = double.remote(ray.put(np.arange(300_000)))  # nobody else refers to what was put
    given = double.remote(np.ones(300_000))
    of_one_attempt = double.options(max_retries=0).remote(np.arange(300_000))
    of_that = double.remote(of_one_attempt)
    del of_one_attempt
    for ref in (doubled, given, of_that):
        made_there(ref)
    lose(cluster, worker)
    assert int(ray.get(doubled)[299_999]) == 599_998
    assert int(ray.get(given)[0]) == 2
    with pytest.raises(ray.exceptions.ObjectLostError, match="max_retries=0"):
        ray.get(of_that, timeout=60)  # what it needs was on the lost node
    assert marks() == 4 + 2


def test_a_copy_elsewhere_spares_the_computation(cluster, worker, make, count):
    _, marks = count
    ref = make.remote()
    assert ray.get(ref).sum() == 300_000  # A copy is on the driver's node now.
    lose(cluster, worker)
    assert ray.get(ref, timeout=60).sum() == 300_000
    assert marks() == 1


def test_what_was_waited_for_is_here(cluster, worker):
    @ray.remote(max_retries=0)
    def make(i):
        return np.full(300_000, i)

    refs = [make.remote(i) for i in range(10)]
    ray.wait(refs, num_returns=10, fetch_local=False)
    assert ray.wait(refs, num_returns=10, timeout=60) == (refs, [])
    cluster.remove_node(worker, allow_graceful=False)
    assert [int(value[0]) for value in ray.get(refs, timeout=60)] == list(range(10))


def test_a_wait_has_a_lost_value_computed_again(cluster, worker, make, count):
    _, marks = count
    ref = made_there(make.remote())
    cluster.remove_node(worker, allow_graceful=False)
    assert ray.wait([ref], timeout=1) == ([], [ref])
    cluster.add_node(num_cpus=2)
    assert ray.wait([ref], timeout=60) == ([ref], [])
    assert marks() == 2


def test_items_of_a_generator_are_made_again(cluster, worker):
    @ray.remote
    def items():
        for i in range(4):
            yield np.full(300_000, i)

    refs = list(items.remote())
    ray.wait(refs, num_returns=4, fetch_local=False)
    lose(cluster, worker)
    assert [int(ray.get(ref, timeout=60)[0]) for ref in refs] == [0, 1, 2, 3]


def test_a_borrower_gets_what_was_computed_again(cluster):
    worker = cluster.add_node(num_cpus=2, resources={"lost": 1})
    reader_node = cluster.add_node(num_cpus=1, resources={"reader": 1})
    assert reader_node is not None

    @ray.remote(resources={"lost": 0.1}, num_cpus=0)
    def make():
        return np.full(300_000, 3)

    @ray.remote(resources={"reader": 1}, num_cpus=0)
    class Reader:
        def hold(self, boxed):
            self.boxed = boxed

        def read(self):
            return int(ray.get(self.boxed[0]).sum())

    ref = made_there(make.remote())
    reader = Reader.remote()
    ray.get(reader.hold.remote([ref]))
    cluster.remove_node(worker)
    cluster.add_node(num_cpus=2, resources={"lost": 1})
    assert ray.get(reader.read.remote(), timeout=60) == 900_000


def test_results_of_actor_calls_are_computed_again_if_they_may(cluster):
    worker = cluster.add_node(num_cpus=2, resources={"spot": 1})

    @ray.remote(max_restarts=1, max_task_retries=2)
    class Maker:
        def make(self):
            return np.full(300_000, 2)

    maker = Maker.options(num_cpus=1).remote()
    ref = made_there(maker.make.remote())
    lose(cluster, worker)
    assert int(ray.get(ref, timeout=60).sum()) == 600_000


def test_an_actor_computes_again_what_its_next_call_waits_for(cluster, worker):
    @ray.remote(num_cpus=2, max_restarts=1, max_task_retries=-1)
    class Maker:
        def make(self):
            return np.full(300_000, 2)

        def sleep(self):
            time.sleep(1)

        def total(self, data):
            return int(data.sum())

    maker = Maker.remote()
    data = made_there(maker.make.remote())
    slept, total, last = maker.sleep.remote(), maker.total.remote(data), maker.sleep.remote()
    lose(cluster, worker)
    assert ray.get(total, timeout=60) == 600_000
    ray.get([slept, last], timeout=60)


def all_cpus_are_free():
    return ray.available_resources().get("CPU") == ray.cluster_resources()["CPU"]


def test_results_of_an_actor_that_nobody_holds_are_computed_again(cluster, worker, count):
    mark, marks = count

    @ray.remote(num_cpus=2, max_restarts=1, max_task_retries=1)
    class Maker:
        def __init__(self, small, large):
            mark()
            self.base = small + int(large[0])

        def make(self, i):
            return np.full(300_000, self.base + i)

    maker = Maker.options(name="maker").remote(ray.put(1), np.full(50_000, 10))
    refs = [made_there(maker.make.remote(i)) for i in range(2)]
    del maker
    wait_until(all_cpus_are_free)
    taker = Maker.options(name="maker", num_cpus=0).remote(0, [0])  # the name is free
    ray.get(taker.make.remote(0))
    lose(cluster, worker)
    assert [int(value[0]) for value in ray.get(refs, timeout=60)] == [11, 12]
    assert marks() == 3  # these two, and one more for both calls
    del taker
    wait_until(all_cpus_are_free)


@pytest.mark.parametrize("restarts, killed", [(0, False), (1, True)])
def test_an_actor_that_may_not_restart_computes_nothing_again(cluster, worker, restarts, killed):
    @ray.remote(num_cpus=2, max_restarts=restarts, max_task_retries=1)
    class Maker:
        def make(self):
            return np.ones(300_000)

    maker = Maker.remote()
    ref = made_there(maker.make.remote())
    if killed:
        ray.kill(maker)
    del maker
    wait_until(all_cpus_are_free)
    lose(cluster, worker)
    with pytest.raises(ray.exceptions.ActorDiedError):
        ray.get(ref, timeout=60)


def test_without_retries_left_the_error_says_so(cluster, worker):
    @ray.remote(max_retries=1)
    def make():
        return np.ones(300_000)

    ref = made_there(make.remote())
    worker = lose(cluster, worker)
    ray.wait([ref], fetch_local=False, timeout=60)
    lose(cluster, worker)
    with pytest.raises(ray.exceptions.ObjectReconstructionFailedError, match="max_retries"):
        ray.get(ref, timeout=60)


def test_a_task_waits_for_an_argument_that_is_computed_again(cluster, make, count):
    _, marks = count
    worker = cluster.add_node(num_cpus=1)

    @ray.remote
    def total(data):
        return int(data.sum())

    ref = made_there(make.remote())
    lose(cluster, worker, cpus=1)  # One CPU: who waits for the argument must not hold it.
    assert ray.get(total.remote(ref), timeout=60) == 300_000
    assert marks() == 2


def test_a_worker_that_dies_with_its_node_alive_loses_no_object(cluster):
    cluster.add_node(num_cpus=2)

    @ray.remote
    def make():
        return os.getpid(), np.ones(300_000)

    ref = make.remote()
    pid = ray.get(ref)[0]
    os.kill(pid, signal.SIGKILL)
    assert ray.get(ref, timeout=60)[1].sum() == 300_000


def test_an_object_larger_than_its_nodes_store_goes_to_another_node(cluster):
    cluster.add_node(num_cpus=1, object_store_memory=80 << 20)

    @ray.remote
    def make():
        return np.arange(15 << 20)

    data = ray.get(make.remote(), timeout=60)
    assert data.shape == (15 << 20,)
    assert int(data[-1]) == (15 << 20) - 1 and int(data[1 << 20]) == 1 << 20
