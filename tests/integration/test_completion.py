"""ray.util.as_completed and ray.util.map_unordered."""

import asyncio
import itertools

import pytest

import ray
from ray.util import as_completed, map_unordered


@pytest.fixture(scope="module")
def square(cluster):
    @ray.remote
    def square(x):
        if x < 0:
            raise ValueError(f"negative: {x}")
        return x * x

    return square


@ray.remote(num_cpus=0)
class Gate:
    """Opens when it is told to."""

    def __init__(self):
        self._opened = asyncio.Event()

    async def open(self):
        self._opened.set()

    async def wait(self):
        await self._opened.wait()


@pytest.mark.ours_only  # the reference waits for a whole chunk
def test_ready_values_come_first(cluster):
    @ray.remote(num_cpus=0)
    def after(gate):
        ray.get(gate.wait.remote())
        return "late"

    gate = Gate.remote()
    results = as_completed([after.remote(gate), ray.put("early")])
    assert next(results) == "early"
    gate.open.remote()
    assert list(results) == ["late"]


@pytest.mark.parametrize("chunk_size", [1, 3, 100])
def test_every_value_comes_once(square, chunk_size):
    refs = [square.remote(x) for x in range(10)]
    values = as_completed(refs, chunk_size=chunk_size)
    assert sorted(values) == [x * x for x in range(10)]


def test_references_instead_of_values(square):
    refs = [square.remote(x) for x in range(3)]
    assert set(as_completed(refs, yield_obj_refs=True)) == set(refs)


def test_nothing_is_completed_at_once():
    assert list(as_completed([])) == []


def test_error_of_a_task_is_raised(square):
    with pytest.raises(ValueError, match="negative: -1"):
        list(as_completed([square.remote(-1)]))


def test_map_takes_items_of_an_endless_iterable(square):
    results = map_unordered(square, itertools.count(), backpressure_size=4)
    assert set(itertools.islice(results, 4)) <= {x * x for x in range(8)}


@pytest.mark.parametrize("backpressure_size", [None, 1, 2, 100])
def test_map_gives_every_result(square, backpressure_size):
    results = map_unordered(square, range(7), backpressure_size=backpressure_size)
    assert sorted(results) == [x * x for x in range(7)]


def test_map_keeps_calls_under_way_within_bounds(cluster):
    @ray.remote(num_cpus=0)
    def same(x):
        return x

    taken = []
    items = (taken.append(x) or x for x in range(9))
    results = map_unordered(same, items, backpressure_size=2)
    next(results)
    assert len(taken) <= 4
    list(results)


def test_map_calls_actor_methods(cluster):
    @ray.remote(num_cpus=0)
    class Negative:
        def of(self, x):
            return -x

    actor = Negative.remote()
    assert sorted(map_unordered(actor.of, range(3))) == [-2, -1, 0]


@pytest.mark.parametrize(
    "options", [{"chunk_size": 0}, {"backpressure_size": 0}, {"num_returns": 1}]
)
def test_bad_options_are_refused(square, options):
    with pytest.raises(ValueError):
        list(map_unordered(square, range(3), **options))


def test_same_reference_twice_is_refused(square):
    with pytest.raises(ValueError):
        list(as_completed([square.remote(1)] * 2))
