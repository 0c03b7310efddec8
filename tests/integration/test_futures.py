"""References as futures, in threads and in event loops."""

import asyncio
import time

import pytest

import ray
from ray._async_refs import call_on_outcome
from ray.exceptions import RaySystemError


@ray.remote(num_cpus=0)
def echo(value):
    return value


def test_future_of_a_ref(cluster):
    assert echo.remote(5).future().result(timeout=20) == 5


def test_failed_callback_spoils_no_other(cluster):
    def fail(value, error):
        raise ValueError("this callback fails")

    refs = [echo.remote(i) for i in range(20)]
    for ref in refs:
        call_on_outcome(ref, fail)
    assert [ref.future().result(timeout=20) for ref in refs] == list(range(20))


@ray.remote(num_cpus=0)
def sleep(*arguments):
    time.sleep(60)


@ray.remote(num_cpus=0)
class Sleeper:
    def sleep(self):
        time.sleep(60)


@pytest.mark.parametrize("times", range(3))
def test_end_of_the_session_is_the_end_of_futures(start_cluster, times):
    start_cluster()
    sleeper = Sleeper.remote()
    refs = [sleep.remote(), sleeper.sleep.remote(), sleep.remote(sleep.remote())]
    futures = [ref.future() for ref in refs]
    ray.shutdown()
    for future in futures:
        with pytest.raises(RaySystemError, match="this session has ended"):
            future.result(timeout=5)


def test_end_of_the_session_is_the_end_of_awaits(start_cluster):
    start_cluster()

    async def shut_down_while_awaiting():
        awaited = [ref.as_future() for ref in (sleep.remote(), sleep.remote())]
        await asyncio.sleep(0.05)
        await asyncio.to_thread(ray.shutdown)
        return await asyncio.wait_for(asyncio.gather(*awaited, return_exceptions=True), 5)

    errors = asyncio.run(shut_down_while_awaiting())
    assert [type(error) for error in errors] == [RaySystemError, RaySystemError]
