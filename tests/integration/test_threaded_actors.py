"""Actors whose methods run in several threads."""

import threading

import pytest

import ray

pytestmark = pytest.mark.usefixtures("cluster")


@ray.remote(num_cpus=0, max_concurrency=16)
class Threaded:
    def __init__(self):
        self.lock = threading.Lock()
        self.calls = 0

    def count(self):
        with self.lock:
            self.calls += 1

    def total(self):
        return self.calls


def test_every_call_is_answered():
    """Idle threads look for work while others bring it in: no call may fall between them."""
    actor = Threaded.remote()
    for _ in range(2000):
        ray.get([actor.count.remote() for _ in range(4)], timeout=5)
    assert ray.get(actor.total.remote()) == 8000


def test_calls_meet_in_as_many_threads_as_allowed():
    @ray.remote(num_cpus=0, max_concurrency=4)
    class Meeting:
        def __init__(self):
            self.barrier = threading.Barrier(4)

        def join(self):
            return self.barrier.wait(timeout=20)

    meeting = Meeting.remote()
    assert sorted(ray.get([meeting.join.remote() for _ in range(4)])) == [0, 1, 2, 3]
