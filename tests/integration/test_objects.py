"""Values, references and the memory behind them."""

import gc
import threading

import numpy as np
import pytest

import ray
from integration.programs import wait_until

pytestmark = pytest.mark.usefixtures("cluster")
MB = 1_000_000


@ray.remote
def echo(value):
    return value


@ray.remote
def kind_of(value):
    return type(value).__name__


def store_available():
    return ray.available_resources()["object_store_memory"]


def test_large_arrays_are_shared_and_read_only():
    array = np.arange(10 * MB // 8)
    ref = ray.put(array)
    first, second = ray.get([ref, ref])
    assert np.shares_memory(first, second)
    assert not first.flags.writeable
    with pytest.raises(ValueError):
        first[0] = 1
    assert np.array_equal(first, array)


def test_array_outlives_its_reference():
    ref = ray.put(np.full(5 * MB, 7, np.uint8))
    array = ray.get(ref)
    del ref
    for _ in range(20):
        ray.put(np.zeros(5 * MB, np.uint8))
    assert (array == 7).all()


def test_array_of_a_task_arrives_without_copies_in_its_consumer():
    @ray.remote
    def make():
        return np.ones(3 * MB, np.uint8)

    @ray.remote
    def shares_memory(container):
        first, second = ray.get([container[0], container[0]])
        return np.shares_memory(first, second)

    assert ray.get(shares_memory.remote([make.remote()]))


_EDGES = [0, 255, 256, 65_535, 65_536, 2**31 - 1, 2**31, 2**63 - 1, 2**63, 2**200]


@pytest.mark.parametrize(
    "value",
    [
        *([number, -number - 1] for number in _EDGES),
        [0.0, -0.0, 1.5, -1e300, float("inf"), 5e-324],
        (None, True, False, 1, 1.0, "text", b"bytes", "\0"),
        ("x" * 255, "x" * 256, b"x" * 255, b"x" * 256, "", b""),
        ("\u00e4\u4e16\U0001f600", "\ud800"),
        *(tuple(range(length)) for length in range(10)),
        *([1] * length for length in (0, 1, 999, 1000, 1001, 5000)),
        ([1, 2], (3, 4), [], (), [None, True, 1.5]),
        ([[1]], [(1,)], ([1, "x"],), {"a": (1,)}, {1, 2}),
    ],
    ids=lambda value: repr(value)[:20],
)
def test_plain_values_keep_their_values_and_types(value):
    for same in (
        ray.get(ray.put(value)),
        ray.get(echo.remote(value)),
        ray.get(echo.remote((value,)))[0],
    ):
        assert repr(same) == repr(value)
        assert type(same) is type(value)


def test_what_occurs_twice_in_a_value_is_one_object_afterwards():
    numbers, text = [1, 2], "x" * 1000
    first, second, third, fourth = ray.get(ray.put((numbers, numbers, text, text)))
    assert first is second
    assert third is fourth


def test_subclasses_of_plain_types_stay_what_they_are():
    class Number(int):
        pass

    class Pair(tuple):
        pass

    assert ray.get(kind_of.remote(Number(1))) == "Number"
    assert ray.get(kind_of.remote(Pair((1, 2)))) == "Pair"
    assert type(ray.get(ray.put((Number(1), 2)))[0]) is Number


@pytest.mark.parametrize("size", [0, 1, 99_000, 101_000, 3 * MB])
def test_bytes_of_all_sizes_round_trip(size):
    value = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    assert ray.get(ray.put(value)) == value
    assert ray.get(echo.remote(value)) == value
    assert ray.get(echo.remote(ray.put(value))) == value


def test_refs_are_resolved_as_arguments_but_not_inside_them():
    ref = ray.put("value")
    assert ray.get(kind_of.remote(ref)) == "str"
    assert ray.get(kind_of.remote([ref])) == "list"
    (inner,) = ray.get(echo.remote([ref]))
    assert inner == ref and ray.get(inner) == "value"


def test_refs_nest_to_any_depth():
    ref = ray.put("core")
    for _ in range(10):
        ref = ray.put({"next": ref})
    for _ in range(10):
        ref = ray.get(ref)["next"]
    assert ray.get(ref) == "core"


def test_object_lives_while_a_stored_container_refers_to_it():
    outer = ray.put([ray.put(np.full(MB, 3, np.uint8))])
    gc.collect()
    for _ in range(20):
        ray.put(np.zeros(5 * MB, np.uint8))
    (inner,) = ray.get(outer)
    assert (ray.get(inner) == 3).all()


def test_ref_made_in_a_task_is_readable_after_the_task():
    @ray.remote
    def make():
        return [ray.put(np.full(MB, 9, np.uint8)), ray.put("small")]

    large, small = ray.get(make.remote())
    assert (ray.get(large) == 9).all()
    assert ray.get(small) == "small"


def test_dropping_references_returns_store_memory():
    gc.collect()
    before = store_available()
    refs = [ray.put(np.ones(5 * MB, np.uint8)) for _ in range(4)]
    wait_until(lambda: store_available() <= before - 20 * MB)
    del refs
    wait_until(lambda: store_available() >= before - MB)


def test_argument_lives_until_its_task_has_run():
    @ray.remote
    def total(array):
        return int(array.sum())

    results = [total.remote(ray.put(np.full(MB, i, np.uint8))) for i in range(20)]
    assert ray.get(results) == [i * MB for i in range(20)]


def test_wait_gives_no_more_than_asked_for_when_several_are_ready_at_once(tmp_path):
    gate = tmp_path / "gate"

    @ray.remote(num_returns=2)
    def both():
        wait_until(gate.exists)
        return 1, 2

    first, second = both.remote()
    last = ray.put(3)
    threading.Timer(0.3, gate.touch).start()
    ready, rest = ray.wait([first, second, last], num_returns=2, timeout=30)
    assert len(ready) == 2
    assert {*ready, *rest} == {first, second, last}


def test_equal_refs_hash_alike():
    ref = ray.put(1)
    (copy,) = ray.get(ray.put([ref]))
    assert copy == ref and hash(copy) == hash(ref)
    assert {ref: "found"}[copy] == "found"
    assert copy.hex() == ref.hex() and len(ref.hex()) == 56
    assert ray.put(1) != ref
