"""Prints, as one JSON line, how fast this machine could do what the rows of the benchmark do.

    python bench/measure_floor.py [--build-dir DIR] [--windows N] [--window-s SECONDS]

Needs g++ and pybind11; floor/call_floor.cc is compiled once into the build directory. Each figure
is the median of the windows.
"""

import argparse
import gc
import importlib
import json
import os
import pathlib
import pickle
import socket
import statistics
import subprocess
import sys
import sysconfig
import threading
from collections.abc import Callable

import cloudpickle  # noqa: F401  # a worker has it loaded when it forks
import numpy as np
import timing

HERE = pathlib.Path(__file__).resolve().parent
BATCH = 1000
COPY_BYTES = 400_000_000


def load_call_floor(build_dir: pathlib.Path):
    source = HERE / "floor" / "call_floor.cc"
    module = build_dir / f"call_floor{sysconfig.get_config_var('EXT_SUFFIX')}"
    if not module.exists() or module.stat().st_mtime < source.stat().st_mtime:
        import pybind11

        build_dir.mkdir(parents=True, exist_ok=True)
        includes = [f"-I{pybind11.get_include()}", f"-I{sysconfig.get_path('include')}"]
        flags = ["-O2", "-std=c++20", "-shared", "-fPIC", "-fvisibility=hidden"]
        subprocess.run(["g++", *flags, *includes, str(source), "-o", str(module)], check=True)
    sys.path.insert(0, str(build_dir))
    return importlib.import_module("call_floor")


class Echo:
    def ping(self):
        return b"ok"


class CallFloor:
    """A caller in this process and a forked server that runs pickled method calls."""

    def __init__(self, call_floor):
        ours, theirs = socket.socketpair()
        self._server = os.fork()
        if self._server == 0:
            ours.close()
            call_floor.serve(theirs.fileno(), self._run_on(Echo()))
            os._exit(0)
        theirs.close()
        self._socket = ours
        self._caller = call_floor.Caller(ours.fileno())

    @staticmethod
    def _run_on(instance) -> Callable[[bytes], bytes]:
        def run(request: bytes) -> bytes:
            method, args, kwargs = pickle.loads(request)
            return pickle.dumps(getattr(instance, method)(*args, **kwargs), 5)

        return run

    def submit(self) -> int:
        return self._caller.submit(pickle.dumps(("ping", (), {}), 5))

    def get(self, call: int) -> bytes:
        return pickle.loads(self._caller.get(call))

    def one(self) -> None:
        self.get(self.submit())

    def batch(self) -> None:
        for call in [self.submit() for _ in range(BATCH)]:
            self.get(call)

    def close(self) -> None:
        self._socket.close()
        os.waitpid(self._server, 0)


def copy_operation(threads: int) -> Callable[[], None]:
    """Copies COPY_BYTES between warm pages, split over the threads."""
    source = np.ones(COPY_BYTES, np.uint8)
    target = np.zeros(COPY_BYTES, np.uint8)
    parts = list(zip(np.array_split(target, threads), np.array_split(source, threads)))

    def copy() -> None:
        workers = [threading.Thread(target=np.copyto, args=part) for part in parts]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()

    return copy


def fork_once() -> None:
    """Forks a child and waits until it runs and says so."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writer, b"x")
        os._exit(0)
    os.read(reader, 1)
    os.close(reader)
    os.close(writer)
    os.waitpid(child, 0)


def small_object_operations() -> tuple[Callable[[], None], Callable[[], None]]:
    """Storing and loading a small object where no other process takes part."""
    stored: dict[int, bytes] = {}

    def store() -> None:
        stored[0] = pickle.dumps(0, 5)

    def load() -> None:
        pickle.loads(stored[0])

    return store, load


def measure(build_dir: pathlib.Path, pace: timing.Pace) -> dict[str, float]:
    def median_rate(operation, units=1.0) -> float:
        return statistics.median(timing.rates(operation, units, pace))

    calls = CallFloor(load_call_floor(build_dir))
    store, load = small_object_operations()
    figures = {
        "call_sync": median_rate(calls.one),
        "call_pipelined": median_rate(calls.batch, BATCH),
        "store_small": median_rate(store),
        "load_small": median_rate(load),
        "copy_gb": median_rate(copy_operation(threads=2), COPY_BYTES / 1e9),
    }
    calls.close()
    gc.collect()
    gc.freeze()  # as a process that forks workers does, to keep its pages shared
    figures["fork"] = median_rate(fork_once)
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    default_dir = HERE.parent / "build" / "floor"
    parser.add_argument("--build-dir", type=pathlib.Path, default=default_dir)
    parser.add_argument("--windows", type=int, default=5)
    parser.add_argument("--window-s", type=float, default=0.5)
    args = parser.parse_args()
    pace = timing.Pace(warmup_s=args.window_s / 2, window_s=args.window_s, windows=args.windows)
    print(json.dumps(measure(args.build_dir, pace)))


if __name__ == "__main__":
    main()
