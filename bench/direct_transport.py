"""What a large array costs from one actor to another of the same machine: through the object store,
and by a tensor transport that copies it through shared memory (that of the tests).

    python bench/direct_transport.py [--megabytes 100] [--rounds 20]

The ways take turns, so that whatever else the machine does meets all of them.
"""

import argparse
import os
import pathlib
import statistics
import sys
import time

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "tests"))

import ray
from integration import shared_memory_transport
from integration.shared_memory_transport import NAME

shared_memory_transport.register()


@ray.remote(num_cpus=0, enable_tensor_transport=True)
class Worker:
    def __init__(self, megabytes):
        self.array = np.ones(megabytes * 1_000_000, dtype=np.uint8)

    def array_by_store(self):
        return self.array

    @ray.method(tensor_transport=NAME)
    def array_by_transport(self):
        return self.array

    def last_of(self, array):
        return int(array[-1])


def milliseconds(source, receiver, method):
    """One transfer, from the call that makes the object until the receiver has it."""
    start = time.perf_counter()
    assert ray.get(receiver.last_of.remote(getattr(source, method).remote())) == 1
    return (time.perf_counter() - start) * 1000


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=20)
    arguments = parser.parse_args()
    os.environ["TRANSPORT_PREFIX"] = f"ray_bench_{os.getpid()}_"
    with ray.init(address="local", num_cpus=2, include_dashboard=False):
        source, receiver, same = (Worker.remote(arguments.megabytes) for _ in range(3))
        ways = {
            "object store": (source, receiver, "array_by_store"),
            "shared memory transport": (source, receiver, "array_by_transport"),
            "transport, back to its own actor": (same, same, "array_by_transport"),
        }
        taken = {way: [] for way in ways}
        for _ in range(arguments.rounds + 3):
            for way, (sender, receiver_of, method) in ways.items():
                taken[way].append(milliseconds(sender, receiver_of, method))
        for way, times in taken.items():
            warm = times[3:]
            print(f"{way}: median {statistics.median(warm):.1f} ms, best {min(warm):.1f} ms")
    shared_memory_transport.clean_up()


if __name__ == "__main__":
    main()
