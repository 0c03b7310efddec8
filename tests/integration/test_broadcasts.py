"""An object that many nodes want at the same time, over limited links."""

import contextlib

import pytest

from integration.machines import Bridge, Cluster, Machine, may_make_namespaces

pytestmark = [
    pytest.mark.ours_only,
    pytest.mark.timeout(120),
    pytest.mark.skipif(
        not may_make_namespaces(), reason="needs the privilege for network namespaces"
    ),
]

RECEIVERS = 4
SIZE = 48 << 20

PROGRAM = """
import sys
import numpy as np
import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

ray.init("auto", log_to_driver=False)
head = ray.get_runtime_context().get_node_id()
others = [node["NodeID"] for node in ray.nodes() if node["NodeID"] != head]

@ray.remote(num_cpus=1)
def total(data):
    return int(data.sum())

def on(node):
    return total.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node, False))

ray.get([on(node).remote(np.ones(1)) for node in others])
data = ray.put(np.arange(int(sys.argv[1]) // 8))
expected = sum(range(int(sys.argv[1]) // 8))
assert ray.get([on(node).remote(data) for node in others]) == [expected] * len(others)
print(len(others))
"""


def test_source_sends_the_object_about_once(tmp_path):
    with contextlib.ExitStack() as stack:
        machines = []
        for number in range(RECEIVERS + 1):
            machines.append(Machine(f"node{number}", tmp_path))
            stack.callback(machines[-1].power_off)
        bridge = Bridge(machines, tmp_path, rate="400mbit")
        stack.callback(bridge.close)
        cluster = Cluster(machines, bridge.addresses)
        for number in range(RECEIVERS + 1):
            cluster.start(number, "--num-cpus=1", f"--object-store-memory={4 * SIZE}")
        driver = cluster.driver(PROGRAM, str(SIZE))
        assert driver.communicate(timeout=60)[0] == f"{RECEIVERS}\n"
        sent = [machine.sent_bytes("eth0") for machine in machines]
        received = [machine.received_bytes("eth0") for machine in machines]
    assert SIZE < sent[0] < 1.9 * SIZE, "the nodes pass it on"
    assert all(count < 1.9 * SIZE for count in sent), "none of them to all others"
    assert all(SIZE < count < 1.5 * SIZE for count in received[1:]), "each gets it once"
