"""Generator tasks and methods beyond the specification: faults, actors, references, leaks."""

from __future__ import annotations

import asyncio
import gc
import os
import time

import numpy as np
import pytest

import ray
from integration.programs import wait_until
from ray._runtime import RUNTIME

pytestmark = pytest.mark.usefixtures("two_cpus")


@pytest.fixture(scope="module")
def two_cpus(start_module_cluster):
    start_module_cluster(num_cpus=2)


@ray.remote
def count(n):
    yield from range(n)


@ray.remote
class Counter:
    def count(self, n):
        yield from range(n)

    @ray.method(num_returns="dynamic")
    def gather(self, n):
        yield from range(n)

    def plain(self):
        return 1


@ray.remote
class AsyncCounter:
    async def count(self, n, pause=0.0):
        for i in range(n):
            await asyncio.sleep(pause)
            yield i

    def sync_count(self, n):
        yield from range(n)

    async def fail(self):
        yield 0
        raise KeyError("after one")

    @ray.method(_generator_backpressure_num_objects=2)
    async def log(self, path, n):
        for i in range(n):
            append(path)
            yield i


def append(path):
    with open(path, "a") as file:
        file.write("x")


def values(generator):
    out = []
    for ref in generator:
        try:
            out.append(ray.get(ref))
        except Exception as error:
            out.append(type(error))
    return out


def live_objects():
    gc.collect()
    return {ref for ref, held in RUNTIME.core.ref_counts().items() if any(held)}


def test_methods_of_sync_and_async_actors():
    assert values(Counter.remote().count.remote(3)) == [0, 1, 2]
    actor = AsyncCounter.remote()
    assert values(actor.count.remote(3)) == [0, 1, 2]
    assert values(actor.sync_count.remote(3)) == [0, 1, 2]


def test_error_of_an_async_generator_is_one_more_item():
    first, second = list(AsyncCounter.remote().fail.remote())
    assert ray.get(first) == 0
    with pytest.raises(KeyError, match="after one"):
        ray.get(second)


def test_streams_of_one_async_actor_run_at_once():
    actor = AsyncCounter.remote()
    slow, fast = actor.count.remote(3, 0.3), actor.count.remote(3)
    assert values(fast) == [0, 1, 2]
    assert not slow.is_finished() and values(slow) == [0, 1, 2] and slow.is_finished()


def test_backpressure_of_an_async_actor(tmp_path):
    log = tmp_path / "log"
    log.touch()
    generator = AsyncCounter.remote().log.remote(str(log), 6)
    wait_until(lambda: log.stat().st_size == 2)
    time.sleep(0.2)
    assert log.stat().st_size == 2
    assert ray.get(next(generator)) == 0
    wait_until(lambda: log.stat().st_size == 3)
    assert values(generator) == [1, 2, 3, 4, 5]


def test_a_crash_is_retried_and_items_come_once(tmp_path):
    @ray.remote(max_retries=1)
    def crash_once(marker):
        for i in range(4):
            yield np.full(50_000, i)
            if i == 2 and not os.path.exists(marker):
                open(marker, "w").close()
                time.sleep(0.2)
                os._exit(1)

    refs = list(crash_once.remote(str(tmp_path / "crashed")))
    assert [int(ray.get(ref)[0]) for ref in refs] == [0, 1, 2, 3]


def test_a_crash_without_retries_is_the_last_item():
    @ray.remote(max_retries=0)
    def crash():
        yield 0
        time.sleep(0.2)
        os._exit(1)

    assert values(crash.remote()) == [0, ray.exceptions.WorkerCrashedError]


def test_an_exception_is_retried_if_the_options_say_so(tmp_path):
    @ray.remote(max_retries=1, retry_exceptions=True)
    def fail_once(marker):
        yield 0
        if not os.path.exists(marker):
            open(marker, "w").close()
            raise ValueError("once")
        yield 1

    assert values(fail_once.remote(str(tmp_path / "failed"))) == [0, 1]


def test_backpressure_after_a_retry(tmp_path):
    @ray.remote(max_retries=1, _generator_backpressure_num_objects=1)
    def crash_once(marker):
        for i in range(5):
            yield i
            if i == 2 and not os.path.exists(marker):
                open(marker, "w").close()
                os._exit(1)

    assert values(crash_once.remote(str(tmp_path / "crashed"))) == [0, 1, 2, 3, 4]


def test_cancel_is_the_last_item():
    @ray.remote
    def endless():
        while True:
            yield 1
            time.sleep(0.01)

    generator = endless.remote()
    assert ray.get(next(generator)) == 1
    ray.cancel(generator)
    rest = values(generator)
    assert issubclass(rest[-1], ray.exceptions.TaskCancelledError)
    assert set(rest[:-1]) <= {1}


