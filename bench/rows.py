"""Times the operations of the `ray` that this interpreter imports, one JSON line a row.

    python bench/rows.py [--rows REGEX] [--group NAME] [--smoke] [--json]

The workloads are those by which Ray itself is usually judged, with start-up, memory and latency
added. A row that fails says so in its "error" field and the next one runs.
"""

import argparse
import contextlib
import dataclasses
import functools
import importlib.metadata
import json
import os
import re
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

import machine
import numpy as np
import timing

import ray


@dataclasses.dataclass(frozen=True)
class Size:
    """How much work one operation does."""

    pace: timing.Pace
    batch: int  # calls in flight in the pipelined rows
    clients: int  # concurrent callers in the rows with several
    large_bytes: int
    waited_refs: int
    contained_refs: int
    started_actors: int
    sessions: int  # processes started for one row about start-up
    latencies: int  # calls in one window of the latency rows
    small_store_bytes: int  # of the object store in the rows about spilling


CLIENTS = max(2, (os.cpu_count() or 2) // 2)
FULL = Size(timing.FULL_PACE, 1000, CLIENTS, 800_000_000, 1000, 10_000, 20, 5, 2000, 512 << 20)
SMOKE = Size(timing.SMOKE_PACE, 10, 2, 2_000_000, 10, 10, 2, 1, 20, 80 << 20)


@dataclasses.dataclass(frozen=True)
class Row:
    name: str
    group: str
    unit: str
    lower_is_better: bool
    measure: Callable[[Size], list[float]]

    @property
    def needs_session(self) -> bool:
        return self.group not in ("start", "spilling")  # these have their own


ROWS: list[Row] = []
# What a rate row's setup gives: the operation to repeat, and how many units one run of it is.
Repeated = tuple[Callable[[], object], float]


def rate(name: str, group: str, unit: str = "1/s"):
    """Registers a setup; the row is how often per second its operation can be repeated."""

    def register(setup: Callable[[Size], Repeated]):
        def measure(size: Size) -> list[float]:
            operation, units = setup(size)
            return timing.rates(operation, units, size.pace)

        ROWS.append(Row(name, group, unit, False, measure))
        return setup

    return register


def sample(name: str, group: str, unit: str, lower_is_better: bool = True):
    """Registers a function that returns one value for each of its windows."""

    def register(measure: Callable[[Size], list[float]]):
        ROWS.append(Row(name, group, unit, lower_is_better, measure))
        return measure

    return register


# --- What is called remotely.


@ray.remote
def nothing():
    return b"ok"


@ray.remote
def take(_value):
    return b"ok"


@ray.remote
def refs_to_puts(count):
    return [ray.put(1) for _ in range(count)]


@ray.remote(num_cpus=0)
class Echo:
    def ping(self, _value=None):
        return b"ok"

    def pid(self):
        return os.getpid()


@ray.remote(num_cpus=0)
class AsyncEcho:
    async def ping(self):
        return b"ok"


@ray.remote(num_cpus=0)
class Client:
    """A caller beside the driver."""

    def __init__(self, targets=()):
        self.targets = targets
        self.array = None

    def call_tasks(self, count):
        ray.get([nothing.remote() for _ in range(count)])

    def call_actors(self, count):
        each = count // len(self.targets)
        ray.get([target.ping.remote() for target in self.targets for _ in range(each)])

    def make_array(self, size_bytes):
        self.array = np.ones(size_bytes, np.uint8)

    def put_array(self):
        ray.put(self.array)

    def put_small(self, count):
        for _ in range(count):
            ray.put(0)


def get_each(method, count: int) -> Callable[[], object]:
    """An operation: `count` calls in flight, then one get of all of them."""
    return lambda: ray.get([method.remote() for _ in range(count)])


# --- Start-up and memory, each measured in processes of their own.

IMPORT_PROGRAM = """
import time
start = time.perf_counter()
import ray
print(time.perf_counter() - start)
"""
SESSION_PROGRAM = """
import time, ray
start = time.perf_counter()
ray.init(address="local", include_dashboard=False, log_to_driver=False)
started = time.perf_counter()
ray.shutdown()
print(started - start, time.perf_counter() - started)
"""
IDLE_PROGRAM = """
import ray
ray.init(address="local", include_dashboard=False, log_to_driver=False)
print("started", flush=True)
input()
"""


# Four times the store, an eighth of it at a time; every byte is looked at when it comes back.
SPILLING_PROGRAM = """
import sys, time, numpy as np, ray
store_bytes = int(sys.argv[1])
ray.init(
    address="local", object_store_memory=store_bytes, include_dashboard=False, log_to_driver=False
)
arrays = [np.full(store_bytes // 64, i, np.uint64) for i in range(4)]
start = time.perf_counter()
refs = [ray.put(arrays[i % 4]) for i in range(32)]
put = time.perf_counter()
for i, ref in enumerate(refs):
    assert (ray.get(ref) == i % 4).all()
print(put - start, time.perf_counter() - put)
"""
# The same without ray: the disk and the page cache before it.
FILES_PROGRAM = """
import os, sys, tempfile, time, numpy as np
store_bytes = int(sys.argv[1])
arrays = [np.full(store_bytes // 64, i, np.uint64) for i in range(4)]
back = np.empty_like(arrays[0])
with tempfile.TemporaryDirectory() as folder:
    start = time.perf_counter()
    for i in range(32):
        with open(f"{folder}/{i}", "wb", buffering=0) as file:
            file.write(arrays[i % 4])
    written = time.perf_counter()
    for i in range(32):
        with open(f"{folder}/{i}", "rb", buffering=0) as file:
            file.readinto(back)
        assert (back == i % 4).all()
    print(written - start, time.perf_counter() - written)
"""


def printed_numbers(program: str, *arguments: str) -> list[float]:
    command = [sys.executable, "-c", program, *arguments]
    return [float(word) for word in subprocess.check_output(command, text=True).split()]


@functools.cache  # two rows are read off the same runs
def session_times(runs: int) -> list[list[float]]:
    return [printed_numbers(SESSION_PROGRAM) for _ in range(runs)]


@sample("import ray", "start", "s")
def import_ray(size):
    return [printed_numbers(IMPORT_PROGRAM)[0] for _ in range(size.sessions)]


@sample("ray.init", "start", "s")
def ray_init(size):
    return [times[0] for times in session_times(size.sessions)]


@sample("ray.shutdown", "start", "s")
def ray_shutdown(size):
    return [times[1] for times in session_times(size.sessions)]


@sample("idle cluster memory (PSS)", "start", "MB")
def idle_memory(size):
    return [idle_memory_mb() for _ in range(size.sessions)]


def idle_memory_mb() -> float:
    name, value = "RAY_BENCH_MARK", uuid.uuid4().hex
    driver = subprocess.Popen(
        [sys.executable, "-c", IDLE_PROGRAM],
        env={**os.environ, name: value},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with driver:
        if driver.stdout.readline() != "started\n":
            raise RuntimeError("the driver of the idle cluster did not start")
        memory = timing.settled_memory_mb(f"{name}={value}", interval_s=1.0, limit_s=20.0)
        driver.stdin.write("\n")
    return memory


# --- Tasks.


@rate("single client tasks sync", "tasks")
def tasks_sync(size):
    return lambda: ray.get(nothing.remote()), 1


@rate("single client tasks async", "tasks")
def tasks_async(size):
    return get_each(nothing, size.batch), size.batch


@rate("multi client tasks async", "tasks")
def tasks_of_clients(size):
    clients = [Client.remote() for _ in range(size.clients)]
    return (
        lambda: ray.get([client.call_tasks.remote(size.batch) for client in clients]),
        size.clients * size.batch,
    )


@rate("tasks with a 10 KB argument async", "tasks")
def tasks_with_argument(size):
    argument = b"x" * 10_000
    return lambda: ray.get([take.remote(argument) for _ in range(size.batch)]), size.batch


@rate("tasks with a large argument by ref async", "tasks")
def tasks_with_large_ref(size):
    ref = ray.put(np.ones(size.large_bytes // 8, np.uint8))
    return lambda: ray.get([take.remote(ref) for _ in range(size.batch)]), size.batch


# --- Actors.


@rate("1:1 actor calls sync", "actors")
def actor_sync(size):
    actor = Echo.remote()
    return lambda: ray.get(actor.ping.remote()), 1


@rate("1:1 actor calls async", "actors")
def actor_async(size):
    actor = Echo.remote()
    return get_each(actor.ping, size.batch), size.batch


@rate("1:1 threaded actor calls async", "actors")
def actor_threaded(size):
    actor = Echo.options(max_concurrency=16).remote()
    return get_each(actor.ping, size.batch), size.batch


@rate("1:n actor calls async", "actors")
def actor_one_to_many(size):
    actors = [Echo.remote() for _ in range(size.clients)]
    client = Client.remote(actors)
    return lambda: ray.get(client.call_actors.remote(size.batch)), size.batch


def many_to_many(actor_class, size: Size) -> Repeated:
    actors = [actor_class.remote() for _ in range(size.clients)]
    clients = [Client.remote(actors) for _ in range(size.clients)]
    return (
        lambda: ray.get([client.call_actors.remote(size.batch) for client in clients]),
        size.clients * size.batch,
    )


@rate("n:n actor calls async", "actors")
def actor_many_to_many(size):
    return many_to_many(Echo, size)


@rate("1:1 async-actor calls sync", "actors")
def async_actor_sync(size):
    actor = AsyncEcho.remote()
    return lambda: ray.get(actor.ping.remote()), 1


@rate("1:1 async-actor calls async", "actors")
def async_actor_async(size):
    actor = AsyncEcho.remote()
    return get_each(actor.ping, size.batch), size.batch


@rate("n:n async-actor calls async", "actors")
def async_actor_many_to_many(size):
    return many_to_many(AsyncEcho, size)


def call_latencies_us(size: Size) -> list[list[float]]:
    """Sorted latencies of synchronous actor calls, for each window."""
    actor = Echo.remote()
    timing.run_for(lambda: ray.get(actor.ping.remote()), size.pace.warmup_s)
    windows = []
    for _ in range(size.pace.windows):
        window = []
        for _ in range(size.latencies):
            start = time.perf_counter_ns()
            ray.get(actor.ping.remote())
            window.append((time.perf_counter_ns() - start) / 1000)
        windows.append(sorted(window))
    return windows


@sample("actor call latency p50", "actors", "us")
def latency_p50(size):
    return [window[len(window) // 2] for window in call_latencies_us(size)]


@sample("actor call latency p99", "actors", "us")
def latency_p99(size):
    return [window[len(window) * 99 // 100] for window in call_latencies_us(size)]


@sample("actor start (20 more)", "actors", "1/s", lower_is_better=False)
def actor_start(size):
    results = []
    for _ in range(size.pace.windows):
        start = time.perf_counter()
        actors = [Echo.remote() for _ in range(size.started_actors)]
        pids = ray.get([actor.pid.remote() for actor in actors])
        results.append(size.started_actors / (time.perf_counter() - start))
        for actor in actors:
            ray.kill(actor)
        wait_for_exit(pids)  # so that their end is not part of the next window
    return results


def wait_for_exit(pids: list[int]) -> None:
    while any(os.path.exists(f"/proc/{pid}") for pid in pids):
        time.sleep(0.01)


# --- Placement groups.


@rate("placement groups created and removed", "groups")
def placement_groups(size):
    count = max(1, size.batch // 10)

    def create_and_remove():
        groups = [ray.util.placement_group([{"CPU": 0.001}]) for _ in range(count)]
        for group in groups:
            group.wait(30)
        for group in groups:
            ray.util.remove_placement_group(group)

    return create_and_remove, count


# --- Objects.


@rate("single client put small", "objects")
def put_small(size):
    return lambda: ray.put(0), 1


@rate("multi client put small", "objects")
def put_small_of_clients(size):
    clients = [Client.remote() for _ in range(size.clients)]
    return (
        lambda: ray.get([client.put_small.remote(size.batch) for client in clients]),
        size.clients * size.batch,
    )


@rate("single client get small", "objects")
def get_small(size):
    ref = ray.put(0)
    return lambda: ray.get(ref), 1


@rate("single client put large", "objects", "GB/s")
def put_large(size):
    array = np.ones(size.large_bytes, np.uint8)
    return lambda: ray.put(array), size.large_bytes / 1e9


@rate("multi client put large", "objects", "GB/s")
def put_large_of_clients(size):
    each_bytes = size.large_bytes // size.clients
    clients = [Client.remote() for _ in range(size.clients)]
    ray.get([client.make_array.remote(each_bytes) for client in clients])
    return (
        lambda: ray.get([client.put_array.remote() for client in clients]),
        size.clients * each_bytes / 1e9,
    )


@rate("single client get large", "objects")
def get_large(size):
    ref = ray.put(np.ones(size.large_bytes, np.uint8))
    return lambda: ray.get(ref), 1


@rate("wait on 1k refs one by one", "objects")
def wait_refs(size):
    def operation():
        pending = [nothing.remote() for _ in range(size.waited_refs)]
        while pending:
            _, pending = ray.wait(pending)

    return operation, 1


@rate("get an object holding 10k refs", "objects")
def get_contained_refs(size):
    ref = refs_to_puts.remote(size.contained_refs)
    ray.wait([ref])
    return lambda: ray.get(ref), 1


# --- More objects than the store holds.


@functools.cache  # two rows are read off the same runs
def spilling_rates(program: str, size: Size) -> list[list[float]]:
    gigabytes = 4 * size.small_store_bytes / 1e9
    runs = [printed_numbers(program, str(size.small_store_bytes)) for _ in range(size.sessions)]
    return [[gigabytes / seconds for seconds in run] for run in runs]


@sample("put 4 times the store", "spilling", "GB/s", lower_is_better=False)
def put_and_spill(size):
    return [rates[0] for rates in spilling_rates(SPILLING_PROGRAM, size)]


@sample("get it back", "spilling", "GB/s", lower_is_better=False)
def get_and_restore(size):
    return [rates[1] for rates in spilling_rates(SPILLING_PROGRAM, size)]


@sample("write as much to plain files", "spilling", "GB/s", lower_is_better=False)
def write_files(size):
    return [rates[0] for rates in spilling_rates(FILES_PROGRAM, size)]


@sample("read them", "spilling", "GB/s", lower_is_better=False)
def read_files(size):
    return [rates[1] for rates in spilling_rates(FILES_PROGRAM, size)]


# --- Running them.


@contextlib.contextmanager
def time_limit(seconds: int) -> Iterator[None]:
    def expire(_signal, _frame):
        raise TimeoutError(f"not finished after {seconds} s")

    previous = signal.signal(signal.SIGALRM, expire)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, previous)


def run_row(row: Row, size: Size, limit_s: int) -> dict[str, object]:
    result: dict[str, object] = {
        "row": row.name,
        "group": row.group,
        "unit": row.unit,
        "lower_is_better": row.lower_is_better,
    }
    try:
        with time_limit(limit_s):
            if row.needs_session and not ray.is_initialized():
                ray.init(
                    address="local",
                    num_cpus=max(2, os.cpu_count() or 2),
                    include_dashboard=False,
                    log_to_driver=False,
                )
            result |= timing.summary(row.measure(size))
    except Exception as error:  # an incomplete ray: the other rows still say something
        result["error"] = f"{type(error).__name__}: {error}"
    return result


def subject() -> dict[str, str]:
    """Which ray this is."""
    for distribution in ("manta-ray", "ray"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            version = importlib.metadata.version(distribution)
            return {"distribution": distribution, "version": version}
    return {"distribution": "unknown", "version": getattr(ray, "__version__", "unknown")}


def table_line(result: dict[str, object]) -> str:
    if "error" in result:
        figures = str(result["error"]).splitlines()[0]
    else:
        figures = f"{result['unit']:<5} {timing.readable(result)}"
    return f"{result['row']:<42} {figures}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", default="", metavar="REGEX", help="only rows that match")
    parser.add_argument("--group", choices=sorted({row.group for row in ROWS}))
    parser.add_argument("--smoke", action="store_true", help="tiny and fast; figures mean nothing")
    parser.add_argument("--json", action="store_true", help="JSON lines instead of a table")
    parser.add_argument("--limit-s", type=int, default=180, help="time limit of one row")
    args = parser.parse_args()
    write = json.dumps if args.json else table_line

    about = {"about": subject() | machine.facts(), "smoke": args.smoke}
    print(json.dumps(about), flush=True)
    size = SMOKE if args.smoke else FULL
    for row in ROWS:
        if re.search(args.rows, row.name) and args.group in (None, row.group):
            print(write(run_row(row, size, args.limit_s)), flush=True)
    if ray.is_initialized():
        ray.shutdown()


if __name__ == "__main__":
    main()
