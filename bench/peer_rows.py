"""The same work on one library that runs functions in processes: one JSON line a row.

    python bench/peer_rows.py LIBRARY [--smoke]

Every library has as many processes as the machine has cores. Each is used as its documentation
says, with its own means where they help: an array is put, scattered or mapped once where that can
be done. Results are complete Python objects in the caller.
"""

import argparse
import contextlib
import json
import os
import statistics
import time
from collections.abc import Callable, Iterable

import numpy as np

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
WORKERS = os.cpu_count() or 2
WINDOW_S = 1.0
WINDOWS = 5
ROW_S = 12.0  # no further window after so long
BATCH = 1000
MAP_ITEMS = 10_000
MAP_CHUNK = 100
ARRAY_BYTES = 100_000_000
ARRAY_TASKS = 8


def nothing(_value=None):
    return b"ok"


def increment(value):
    return value + 1


def total(array):
    return int(array[::4096].sum())


class Library:
    """How one library does each of the rows; None where it has no way."""

    def start(self) -> None:
        raise NotImplementedError

    def call(self) -> bytes:
        """One call and its result."""
        raise NotImplementedError

    def calls(self, argument: object, number: int) -> list[bytes]:
        """So many calls, all submitted before the first result is waited for."""
        raise NotImplementedError

    def map(self, items: Iterable[int]) -> list[int]:
        raise NotImplementedError

    def share_array(self, array: np.ndarray, number: int) -> list[int]:
        """The array, which no process but this one has yet, to so many calls."""
        raise NotImplementedError

    def stop(self) -> None:
        raise NotImplementedError


class Ray(Library):
    """Ours, or the real one: whatever this interpreter imports."""

    def start(self):
        import ray

        self.ray = ray
        ray.init(address="local", num_cpus=WORKERS, include_dashboard=False, log_to_driver=False)
        self.nothing = ray.remote(nothing)
        self.total = ray.remote(total)
        self.pool = None

    def call(self):
        return self.ray.get(self.nothing.remote())

    def calls(self, argument, number):
        return self.ray.get([self.nothing.remote(argument) for _ in range(number)])

    def map(self, items):
        if self.pool is None:
            from ray.util.multiprocessing import Pool

            self.pool = Pool(WORKERS)
        return self.pool.map(increment, items, chunksize=MAP_CHUNK)

    def share_array(self, array, number):
        ref = self.ray.put(array)
        return self.ray.get([self.total.remote(ref) for _ in range(number)])

    def stop(self):
        self.ray.shutdown()


class ProcessPoolExecutor(Library):
    def start(self):
        from concurrent import futures

        self.executor = futures.ProcessPoolExecutor(WORKERS)

    def call(self):
        return self.executor.submit(nothing).result()

    def calls(self, argument, number):
        pending = [self.executor.submit(nothing, argument) for _ in range(number)]
        return [future.result() for future in pending]

    def map(self, items):
        return list(self.executor.map(increment, items, chunksize=MAP_CHUNK))

    def share_array(self, array, number):
        return list(self.executor.map(total, [array] * number))

    def stop(self):
        self.executor.shutdown()


class MultiprocessingPool(Library):
    def start(self):
        import multiprocessing

        self.pool = multiprocessing.Pool(WORKERS)

    def call(self):
        return self.pool.apply(nothing)

    def calls(self, argument, number):
        pending = [self.pool.apply_async(nothing, (argument,)) for _ in range(number)]
        return [result.get() for result in pending]

    def map(self, items):
        return self.pool.map(increment, items, chunksize=MAP_CHUNK)

    def share_array(self, array, number):
        return self.pool.map(total, [array] * number, chunksize=1)

    def stop(self):
        self.pool.terminate()
        self.pool.join()


