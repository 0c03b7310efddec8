"""Objects whose value is made when somebody asks for it: Core.defer and Core.fulfil."""

import gc

import numpy as np
import pytest

import ray
from integration.programs import wait_until
from ray._raylet import ReadyQueue
from ray._runtime import RUNTIME

pytestmark = pytest.mark.ours_only

WANTED, GONE = 1, 2


@pytest.fixture
def queue():
    return ReadyQueue()


@pytest.fixture
def deferred(cluster, queue):
    return RUNTIME.core.defer(queue, WANTED, GONE)


def fulfil(ref, value, **options):
    RUNTIME.core.fulfil(ref.binary(), value, **options)


@ray.remote
def identity(value):
    return value


@ray.remote
def get_inside(refs):
    return ray.get(refs[0])


def test_nobody_asks_nothing_happens(deferred, queue):
    assert queue.drain() == []
    assert ray.wait([identity.remote(1)], timeout=20)[0]
    assert queue.drain() == []


@pytest.mark.parametrize(
    "ask",
    [
        lambda ref: ray.wait([ref], timeout=0),
        lambda ref: identity.remote(ref),
        lambda ref: get_inside.remote([ref]),
        lambda ref: ref.future(),
    ],
    ids=["wait", "argument", "borrower", "future"],
)
def test_whoever_asks_has_it_made_once(deferred, queue, ask):
    asked = [ask(deferred), ask(deferred)]
    assert queue.wait() == [WANTED]
    assert ray.util.why_pending(deferred) != ""
    fulfil(deferred, "made")
    assert ray.get(deferred, timeout=20) == "made"
    assert queue.drain() == []
    del asked


def test_borrower_gets_the_value(deferred, queue):
    result = get_inside.remote([deferred])
    assert queue.wait() == [WANTED]
    fulfil(deferred, {"a": ray.put("inside")})
    assert ray.get(ray.get(result, timeout=20)["a"]) == "inside"


def test_large_value_goes_to_the_store(deferred, queue):
    fulfil(deferred, np.arange(1_000_000))
    assert ray.get(deferred)[-1] == 999_999
    assert ray.get(get_inside.remote([deferred]))[-1] == 999_999
    assert queue.drain() == []


def test_second_value_is_ignored(deferred):
    fulfil(deferred, 1)
    fulfil(deferred, np.zeros(1_000_000))
    assert ray.get(deferred) == 1


def test_error_is_raised(deferred):
    fulfil(deferred, LookupError("not found"), is_error=True)
    with pytest.raises(LookupError, match="not found"):
        ray.get(deferred)


def test_gone_comes_after_the_last_reference_anywhere(cluster, queue):
    @ray.remote(num_cpus=0)
    class Holder:
        def hold(self, refs):
            self.refs = refs

        def drop(self):
            del self.refs

    holder = Holder.remote()
    ref = RUNTIME.core.defer(queue, WANTED, GONE)
    ray.get(holder.hold.remote([ref]))
    object_id = ref.binary()
    del ref
    gc.collect()
    ray.get(identity.remote(1))
    assert queue.drain() == []
    ray.get(holder.drop.remote())
    wait_until(lambda: queue.drain() == [GONE])
    RUNTIME.core.fulfil(object_id, np.zeros(1_000_000))  # Too late, and harmless.


def test_bad_arguments(cluster):
    with pytest.raises(ray._raylet.SystemError):
        RUNTIME.core.fulfil(b"short", 1)
