"""One row of bench/scale.py at one size, measured in this process: one line of JSON.

    python bench/scale_rows.py ROW SIZE

Each function below is a row. It starts a session of its own, does so much of one thing, and gives
totals: seconds, or bytes of memory (proportional set size of the driver and all processes that it
started). It uses the public API only, so that it runs on any `ray`.
"""

import gc
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

import numpy as np
import timing

import ray

Totals = dict[str, float]  # what is measured: seconds, or bytes where the name ends with "memory"
ROWS: dict[str, Callable[[int], Totals]] = {}
MARK = "RAY_BENCH_MARK"  # set by bench/scale.py, inherited by all that this process starts


def row(name: str):
    def register(measure: Callable[[int], Totals]) -> Callable[[int], Totals]:
        ROWS[name] = measure
        return measure

    return register


def start(**options: object) -> None:
    arguments: dict[str, object] = {"num_cpus": 2, "include_dashboard": False}
    ray.init(address="local", log_to_driver=False, **(arguments | options))


class Clock:
    """Seconds since it was made, or since the last call of `lap`."""

    def __init__(self) -> None:
        self.start = time.perf_counter()

    def lap(self) -> float:
        now = time.perf_counter()
        elapsed, self.start = now - self.start, now
        return elapsed


def memory() -> float:
    """Bytes of this process and of all that it started."""
    gc.collect()
    mark = f"{MARK}={os.environ[MARK]}" if MARK in os.environ else None
    processes = timing.marked_processes(mark) if mark else [os.getpid()]
    return timing.memory_mb(processes) * 2**20


def settled_memory(limit_s: float = 20.0) -> float:
    mark = f"{MARK}={os.environ[MARK]}"
    return timing.settled_memory_mb(mark, interval_s=0.2, limit_s=limit_s) * 2**20


@ray.remote
def nothing():
    return None


@ray.remote
def count(*values):
    return len(values)


@ray.remote
def many_values(number):
    return tuple(range(number))


@ray.remote
def many_stored(number, size_bytes):
    return [ray.put(np.zeros(size_bytes, np.uint8)) for _ in range(number)]


@ray.remote
def many_refs(number):
    return [ray.put(1) for _ in range(number)]


@ray.remote(num_cpus=0)
class Worker:
    def ping(self):
        return None

    def wait_for(self, pipe):
        """Returns once somebody has opened `pipe` for writing, and closed it."""
        with open(pipe, "rb") as file:
            file.read()


class Gate:
    """What waits for it goes on when it is opened: a named pipe."""

    def __init__(self, folder: str) -> None:
        self.pipe = os.path.join(folder, "gate")
        os.mkfifo(self.pipe)

    def open(self) -> None:
        with open(self.pipe, "wb"):
            pass


# --- Calls.


@row("queued tasks")
def queued_tasks(size: int) -> Totals:
    start(num_cpus=1)
    ray.get(nothing.remote())
    holder = Worker.options(num_cpus=1).remote()  # while it lives no task can run
    ray.get(holder.ping.remote())
    before = memory()
    clock = Clock()
    refs = [nothing.remote() for _ in range(size)]
    submit_s = clock.lap()
    queued = memory() - before
    ray.kill(holder)
    clock.lap()
    ray.get(refs)
    return {"submit": submit_s, "run": clock.lap(), "memory": queued}


@row("pending calls on one actor")
def pending_calls(size: int) -> Totals:
    with tempfile.TemporaryDirectory() as folder:
        gate = Gate(folder)
        start()
        actor = Worker.remote()
        ray.get(actor.ping.remote())
        actor.wait_for.remote(gate.pipe)
        before = memory()
        clock = Clock()
        refs = [actor.ping.remote() for _ in range(size)]
        submit_s = clock.lap()
        pending = memory() - before
        clock.lap()
        gate.open()
        ray.get(refs)
        return {"submit": submit_s, "run": clock.lap(), "memory": pending}


@row("reference arguments of one task")
def reference_arguments(size: int) -> Totals:
    start()
    ray.get(count.remote())
    refs = [ray.put(i) for i in range(size)]
    clock = Clock()
    assert ray.get(count.remote(*refs)) == size
    return {"call": clock.lap()}


@row("returns of one task")
def returns(size: int) -> Totals:
    start()
    ray.get(nothing.remote())
    clock = Clock()
    values = ray.get(many_values.options(num_returns=size).remote(size))
    assert values == list(range(size))
    return {"call": clock.lap()}


# --- Objects.