class Joblib(Library):
    def start(self):
        import joblib

        self.delayed = joblib.delayed
        self.parallel = joblib.Parallel(n_jobs=WORKERS, backend="loky")
        self.parallel.__enter__()

    def call(self):
        return self.parallel([self.delayed(nothing)()])[0]

    def calls(self, argument, number):
        return self.parallel(self.delayed(nothing)(argument) for _ in range(number))

    def map(self, items):
        return self.parallel(self.delayed(increment)(item) for item in items)

    def share_array(self, array, number):
        return self.parallel(self.delayed(total)(array) for _ in range(number))

    def stop(self):
        self.parallel.__exit__(None, None, None)


class Dask(Library):
    def start(self):
        import distributed

        self.client = distributed.Client(
            n_workers=WORKERS, threads_per_worker=1, dashboard_address=None
        )

    def call(self):
        return self.client.submit(nothing, pure=False).result()

    def calls(self, argument, number):
        pending = [self.client.submit(nothing, argument, pure=False) for _ in range(number)]
        return self.client.gather(pending)

    def map(self, items):
        futures = self.client.map(increment, items, pure=False, batch_size=MAP_CHUNK)
        return self.client.gather(futures)

    def share_array(self, array, number):
        future = self.client.scatter(array, hash=False)
        return self.client.gather(
            [self.client.submit(total, future, pure=False) for _ in range(number)]
        )

    def stop(self):
        self.client.shutdown()


LIBRARIES: dict[str, type[Library]] = {
    "ray": Ray,
    "ProcessPoolExecutor": ProcessPoolExecutor,
    "multiprocessing.Pool": MultiprocessingPool,
    "joblib/loky": Joblib,
    "dask.distributed": Dask,
}


class Row:
    """Prints the rate of an operation: the median of some windows, after one to warm up."""

    def __init__(self, window_s: float, windows: int) -> None:
        self.window_s, self.windows = window_s, windows

    def rate(self, name: str, unit: str, operation: Callable[[], object], units: float) -> None:
        try:
            value = {"value": units * statistics.median(self.rates(operation))}
        except Exception as error:  # the other rows still say something
            value = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps({"row": name, "unit": unit, **value}), flush=True)

    def rates(self, operation: Callable[[], object]) -> list[float]:
        """Operations per second of each window; fewer windows where one takes long."""
        start = time.perf_counter()
        warm_up = self.window(operation)
        found: list[float] = []
        while len(found) < self.windows and time.perf_counter() - start < ROW_S:
            found.append(self.window(operation))
        return found or [warm_up]

    def window(self, operation: Callable[[], object]) -> float:
        """Operations per second."""
        done, start = 0, time.perf_counter()
        while True:
            operation()
            done += 1
            elapsed_s = time.perf_counter() - start
            if elapsed_s >= self.window_s:
                return done / elapsed_s


def measure(library: Library, smoke: bool) -> None:
    start = time.perf_counter()
    library.start()
    library.call()
    started_s = time.perf_counter() - start
    print(
        json.dumps({"row": "import to first result", "unit": "s", "value": started_s}), flush=True
    )
    row = Row(0.01, 1) if smoke else Row(WINDOW_S, WINDOWS)
    batch = 20 if smoke else BATCH
    items = range(200 if smoke else MAP_ITEMS)
    array = np.ones(ARRAY_BYTES // (100 if smoke else 1), np.uint8)
    argument = b"x" * 10_000
    assert library.map(items) == [increment(item) for item in items]
    assert library.share_array(array, 2) == 2 * [total(array)]
    row.rate("one call at a time", "1/s", library.call, 1)
    row.rate("calls submitted together", "1/s", lambda: library.calls(None, batch), batch)
    row.rate("the same, argument of 10 KB", "1/s", lambda: library.calls(argument, batch), batch)
    row.rate("map over small items", "1/s", lambda: library.map(items), len(items))
    row.rate(
        f"100 MB array to {ARRAY_TASKS} calls",
        "1/s",
        lambda: library.share_array(array, ARRAY_TASKS),
        1,
    )
    with contextlib.suppress(Exception):
        library.stop()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("library", choices=LIBRARIES)
    parser.add_argument("--smoke", action="store_true", help="tiny and fast; figures mean nothing")
    args = parser.parse_args()
    measure(LIBRARIES[args.library](), args.smoke)


if __name__ == "__main__":
    main()