def test_a_dropped_generator_runs_on_and_frees_its_items(tmp_path):
    log = tmp_path / "log"
    log.touch()

    @ray.remote(_generator_backpressure_num_objects=2)
    def write(path):
        for _ in range(8):
            append(path)
            yield np.zeros(50_000)

    before = live_objects()
    generator = write.remote(str(log))
    ray.get(next(generator))
    del generator
    wait_until(lambda: log.stat().st_size == 8)
    wait_until(lambda: live_objects() <= before)
    wait_until(lambda: RUNTIME.core.store_stats()["objects"] == 0)


def test_nothing_is_left_after_streams():
    before = live_objects()
    for _ in range(3):
        assert len(values(count.remote(50))) == 50
    assert values(Counter.remote().count.remote(5)) == [0, 1, 2, 3, 4]
    wait_until(lambda: live_objects() <= before)


def test_references_inside_items_live_as_long_as_the_items():
    @ray.remote
    def boxes(outer):
        yield [ray.put(np.arange(3))]
        yield [outer]
        yield [ray.put(7), outer]

    mine = ray.put("mine")
    first, second, third = ray.get(list(boxes.remote([mine])))
    assert ray.get(first[0]).tolist() == [0, 1, 2]
    assert ray.get(second[0][0]) == "mine"
    assert ray.get(third[0]) == 7


def test_wait_tells_whether_the_next_item_is_there(tmp_path):
    gate = tmp_path / "gate"

    @ray.remote
    def gated(path):
        while not os.path.exists(path):
            time.sleep(0.01)
        yield 1

    generator, other = gated.remote(str(gate)), ray.put(0)
    assert ray.wait([generator], timeout=0.1) == ([], [generator])
    assert not generator.next_ready()
    assert ray.wait([generator, other]) == ([other], [generator])
    gate.touch()
    assert ray.wait([generator], timeout=20) == ([generator], [])
    assert ray.get(next(generator)) == 1
    assert ray.get(generator.completed()) is None
    assert generator.next_ready()  # the end can be read
    assert list(generator) == []


def test_threads_share_a_generator():
    from concurrent.futures import ThreadPoolExecutor

    generator = count.remote(200)
    with ThreadPoolExecutor(4) as pool:
        parts = list(pool.map(lambda _: values(generator), range(4)))
    assert sorted(sum(parts, [])) == list(range(200))


def test_dynamic_returns_of_tasks_and_actors():
    assert ray.get(list(ray.get(count.options(num_returns="dynamic").remote(3)))) == [0, 1, 2]
    assert ray.get(list(ray.get(Counter.remote().gather.remote(2)))) == [0, 1]


def test_error_of_a_dynamic_task_is_its_last_item():
    @ray.remote(num_returns="dynamic")
    def fail():
        yield 1
        raise ValueError("after one")

    one, error = ray.get(fail.remote())
    assert ray.get(one) == 1
    with pytest.raises(ValueError, match="after one"):
        ray.get(error)


def test_streaming_is_for_generators_only():
    @ray.remote
    def plain():
        return [1]

    with pytest.raises(ValueError, match="yield"):
        plain.options(num_returns="streaming").remote()
    with pytest.raises(ValueError, match="yield"):
        Counter.remote().plain.options(num_returns="streaming").remote()
    with pytest.raises(ValueError, match="num_returns"):
        plain.options(num_returns="sometimes")
    with pytest.raises(ValueError, match="_generator_backpressure_num_objects"):
        count.options(_generator_backpressure_num_objects=0)


@ray.remote(_num_objects_per_yield=2)
def pairs(n):
    for i in range(n):
        yield i, np.full(50_000, i)


def test_a_yield_may_be_several_items():
    first, second, third, fourth = ray.get(list(pairs.remote(2)))
    assert (first, third) == (0, 1)
    assert (second == 0).all() and (fourth == 1).all()

    @ray.remote
    class Pairs:
        @ray.method(_num_objects_per_yield=2)
        def lists(self):
            yield [1, 2]

        @ray.method(_num_objects_per_yield=2)
        async def later(self):
            yield 3, 4

    actor = Pairs.remote()
    assert values(actor.lists.remote()) == [1, 2]
    assert values(actor.later.remote()) == [3, 4]
    assert values(pairs.options(_num_objects_per_yield=2, name="two").remote(1))[0] == 0

    @ray.remote(_num_objects_per_yield=2, num_returns="dynamic")
    def together():
        yield 1, 2

    assert list(map(ray.get, ray.get(together.remote()))) == [(1, 2)]
    assert ray.get(ray.remote(_num_objects_per_yield=2)(lambda: (1, 2)).remote()) == (1, 2)


