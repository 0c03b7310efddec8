"""How long does a synchronous actor call take at worst? p50, p99 and p999, also beside other work.

    python bench/tail_latency.py [--write] [--seconds S] [--smoke]
                                 [--python PATH] [--reference-python PATH]

Ours and Ray 2.60.0 in turn, each situation in a process of its own with a time limit. With --write
the table becomes a section of bench/RESULTS.md.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import environments
import machine
import results_file

HERE = pathlib.Path(__file__).resolve().parent
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
WARMUP_S = 1.0
BUSY_WORKERS = 8
LIMIT_S = 120  # of one situation, beside the time of the calls
SESSION = {"include_dashboard": False, "log_to_driver": False}


# --- The situations. Each is a generator: it yields the actor to be called, and then cleans up.


def alone(_transfer_bytes: int) -> Iterator[object]:
    import ray

    ray.init(address="local", num_cpus=2, **SESSION)
    yield echo_class(ray).remote()


def beside_busy_workers(_transfer_bytes: int) -> Iterator[object]:
    import ray

    ray.init(address="local", num_cpus=BUSY_WORKERS + 1, **SESSION)

    @ray.remote(num_cpus=1)
    class Busy:
        def ready(self):
            return True

        def spin(self):
            while True:
                pass

    workers = [Busy.remote() for _ in range(BUSY_WORKERS)]
    ray.get([worker.ready.remote() for worker in workers])
    for worker in workers:
        worker.spin.remote()
    yield echo_class(ray).remote()
    for worker in workers:
        ray.kill(worker)


def on_another_node(transfer_bytes: int, transfers: bool = False) -> Iterator[object]:
    import numpy as np

    import ray
    from ray.cluster_utils import Cluster

    store = max(3 * transfer_bytes, 200 << 20)
    cluster = Cluster(
        initialize_head=True, head_node_args={"num_cpus": 2, "object_store_memory": store}
    )
    cluster.add_node(num_cpus=2, resources={"far": 10}, object_store_memory=store)
    ray.init(address=cluster.address, log_to_driver=False)

    @ray.remote(resources={"far": 1}, num_cpus=0)
    def make(size):
        return np.ones(size, np.uint8)

    @ray.remote(num_cpus=1)
    def fetch_until(until):
        count = 0
        while time.time() < until:
            ray.get(make.remote(transfer_bytes))
            count += 1
        return count

    fetches = fetch_until.remote(time.time() + 3600) if transfers else None
    if fetches is not None:
        ray.get(make.remote(1))
    yield echo_class(ray).options(resources={"far": 1}).remote()
    if fetches is not None:
        ray.cancel(fetches, force=True)
    ray.shutdown()
    cluster.shutdown()


def during_transfers(transfer_bytes: int) -> Iterator[object]:
    yield from on_another_node(transfer_bytes, transfers=True)


SITUATIONS: dict[str, Callable[[int], Iterator[object]]] = {
    "alone": alone,
    f"beside {BUSY_WORKERS} busy workers": beside_busy_workers,
    "actor on another node": on_another_node,
    "the same, during transfers of 1 GB": during_transfers,
}


def echo_class(ray):
    @ray.remote(num_cpus=0)
    class Echo:
        def ping(self):
            return b"ok"

    return Echo


def call_for(seconds: float, actor, ray) -> list[float]:
    """Sorted latencies in microseconds of one call after the other."""
    latencies = []
    end = time.perf_counter() + seconds
    before = time.perf_counter()
    while before < end:
        ray.get(actor.ping.remote())
        after = time.perf_counter()
        latencies.append((after - before) * 1e6)
        before = after
    return sorted(latencies)


def measure_here(situation: str, seconds: float, transfer_bytes: int) -> dict[str, float]:
    import ray

    scene = SITUATIONS[situation](transfer_bytes)
    actor = next(scene)
    call_for(min(WARMUP_S, seconds), actor, ray)
    latencies = call_for(seconds, actor, ray)
    result = {
        name: latencies[min(int(len(latencies) * share), len(latencies) - 1)]
        for name, share in (("p50", 0.5), ("p99", 0.99), ("p999", 0.999))
    }
    next(scene, None)
    return result | {"max": latencies[-1], "calls": len(latencies)}


# --- Running them.


def measure(python: pathlib.Path, situation: str, options: list[str], limit_s: float) -> dict:
    command = [python, HERE / "tail_latency.py", "--measure", situation, *options]
    try:
        run = subprocess.run(command, capture_output=True, text=True, timeout=limit_s)
    except subprocess.TimeoutExpired:
        return {"error": f"not done after {limit_s:.0f} s"}
    for line in run.stdout.splitlines():
        if line.startswith("{"):
            return json.loads(line)
    return {"error": (run.stderr.strip().splitlines() or ["no result"])[-1]}


FIGURES = ["p50", "p99", "p999", "max"]
HEADINGS = ["call", "", *[f"{name} us" for name in FIGURES], "calls"]


def table_line(situation: str, side: str, result: dict) -> list[str]:
    if "error" in result:
        return [situation, side, result["error"], "", "", "", ""]
    figures = [f"{result[name]:,.0f}" for name in FIGURES]
    return [situation, side, *figures, f"{result['calls']:,}"]


NOTES = """\
One synchronous call after the other for some seconds, each of them timed. During the transfers
arrays of 1 GB are made on the actor's node and fetched to the caller's, one after the other.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    default = HERE.parent / ".venv" / "bin" / "python"
    parser.add_argument("--python", type=pathlib.Path, default=default, help="runs ours")
    parser.add_argument("--reference-python", type=pathlib.Path, help="has Ray 2.60.0 already")
    parser.add_argument("--seconds", type=float, default=15.0, help="of calls, in each situation")
    parser.add_argument("--smoke", action="store_true", help="tiny and fast; figures mean nothing")
    parser.add_argument("--write", action="store_true", help="write bench/RESULTS.md")
    parser.add_argument("--measure", choices=SITUATIONS, help="one situation in this process")
    args = parser.parse_args()
    seconds = 0.2 if args.smoke else args.seconds
    if args.measure:
        transfer_bytes = 10_000_000 if args.smoke else 1_000_000_000
        print(json.dumps(measure_here(args.measure, seconds, transfer_bytes)), flush=True)
        return

    build = machine.build_type()
    facts = machine.facts() | {"commit": machine.commit(), "build type": build}
    warnings = machine.warnings(build)
    reference = args.reference_python or environments.reference()
    options = ["--seconds", str(args.seconds)] + (["--smoke"] if args.smoke else [])
    lines = []
    for situation in SITUATIONS:
        for side, python in (("ours", args.python), ("Ray 2.60.0", reference)):
            result = measure(python, situation, options, seconds + LIMIT_S)
            print(f"{situation}, {side}: {result}", file=sys.stderr, flush=True)
            lines.append(table_line(situation if side == "ours" else "", side, result))
    description = results_file.description(facts, warnings)
    text = "\n\n".join([description, results_file.table(HEADINGS, lines), NOTES])
    print(text)
    if args.write:
        results_file.write_section("Tail latency", text)


if __name__ == "__main__":
    main()