@row("small objects in one get")
def small_objects(size: int) -> Totals:
    start()
    refs = [ray.put(i) for i in range(size)]
    clock = Clock()
    assert ray.get(refs) == list(range(size))
    return {"get": clock.lap()}


@row("stored objects in one get")
def stored_objects(size: int) -> Totals:
    start(object_store_memory=2 << 30)
    refs = ray.get(many_stored.remote(size, 110_000))
    clock = Clock()
    assert len(ray.get(refs)) == size
    return {"get": clock.lap()}


@row("references in one object")
def references_in_object(size: int) -> Totals:
    start()
    ref = many_refs.remote(size)
    ray.wait([ref])
    clock = Clock()
    assert len(ray.get(ref)) == size
    return {"get": clock.lap()}


@row("live references")
def live_references(size: int) -> Totals:
    start()
    before = memory()
    clock = Clock()
    refs = [ray.put(i) for i in range(size)]
    put_s = clock.lap()
    live = memory() - before
    clock.lap()
    refs.clear()
    ray.put(0)  # what was dropped is released by the next call
    return {"put": put_s, "drop": clock.lap(), "memory": live}


@row("MB spilled and read back")
def spilled(size: int) -> Totals:
    """`size` MB of objects, much more than the store holds; every byte is looked at."""
    part_bytes = 32_000_000
    start(object_store_memory=320_000_000)
    array = np.zeros(part_bytes // 8, np.uint64)
    clock = Clock()
    refs = []
    for i in range(size * 1_000_000 // part_bytes):
        array[:] = i
        refs.append(ray.put(array))
    put_s = clock.lap()
    for i, ref in enumerate(refs):
        assert (ray.get(ref) == i).all()
    return {"put": put_s, "get": clock.lap()}


# --- Processes and groups.


@row("actors of one machine")
def actors_of_machine(size: int) -> Totals:
    start()
    ray.get(Worker.remote().ping.remote())
    before = settled_memory()
    clock = Clock()
    actors = [Worker.remote() for _ in range(size)]
    ray.get([actor.ping.remote() for actor in actors])
    start_s = clock.lap()
    idle = settled_memory() - before
    clock.lap()
    ray.get([actor.ping.remote() for actor in actors])
    return {"start": start_s, "call each": clock.lap(), "memory": idle}


@row("placement groups at once")
def placement_groups(size: int) -> Totals:
    start()
    first = ray.util.placement_group([{"CPU": 0.0001}])  # loads what groups need
    assert first.wait(60)
    before = settled_memory()
    clock = Clock()
    groups = [ray.util.placement_group([{"CPU": 0.0001}]) for _ in range(size)]
    for group in groups:
        assert group.wait(60)
    create_s = clock.lap()
    held = settled_memory() - before
    clock.lap()
    for group in [first, *groups]:
        ray.util.remove_placement_group(group)
    # The last to be placed needs what the others gave back.
    last = ray.util.placement_group([{"CPU": 2}])
    assert last.wait(60)
    return {"create": create_s, "remove": clock.lap(), "memory": held}


DRIVER_PROGRAM = """
import sys, ray
ray.init(address=sys.argv[1], log_to_driver=False)
@ray.remote
def nothing(): return None
for _ in range(10):
    ray.get(nothing.remote())
print("ready", flush=True)
sys.stdin.readline()
ray.get([nothing.remote() for _ in range(100)])
print("done", flush=True)
sys.stdin.readline()
"""


@row("drivers at once")
def drivers_at_once(size: int) -> Totals:
    start()
    address = ray.get_runtime_context().gcs_address
    ray.get(nothing.remote())
    before = settled_memory()

    def each(drivers: list[subprocess.Popen], word: str) -> None:
        for driver in drivers:
            if driver.stdout.readline().strip() != word:
                raise RuntimeError("a driver has failed")

    def start_driver() -> subprocess.Popen:
        command = [sys.executable, "-c", DRIVER_PROGRAM, address]
        return subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )

    clock = Clock()
    drivers = [start_driver() for _ in range(size)]
    each(drivers, "ready")
    start_s = clock.lap()
    held = settled_memory() - before
    clock.lap()
    for driver in drivers:
        driver.stdin.write("go\n")
    each(drivers, "done")
    run_s = clock.lap()
    for driver in drivers:
        driver.stdin.write("end\n")
    for driver in drivers:
        driver.wait(60)
    return {"start": start_s, "100 tasks each": run_s, "memory": held}


def main() -> None:
    name, size = sys.argv[1], int(sys.argv[2])
    totals = ROWS[name](size)
    print(json.dumps({"row": name, "size": size, "totals": totals}), flush=True)
    ray.shutdown()


if __name__ == "__main__":
    main()
