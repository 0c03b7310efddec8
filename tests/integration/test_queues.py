"""ray.util.queue.Queue beyond what the specification asks."""

import asyncio
import pickle

import pytest

import ray
from integration.programs import wait_until
from ray.util.queue import Empty, Full, Queue


@pytest.fixture
def queue(cluster):
    queue = Queue(maxsize=2)
    yield queue
    queue.shutdown(force=True)


def test_copies_are_the_same_queue(queue):
    pickle.loads(pickle.dumps(queue)).put("a")
    assert queue.get() == "a"


def test_producer_waits_for_room(queue):
    @ray.remote(num_cpus=0)
    def produce(queue):
        for item in range(6):
            queue.put(item)

    done = produce.remote(queue)
    wait_until(queue.full)
    assert [queue.get(timeout=30) for _ in range(6)] == list(range(6))
    ray.get(done)


@pytest.mark.ours_only
def test_any_number_of_waiting_readers_leaves_room_for_a_writer(cluster):
    queue = Queue()
    readers = [queue.actor.get.remote(None) for _ in range(1100)]
    queue.put_nowait_batch(range(1100))
    assert sorted(ray.get(readers, timeout=50)) == list(range(1100))


def test_errors_are_plain(queue):
    with pytest.raises(Empty) as caught:
        queue.get(timeout=0)
    assert caught.type.__name__ in ("Empty", "RayTaskError(Empty)")
    for item in range(2):
        queue.put(item)
    with pytest.raises(Full):
        queue.put(2, timeout=0)


@pytest.mark.ours_only
def test_cancelled_reader_takes_no_item(queue):
    async def give_up():
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(queue.get_async(), 0.2)

    asyncio.run(give_up())
    queue.put("kept")
    assert queue.get(timeout=10) == "kept"


def test_bad_arguments(queue):
    with pytest.raises(TypeError, match="items"):
        queue.put_nowait_batch(3)
    with pytest.raises(TypeError, match="num_items"):
        queue.get_nowait_batch("1")
    with pytest.raises(ValueError, match="num_items"):
        queue.get_nowait_batch(-1)
    with pytest.raises(ValueError, match="timeout"):
        queue.put(1, timeout=-1)


def test_negative_size_is_no_limit(cluster):
    queue = Queue(maxsize=-1)
    queue.put_nowait_batch(range(50))
    assert queue.qsize() == 50 and not queue.full()
    assert queue.get_nowait_batch(0) == []


@pytest.mark.ours_only
def test_generator_is_a_batch(queue):
    queue.put_nowait_batch(item for item in "ab")
    assert queue.get_nowait_batch(2) == ["a", "b"]


@pytest.mark.ours_only
def test_queue_that_was_shut_down_says_so(cluster):
    queue = Queue()
    queue.shutdown()
    queue.shutdown()
    with pytest.raises(RuntimeError, match="shut down"):
        queue.put(1)
