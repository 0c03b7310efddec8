"""Arguments that lie in the caller's store, over a link that takes its time."""

import contextlib
import json

import pytest

from integration.machines import Cluster, Machine, may_make_namespaces
from integration.virtual_network import VirtualNetwork

pytestmark = [
    pytest.mark.ours_only,
    pytest.mark.timeout(180),
    pytest.mark.skipif(
        not may_make_namespaces(), reason="needs the privilege for network namespaces"
    ),
]

DELAY_S = 0.03  # one way

# Prints the median time of a call, in round trips, for each size.
PROGRAM = """
import json, statistics, sys, time
import numpy as np
import ray

delay_s, sizes = float(sys.argv[1]), json.loads(sys.argv[2])
ray.init("auto", log_to_driver=False)

@ray.remote(resources={"there": 1}, num_cpus=0)
class There:
    def total(self, *parts):
        return sum(int(part.sum()) for part in parts)

def timed(there, count, size):
    refs = [ray.put(np.ones(size, np.uint8)) for _ in range(count)]
    begin = time.perf_counter()
    assert ray.get(there.total.remote(*refs), timeout=60) == count * size
    return (time.perf_counter() - begin) / (2 * delay_s)

there = There.remote()
ray.get(there.total.remote())
timed(there, 1, sizes[0])  # connections are made with the first one
print(json.dumps([statistics.median(timed(there, 2, size) for _ in range(7)) for size in sizes]))
"""


def round_trips(folder, sizes, **settings):
    with contextlib.ExitStack() as stack:
        machines = [Machine(f"m{number}", folder) for number in range(2)]
        for machine in machines:
            stack.callback(machine.power_off)
        network = VirtualNetwork(machines)
        stack.callback(network.close)
        cluster = Cluster(machines, network.addresses, json.dumps(settings))
        small = "--object-store-memory=100000000"
        cluster.start(0, "--num-cpus=1", small)
        cluster.start(1, "--num-cpus=1", '--resources={"there": 1}', small)
        network.set_links(delay_s=DELAY_S)
        driver = cluster.driver(PROGRAM, str(DELAY_S), json.dumps(sizes))
        return json.loads(driver.communicate(timeout=120)[0])


def test_small_arguments_take_no_round_trip_of_their_own(tmp_path):
    small, inline, large = round_trips(tmp_path, [200_000, 10_000, 1_200_000])
    assert inline < 2.5
    assert small < 2.5, "on its way with the call"
    assert large > 3, "asked for, then fetched"


def test_without_it_they_are_fetched(tmp_path):
    (small,) = round_trips(tmp_path, [200_000], object_push_max_bytes=0)
    assert small > 3
