"""Programs that must give the right answer whatever happens to nodes and network meanwhile. Each
takes a seed, and runs on a head without CPUs and NODES nodes of two."""

import time

import numpy as np

import ray
from integration.programs import wait_until
from ray.util.placement_group import placement_group, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

NODES = 3
NODE_CPUS = 2
GET_TIMEOUT_S = 60


@ray.remote(max_retries=-1)
def split(seed, parts, size):
    data = np.random.default_rng(seed).integers(0, 1 << 30, size)
    return [data[data % parts == part] for part in range(parts)]


@ray.remote(max_retries=-1)
def join(*pieces):
    return sum(int(piece.sum()) for piece in pieces)


@ray.remote(max_retries=-1)
def filled(value, size):
    return np.full(size, value)


@ray.remote(max_retries=-1)
def add(a, b):
    time.sleep(0.02)
    return a + b


@ray.remote(max_retries=-1)
def total(data):
    return int(data.sum())


@ray.remote(max_retries=-1)
def times(a, b):
    time.sleep(0.05)
    return a * b


@ray.remote(num_cpus=0.5, max_restarts=-1, max_task_retries=-1)
class Counter:
    def __init__(self):
        self.numbers = set()

    def add(self, number):
        self.numbers.add(number)
        return number

    def filled(self, value):
        return np.full(100_000, value)


def shuffle(seed):
    maps, parts, size = 8, 4, 200_000
    pieces = [split.options(num_returns=parts).remote(seed + i, parts, size) for i in range(maps)]
    sums = [join.remote(*column) for column in zip(*pieces)]
    del pieces
    expected = [0] * parts
    for i in range(maps):
        data = np.random.default_rng(seed + i).integers(0, 1 << 30, size)
        for part in range(parts):
            expected[part] += int(data[data % parts == part].sum())
    assert ray.get(sums, timeout=GET_TIMEOUT_S) == expected


def tree(seed):
    level = [filled.remote(i + seed, 100_000) for i in range(32)]
    while len(level) > 1:
        level = [add.remote(a, b) for a, b in zip(level[::2], level[1::2])]
    (root,) = ray.get(level, timeout=GET_TIMEOUT_S)
    assert (root == sum(i + seed for i in range(32))).all()


def actors(_):
    counters = [Counter.remote() for _ in range(4)]
    for turn in range(5):
        refs = [counter.add.remote(i) for counter in counters for i in range(20)]
        assert ray.get(refs, timeout=GET_TIMEOUT_S) == [*range(20)] * 4
        pair = [counter.filled.remote(turn) for counter in counters[:2]]
        assert int(ray.get(add.remote(*pair), timeout=GET_TIMEOUT_S)[0]) == 2 * turn


def gang(_):
    group = placement_group([{"CPU": 1}] * NODES, strategy="SPREAD")
    assert group.wait(GET_TIMEOUT_S)
    strategies = [PlacementGroupSchedulingStrategy(group, i) for i in range(NODES)]
    for turn in range(5):
        refs = [
            times.options(scheduling_strategy=strategy).remote(i, turn)
            for i, strategy in enumerate(strategies)
        ]
        assert ray.get(refs, timeout=GET_TIMEOUT_S) == [i * turn for i in range(NODES)]
    remove_placement_group(group)


def more_than_memory(_):
    """400 MB in stores of 100 MB: values go to disk, and copies are dropped."""
    refs = [filled.remote(i, 1_250_000) for i in range(40)]
    for order in (refs, refs[::-1]):
        values = ray.get([total.remote(ref) for ref in order], timeout=GET_TIMEOUT_S)
        assert sorted(values) == [i * 1_250_000 for i in range(40)]


def check_nothing_is_held():
    """All leases are back, and the stores are empty."""
    wait_until(lambda: ray.available_resources() == ray.cluster_resources(), 20)
    assert ray.cluster_resources()["CPU"] == NODES * NODE_CPUS
