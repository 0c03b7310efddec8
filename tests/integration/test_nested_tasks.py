"""Tasks that wait for tasks."""

import pytest

import ray


@pytest.fixture(scope="module", autouse=True)
def two_cpus(start_module_cluster):
    start_module_cluster(num_cpus=2)


@ray.remote
def depth(levels):
    return 0 if levels == 0 else 1 + ray.get(depth.remote(levels - 1))


@ray.remote
def fibonacci(n):
    if n < 2:
        return n
    return sum(ray.get([fibonacci.remote(n - 1), fibonacci.remote(n - 2)]))


def test_chain_deeper_than_the_cpus():
    assert ray.get(depth.remote(6)) == 6


def test_tree_wider_than_the_cpus():
    assert ray.get(fibonacci.remote(6)) == 8


def test_many_chains_at_once():
    assert ray.get([depth.remote(2) for _ in range(4)]) == [2] * 4


def test_wait_frees_the_cpu_too():
    @ray.remote
    def wait_for_child():
        ready, _ = ray.wait([depth.remote(1)])
        return ray.get(ready)

    assert ray.get([wait_for_child.remote() for _ in range(3)]) == [[1]] * 3


def test_actor_method_waits_for_tasks():
    @ray.remote
    class Parent:
        def children(self, count):
            return ray.get([depth.remote(1) for _ in range(count)])

    parents = [Parent.remote() for _ in range(2)]
    assert ray.get([parent.children.remote(3) for parent in parents]) == [[1] * 3] * 2


def test_queued_tasks_run_while_their_workers_neighbours_wait(tmp_path):
    """A task queued behind one that waits for it must not be stuck there."""
    path = str(tmp_path / "opened")

    @ray.remote
    def open_gate():
        open(path, "w").close()

    @ray.remote
    def wait_for_all(refs):
        return len(ray.get(refs))

    waiting = wait_for_all.remote([depth.remote(1) for _ in range(20)] + [open_gate.remote()])
    assert ray.get(waiting) == 21
