"""ray.util.ActorPool beyond what the specification asks."""

import os
import time

import pytest

import ray
from ray.exceptions import ActorDiedError
from ray.util import ActorPool


@ray.remote(num_cpus=0)
class Worker:
    def double(self, x):
        return 2 * x

    def sleep(self, seconds):
        time.sleep(seconds)
        return seconds

    def die(self, _):
        os._exit(1)


@pytest.fixture
def workers(cluster):
    return [Worker.remote(), Worker.remote()]


def double(actor, x):
    return actor.double.remote(x)


def sleep(actor, seconds):
    return actor.sleep.remote(seconds)


def test_ordered_after_unordered_is_refused_where_it_was_passed(workers):
    pool = ActorPool(workers)
    pool.submit(sleep, 0.5)
    pool.submit(double, 1)
    pool.submit(double, 5)
    assert pool.get_next_unordered() == 2
    assert pool.get_next() == 10
    with pytest.raises(ValueError, match="get_next_unordered"):
        pool.get_next()


def test_timed_out_result_can_be_dropped(workers):
    pool = ActorPool(workers)
    pool.submit(sleep, 0.5)
    with pytest.raises(TimeoutError, match="ignored"):
        pool.get_next(timeout=0.01, ignore_if_timedout=True)
    assert not pool.has_next()
    pool.submit(double, 1)
    assert pool.get_next() == 2


def test_timed_out_result_waits_otherwise(workers):
    pool = ActorPool(workers)
    pool.submit(sleep, 0.3)
    with pytest.raises(TimeoutError):
        pool.get_next(timeout=0.01)
    assert pool.get_next() == 0.3


def test_map_drops_results_nobody_took(workers):
    pool = ActorPool(workers)
    for x in range(5):
        pool.submit(double, x)
    assert list(pool.map(double, [7])) == [14]
    assert list(pool.map(double, iter([1, 2]))) == [2, 4]


def test_dead_actor_leaves_the_pool(cluster):
    doomed = Worker.remote()
    pool = ActorPool([doomed])
    pool.submit(lambda actor, x: actor.die.remote(x), 0)
    with pytest.raises(ActorDiedError):
        pool.get_next()
    assert not pool.has_free() and not pool.has_next()
    pool.push(Worker.remote())
    pool.submit(double, 4)
    assert pool.get_next() == 8


def test_call_that_cannot_be_made_leaves_its_actor_idle(workers):
    pool = ActorPool(workers)
    with pytest.raises(AttributeError):
        pool.submit(lambda actor, x: actor.no_such_method.remote(x), 1)
    assert [pool.pop_idle() is not None for _ in range(3)] == [True, True, False]


def test_no_results_end_iteration(workers):
    pool = ActorPool(workers)
    for take in (pool.get_next, pool.get_next_unordered):
        with pytest.raises(StopIteration):
            take()


def test_busy_actor_cannot_be_pushed(workers):
    pool = ActorPool(workers)
    pool.submit(sleep, 0.1)
    for worker in workers:
        with pytest.raises(ValueError, match="already belongs"):
            pool.push(worker)
