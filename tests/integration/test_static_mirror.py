"""`ray.api.Ray`: the API in the style of Ray's Java class of that name."""

import pytest

import ray
from integration.programs import wait_until

pytestmark = pytest.mark.ours_only


def add(a, b=10):
    return a + b


class Counter:
    def __init__(self, start=0):
        self.value = start

    def increment(self, by=1):
        self.value += by
        return self.value


@pytest.fixture(scope="module")
def mirror():
    from ray.api import Ray

    ray.shutdown()
    Ray.init(address="local", num_cpus=2, resources={"token": 1}, log_to_driver=False)
    yield Ray
    Ray.shutdown()
    assert not ray.is_initialized()


def test_tasks(mirror):
    ref = mirror.task(add, 1, 2).remote()
    assert isinstance(ref, ray.ObjectRef)
    assert ref.get() == 3
    assert mirror.task(add, mirror.put(5)).remote().get() == 15


def test_put_and_get_one_or_many(mirror):
    refs = [mirror.put(i) for i in range(3)]
    assert mirror.get(refs[1]) == 1
    assert mirror.get(refs) == [0, 1, 2]


def test_wait(mirror):
    refs = [mirror.put(i) for i in range(3)]
    result = mirror.wait(refs, num_returns=2)
    assert result.get_ready() == refs[:2]
    assert result.get_unready() == refs[2:]


def test_actors_and_their_methods(mirror):
    counter = mirror.actor(Counter, 5).remote()
    assert counter.task(Counter.increment).remote().get() == 6
    assert counter.task(Counter.increment, 4).remote().get() == 10
    with pytest.raises(AttributeError):
        counter.task(Counter.decrement)


def test_options_are_set_on_the_call(mirror):
    holder = mirror.actor(Counter).set_name("mirrored").set_resource("token", 1.0).remote()
    assert holder.task(Counter.increment).remote().get() == 1
    assert mirror.get(ray.get_actor("mirrored").increment.remote()) == 2
    wait_until(lambda: ray.available_resources().get("token", 0) == 0)


def test_restarts_are_set_on_the_call(mirror):
    counter = mirror.actor(Counter).set_max_restarts(1).remote()
    assert counter.task(Counter.increment).remote().get() == 1
