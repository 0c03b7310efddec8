"""Blocks of a memory pool: where tensors lie, what is refused, what is given back."""

import random

import numpy as np
import pytest

from ray.experimental.rdt.nixl_memory_pool import MemoryPoolManager, NixlOutOfMemoryError
from ray.experimental.rdt.tensors import memory_of


@pytest.fixture
def pool():
    return MemoryPoolManager(128, "cpu")


def offsets(pool, tensors):
    start = memory_of(pool.get_pool_tensor()).address
    return [memory_of(tensor).address - start for tensor in tensors]


def test_copies_lie_behind_each_other_at_multiples_of_their_element_size(pool):
    tensors = [np.array([1, 2, 3], np.uint8), np.array([[4.0, 5.0]]), np.array([6], np.int16)]
    copies = pool.allocate_group("object", tensors)
    assert offsets(pool, copies) == [0, 8, 24]
    assert [copy.tolist() for copy in copies] == [[1, 2, 3], [[4.0, 5.0]], [6]]
    assert [(copy.shape, copy.dtype) for copy in copies] == [(t.shape, t.dtype) for t in tensors]
    tensors[0][0] = 9
    assert copies[0][0] == 1


def test_group_is_apart_where_no_piece_is_large_enough(pool):
    for name in ("a", "b", "c", "d"):
        pool.allocate_group(name, [np.zeros(32, np.uint8)])
    pool.free_object("a")
    pool.free_object("c")
    copies = pool.allocate_group("e", [np.ones(30, np.uint8), np.ones(30, np.uint8)])
    assert offsets(pool, copies) == [0, 64]


def test_no_room_changes_nothing(pool):
    pool.allocate_group("a", [np.zeros(100, np.uint8)])
    with pytest.raises(NixlOutOfMemoryError, match="no room for 30 bytes: 28 are free, in 1"):
        pool.allocate_group("b", [np.zeros(20, np.uint8), np.zeros(10, np.uint8)])
    assert offsets(pool, pool.allocate_group("c", [np.zeros(28, np.uint8)])) == [100]


def test_freed_blocks_join(pool):
    for name in ("a", "b", "c", "d"):
        pool.allocate_group(name, [np.zeros(32, np.uint8)])
    for name in ("b", "d", "c", "a", "never was"):
        pool.free_object(name)
    assert offsets(pool, pool.allocate_group("e", [np.zeros(128, np.uint8)])) == [0]


@pytest.mark.parametrize("seed", range(5))
def test_blocks_never_overlap(seed):
    rng = random.Random(seed)
    pool = MemoryPoolManager(4096, "cpu")
    live = {}
    for number in range(200):
        if live and rng.random() < 0.4:
            name = rng.choice(list(live))
            pool.free_object(name)
            del live[name]
            continue
        value = number % 256
        tensors = [
            np.full(rng.randint(1, 60), value, rng.choice([np.uint8, np.int16, np.float64]))
            for _ in range(rng.randint(1, 4))
        ]
        try:
            live[str(number)] = value, pool.allocate_group(str(number), tensors)
        except NixlOutOfMemoryError:
            continue
    for value, copies in live.values():
        assert all((copy == value).all() for copy in copies)


@pytest.mark.parametrize("size", [0, -1])
def test_pool_without_size_is_refused(size):
    with pytest.raises(ValueError, match="positive size"):
        MemoryPoolManager(size, "cpu")
