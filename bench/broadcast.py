"""One object to many nodes over limited links, and one to another node without a limit.

Each node is a machine of its own as far as it can tell: with its own network, /tmp and processes
(`tests/integration/machines.py`). So it needs the privilege for namespaces. Ends by itself.
"""

import argparse
import contextlib
import json
import pathlib
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "tests"))

from integration.machines import Bridge, Cluster, Machine, may_make_namespaces

STORE_MIN = 100 << 20

# Prints one JSON line for each figure. Arguments: what is measured, bytes, rounds.
DRIVER = """
import json, sys, time
import numpy as np
import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

what, size, rounds = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
ray.init("auto", log_to_driver=False)
head = ray.get_runtime_context().get_node_id()
others = [node["NodeID"] for node in ray.nodes() if node["NodeID"] != head]

@ray.remote(num_cpus=1)
def touch(data):
    return int(data[:: 4096].sum())

def to(nodes, size):
    data = np.ones(size, np.uint8)
    ref = ray.put(data)
    begin = time.perf_counter()
    tasks = [
        touch.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node, False)).remote(ref)
        for node in nodes
    ]
    assert set(ray.get(tasks)) == {len(data[:: 4096])}
    return time.perf_counter() - begin

def copy():
    source, target = np.ones(size, np.uint8), np.empty(size, np.uint8)
    times = []
    for _ in range(3):
        begin = time.perf_counter()
        np.copyto(target, source)
        times.append(time.perf_counter() - begin)
    return min(times)

def median(times):
    return sorted(times)[len(times) // 2]

for node in others:
    to([node], 1 << 20)  # starts workers and streams
result = {"one_s": median([to([others[i % len(others)]], size) for i in range(rounds)])}
if what == "broadcast":
    result["all_s"] = median([to(others, size) for _ in range(rounds)])
else:
    result["copy_s"] = copy()
print(json.dumps(result))
"""


@contextlib.contextmanager
def cluster(nodes, rate, store_bytes):
    """A head and further nodes that are all joined by limited cables."""
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        machines = []
        for number in range(nodes):
            machines.append(Machine(f"node{number}", folder))
            stack.callback(machines[-1].power_off)
        bridge = Bridge(machines, folder, rate)
        stack.callback(bridge.close)
        made = Cluster(machines, bridge.addresses)
        for number in range(nodes):
            made.start(number, "--num-cpus=1", f"--object-store-memory={store_bytes}")
        yield made


def measure(made, what, size, rounds):
    """The figures of one program on the head."""
    driver = made.driver(DRIVER, what, str(size), str(rounds))
    output, _ = driver.communicate(timeout=600)
    if driver.returncode != 0:
        raise SystemExit(f"the program failed with {driver.returncode}")
    return json.loads(output)


def measure_broadcast(receivers, rate, size, rounds):
    """To one node, and to all at once; how often the head sent the object for that."""
    with cluster(receivers + 1, rate, max(3 * size, STORE_MIN)) as made:
        head = made.machines[0]
        begin = head.sent_bytes("eth0")
        figures = measure(made, "broadcast", size, rounds)
        sent = head.sent_bytes("eth0") - begin
    copies = sent / size - rounds
    print(
        f"{size >> 20} MiB over links of {rate}: to one node {figures['one_s']:.2f} s, "
        f"to {receivers} nodes {figures['all_s']:.2f} s "
        f"({figures['all_s'] / figures['one_s']:.2f} times as long); "
        f"the source sent it {copies / rounds:.2f} times"
    )


def measure_transfer(size, rounds):
    """Between two nodes over TCP, no limit but the processor's."""
    with cluster(2, None, 5 * size // 2) as made:
        figures = measure(made, "transfer", size, rounds)
    speed, copy = (size / figures[name] / 1e9 for name in ("one_s", "copy_s"))
    print(
        f"{size >> 20} MiB to another node over TCP without a limit: {speed:.2f} GB/s; "
        f"a warm memcpy of it {copy:.2f} GB/s ({speed / copy:.2f} of it)"
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--receivers", type=int, default=8)
    parser.add_argument("--rate", default="400mbit", help="of each link, as tc writes it")
    parser.add_argument("--mib", type=int, default=256, help="size of the broadcast object")
    parser.add_argument("--transfer-mib", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    if not may_make_namespaces():
        raise SystemExit("this needs the privilege for network namespaces (ip netns)")
    measure_broadcast(options.receivers, options.rate, options.mib << 20, options.rounds)
    measure_transfer(options.transfer_mib << 20, options.rounds)


if __name__ == "__main__":
    main()