@pytest.mark.parametrize("yielded", [(1, 2, 3), [1], "ab", 5, {1: 1, 2: 2}])
def test_a_yield_of_another_length_is_an_error(yielded):
    @ray.remote(_num_objects_per_yield=2)
    def wrong():
        yield 0, 0
        yield yielded

    first, second, error = values(wrong.remote())
    assert (first, second) == (0, 0)
    assert issubclass(error, ValueError)


def test_items_of_a_yield_leave_together(tmp_path):
    log = tmp_path / "log"
    log.touch()

    @ray.remote(_num_objects_per_yield=2, _generator_backpressure_num_objects=3)
    def write(path):
        for i in range(6):
            append(path)
            yield i, i

    # As long as fewer than three wait the generator goes on, and then two more come.
    generator = write.remote(str(log))
    wait_until(lambda: log.stat().st_size == 2)
    time.sleep(0.2)
    next(generator)
    time.sleep(0.2)
    assert log.stat().st_size == 2
    next(generator)
    wait_until(lambda: log.stat().st_size == 3)
    assert len(values(generator)) == 10


def test_the_number_of_objects_per_yield_stays():
    with pytest.raises(ValueError, match="_num_objects_per_yield cannot be overridden"):
        pairs.options(_num_objects_per_yield=3)
    with pytest.raises(ValueError, match="_num_objects_per_yield cannot be overridden"):
        Counter.remote().count.options(_num_objects_per_yield=1)
    with pytest.raises(ValueError, match="positive integer"):
        ray.remote(_num_objects_per_yield=0)(lambda: 1)
    with pytest.raises(TypeError, match="_num_objects_per_yield"):
        ray.method(_num_objects_per_yield="two")


@ray.remote
class Logger:
    def write(self, path, n):
        for i in range(n):
            append(path)
            yield i

    async def write_later(self, path, n):
        for i in range(n):
            append(path)
            yield i


@ray.remote
class ThreadedLogger:
    def write(self, path, n):
        for i in range(n):
            append(path)
            yield i


@pytest.mark.parametrize(
    ("actor_class", "method", "options"),
    [(Logger, "write_later", {}), (ThreadedLogger, "write", {"max_concurrency": 3})],
)
def test_an_actor_waits_for_the_readers_of_all_its_generators(
    tmp_path, actor_class, method, options
):
    log = tmp_path / "log"
    log.touch()
    actor = actor_class.options(_actor_generator_backpressure_num_objects=3, **options).remote()
    write = getattr(actor, method)

    def is_written(count):
        wait_until(lambda: log.stat().st_size >= count)
        time.sleep(0.2)
        return log.stat().st_size == count

    first = write.remote(str(log), 2)
    ray.get(first.completed())
    second = write.remote(str(log), 3)
    assert is_written(3), "nobody has read what the call that ended has yielded"
    ray.get(next(first))
    assert is_written(4)
    ray.get(next(first))
    assert is_written(5)
    assert ray.get(next(second)) == 0
    dropped = write.remote(str(log), 9)
    assert is_written(6)
    del dropped
    assert is_written(14), "what nobody can read is not waited for"
    assert values(second) == [1, 2]


def test_an_actor_does_not_wait_for_readers_that_died(tmp_path):
    log = tmp_path / "log"
    log.touch()
    actor = Logger.options(_actor_generator_backpressure_num_objects=2).remote()

    @ray.remote(max_retries=0)
    def start_and_die(actor, path):
        unread = [actor.write_later.remote(path, 1), actor.write_later.remote(path, 5)]
        wait_until(lambda: os.path.getsize(path) == 2)
        os._exit(len(unread))

    with pytest.raises(ray.exceptions.WorkerCrashedError):
        ray.get(start_and_die.remote(actor, str(log)))
    assert values(actor.write_later.remote(str(log), 3)) == [0, 1, 2]
    wait_until(lambda: log.stat().st_size == 9)


@pytest.mark.parametrize(("value", "error"), [(0, ValueError), (-2, ValueError), (1.5, TypeError)])
def test_bad_limits_of_actors(value, error):
    with pytest.raises(error, match="_actor_generator_backpressure_num_objects"):
        Counter.options(_actor_generator_backpressure_num_objects=value)
    with pytest.raises(ValueError, match="_actor_generator_backpressure_num_objects"):
        count.options(_actor_generator_backpressure_num_objects=1)


def test_a_generator_cannot_travel():
    generator = count.remote(1)
    with pytest.raises(TypeError, match="generator"):
        count.remote(generator)
    for call in (generator.send, generator.throw):
        with pytest.raises(NotImplementedError):
            call(None)
    assert values(generator) == [0]


def test_items_arrive_while_a_sync_consumer_falls_behind():
    assert values(count.remote(20_000)) == list(range(20_000))
