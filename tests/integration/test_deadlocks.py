"""Calls that wait for each other for ever are told so instead of hanging."""

from __future__ import annotations

import time

import pytest

import ray
from ray.exceptions import DeadlockError, GetTimeoutError


@pytest.fixture(scope="module", autouse=True)
def session(start_module_cluster):
    start_module_cluster(num_cpus=2, _system_config={"deadlock_probe_ms": 200})


@ray.remote(num_cpus=0)
class Node:
    def __init__(self):
        self.next = None

    def link(self, following):
        self.next = following

    def value(self):
        return 1

    def ask(self, hops, timeout=None):
        """Asks the next actor, which asks on."""
        if hops == 0:
            return ray.get(self.next.value.remote(), timeout=timeout)
        return ray.get(self.next.ask.remote(hops - 1, timeout), timeout=timeout)

    def slow(self, seconds):
        time.sleep(seconds)
        return "slept"

    def wait_for_slow(self, seconds):
        return ray.get(self.next.slow.remote(seconds))


def ring(size):
    nodes = [Node.remote() for _ in range(size)]
    ray.get([node.link.remote(nodes[(i + 1) % size]) for i, node in enumerate(nodes)])
    return nodes


@pytest.mark.parametrize("size", [1, 2, 5])
def test_a_ring_of_actors_is_told_that_it_waits_for_itself(size):
    nodes = ring(size)
    with pytest.raises(DeadlockError, match="Node.ask"):
        ray.get(nodes[0].ask.remote(size - 1), timeout=30)
    assert ray.get([node.value.remote() for node in nodes], timeout=30) == [1] * size


def test_a_get_with_a_timeout_is_left_alone():
    (node,) = ring(1)
    with pytest.raises(GetTimeoutError):
        ray.get(node.ask.remote(0, 1.0), timeout=30)


def test_a_task_in_the_ring():
    (node,) = ring(1)

    @ray.remote
    def over(actor):
        return ray.get(actor.value.remote())

    @ray.remote(num_cpus=0)
    class Outer:
        def start(self, me):
            return ray.get(over.remote(me))

        def value(self):
            return 1

    outer = Outer.remote()
    # Either of the two may be the one that gives up.
    with pytest.raises(DeadlockError, match="Outer.start -> over|over -> Outer.start"):
        ray.get(outer.start.remote(outer), timeout=30)


def test_an_argument_in_the_ring():
    @ray.remote
    def double(x):
        return 2 * x

    @ray.remote(num_cpus=0)
    class Outer:
        def start(self, me):
            return ray.get(double.remote(me.value.remote()))

        def value(self):
            return 1

    outer = Outer.remote()
    with pytest.raises(DeadlockError, match="double"):
        ray.get(outer.start.remote(outer), timeout=30)


def test_long_waits_are_no_deadlocks():
    first, second = ring(2)
    assert ray.get(first.wait_for_slow.remote(1.5), timeout=30) == "slept"
    # Both are busy, but neither waits for the other in a ring.
    both = [first.wait_for_slow.remote(1.0), second.slow.remote(0.5)]
    assert ray.get(both, timeout=30) == ["slept", "slept"]


def test_an_actor_with_threads_for_both_is_no_deadlock():
    node = Node.options(max_concurrency=2).remote()
    ray.get(node.link.remote(node))
    assert ray.get(node.ask.remote(0), timeout=30) == 1
