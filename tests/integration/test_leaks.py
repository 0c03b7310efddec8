"""Sessions that come and go leave nothing in their process or on the machine."""

import os
import threading

import psutil
import pytest

import ray
from integration.programs import wait_until

CYCLES = 50


@ray.remote
def size_of(value):
    return len(value)


def use_cluster():
    with ray.init(address="local", num_cpus=1, include_dashboard=False, log_to_driver=True):
        ref = ray.put(b"x" * 1_000_000)
        assert ray.get(size_of.remote(ref)) == 1_000_000


def footprint():
    process = psutil.Process()
    return {
        "descriptors": process.num_fds(),
        "threads": process.num_threads(),
        "python threads": threading.active_count(),
        "children": len(process.children(recursive=True)),
        "shared memory": len(os.listdir("/dev/shm")),
    }


@pytest.mark.ours_only
@pytest.mark.timeout(300)
def test_fifty_sessions_leave_no_trace():
    ray.shutdown()
    for _ in range(2):  # what is loaded once stays
        use_cluster()
    before = footprint()
    for _ in range(CYCLES):
        use_cluster()
    # Threads and children that were told to end may need a moment.
    wait_until(lambda: all(now <= before[name] for name, now in footprint().items()), timeout_s=5)


@pytest.mark.ours_only
def test_calls_leave_no_references(cluster):
    ref = ray.put(b"x" * 1_000_000)
    for _ in range(100):
        ray.get([size_of.remote(ref) for _ in range(10)])
    before = psutil.Process().memory_info().rss
    for _ in range(1000):
        ray.get([size_of.remote(ref) for _ in range(10)])
    growth = psutil.Process().memory_info().rss - before
    assert growth < 2_000_000, f"{growth} bytes for 10,000 calls"
