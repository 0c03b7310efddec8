"""Runs many tasks and actors, and checks that no process of the cluster grows with them.

    python tests/soak/soak.py [--tasks 1000000] [--actors 10000]

Work comes in equal batches of what programs do: plain tasks, tasks on references, large objects,
functions made anew, generators, errors, placement groups, actors with and without names. After each
batch the memory of every process is read: its proportional share of memory that is of no file and
not shared, as the object store's is. The first third of the batches warms up; in the rest no kind
of process may grow.
"""

from __future__ import annotations

import argparse
import dataclasses
import gc
import os
import pathlib
import statistics
import sys
import time

import ray
from ray.util.placement_group import placement_group, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

# What is remembered on purpose is remembered fully before the warm-up ends.
SYSTEM_CONFIG = {
    "task_events_kept_max": 1000,
    "gcs_dead_actors_max": 50,
    "gcs_removed_groups_max": 10,
    "worker_deaths_max": 50,
}


@ray.remote
def nothing():
    return None


@ray.remote
def double(value):
    return value * 2


@ray.remote
def large(size):
    return bytes(size)


@ray.remote(num_returns="streaming")
def count(end):
    yield from range(end)


@ray.remote(max_retries=0)
def fail():
    raise ValueError("as it should")


# In an environment of its own, so that it leaves the workers of the tasks alone.
@ray.remote(num_cpus=0, runtime_env={"env_vars": {"SOAK": "1"}})
class Counter:
    """An actor with some state."""

    def __init__(self):
        self.value = 0

    def add(self, amount):
        """Adds, and returns the sum."""
        self.value += amount
        return self.value


def run_tasks(number: int) -> None:
    """One batch of `number` tasks; each result is checked."""
    plain = number * 8 // 10
    ray.get([nothing.remote() for _ in range(plain)])
    one = ray.put(21)
    rest = number - plain
    assert set(ray.get([double.remote(one) for _ in range(rest * 7 // 10)])) <= {42}
    made_anew = ray.remote(lambda value: value + 1)
    assert ray.get([made_anew.remote(i) for i in range(rest // 10)]) == list(
        range(1, rest // 10 + 1)
    )
    size = 300_000
    for ref in [large.remote(size) for _ in range(rest // 100 + 1)]:
        assert len(ray.get(ref)) == size
    assert [ray.get(item) for item in count.remote(rest // 10)] == list(range(rest // 10))
    for ref in [fail.remote() for _ in range(rest // 100 + 1)]:
        try:
            ray.get(ref)
        except ValueError:
            continue
        raise AssertionError("a task that fails did not")
    group = placement_group([{"CPU": 1}])
    in_group = nothing.options(scheduling_strategy=PlacementGroupSchedulingStrategy(group))
    ray.get([in_group.remote() for _ in range(10)])
    remove_placement_group(group)


@ray.remote(num_cpus=0)
class Resident:
    """A worker that stays: it serves calls, and submits tasks as the driver does."""

    def echo(self, value):
        """Returns the value."""
        return value

    def work(self, number):
        """Runs a batch of tasks."""
        run_tasks(number)


def run_actors(number: int, batch: int) -> None:
    """Makes `number` actors, calls them and lets go of them; the last one has a name."""
    actors = [Counter.remote() for _ in range(number - 1)]
    if number > 0:
        actors.append(Counter.options(name=f"counter-{batch}").remote())
    assert ray.get([actor.add.remote(1) for actor in actors]) == [1] * len(actors)
    assert ray.get([actor.add.remote(2) for actor in actors]) == [3] * len(actors)


# --- memory


def children() -> dict[int, list[int]]:
    """The children of each process of this machine."""
    found: dict[int, list[int]] = {}
    for path in pathlib.Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(path.read_text().rsplit(")", 1)[1].split()[1])
        except OSError:  # it has ended meanwhile
            continue
        found.setdefault(parent, []).append(int(path.parent.name))
    return found


def own_kib(pid: int) -> int:
    """The process's share of memory of its own; 0 if it has ended."""
    try:
        text = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return 0
    fields = dict(line.split(":", 1) for line in text.splitlines()[1:])
    return int(fields["Pss_Anon"].split()[0])


def command(pid: int) -> str:
    """The first word of its command line, less the folders."""
    try:
        first = pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0]
    except OSError:
        return ""
    return os.path.basename(first.decode(errors="replace"))


def sample() -> dict[str, int]:
    """KiB of each kind of process; of the workers the largest, which is the resident."""
    gc.collect()
    of = children()
    daemons = of.get(os.getpid(), [])
    memory = {"driver": own_kib(os.getpid())}
    for pid in daemons:
        if (name := command(pid)) in ("raylet", "gcs_server"):
            memory[name] = own_kib(pid)
            for zygote in of.get(pid, []):
                memory["zygote"] = own_kib(zygote)
                workers = [own_kib(worker) for worker in of.get(zygote, [])]
                memory["largest worker"] = max(workers, default=0)
    return memory


@dataclasses.dataclass
class Growth:
    """How a kind of process grew from the second third of the samples to the last."""

    kind: str
    before: float
    after: float

    def is_flat(self, slack_kib: int) -> bool:
        """Whether it grew by no more than the slack."""
        return self.after - self.before <= slack_kib


def growths(samples: list[dict[str, int]]) -> list[Growth]:
    """The growth of each kind in all of the samples but the first third."""
    third = len(samples) // 3
    result = []
    for kind in samples[-1]:
        middle = statistics.median(one.get(kind, 0) for one in samples[third : 2 * third])
        end = statistics.median(one.get(kind, 0) for one in samples[2 * third :])
        result.append(Growth(kind, middle, end))
    return result


def soak(tasks: int, actors: int, batches: int, report=print) -> list[dict[str, int]]:
    """Runs the batches in the session that is open; the samples after each."""
    samples = []
    began = time.monotonic()
    resident = Resident.remote()
    in_batch = tasks // batches
    for batch in range(batches):
        run_tasks(in_batch * 8 // 10)
        ray.get(resident.work.remote(in_batch // 10))
        ray.get([resident.echo.remote(i) for i in range(in_batch // 10)])
        run_actors(actors // batches, batch)
        samples.append(sample())
        done = (batch + 1) * tasks // batches
        figures = "  ".join(f"{kind} {value}" for kind, value in samples[-1].items())
        report(f"{done:9d} tasks {time.monotonic() - began:6.0f} s  {figures}")
    return samples


def main() -> int:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tasks", type=int, default=1_000_000)
    parser.add_argument("--actors", type=int, default=10_000)
    parser.add_argument("--batches", type=int, default=200)
    parser.add_argument("--slack-kib", type=int, default=4096, help="growth that is let pass")
    arguments = parser.parse_args()
    ray.init(num_cpus=4, log_to_driver=False, _system_config=SYSTEM_CONFIG)
    samples = soak(arguments.tasks, arguments.actors, arguments.batches)
    grown = [one for one in growths(samples) if not one.is_flat(arguments.slack_kib)]
    for one in grown:
        print(f"{one.kind} grew from {one.before:.0f} to {one.after:.0f} KiB", file=sys.stderr)
    ray.shutdown()
    return 1 if grown else 0


if __name__ == "__main__":
    sys.exit(main())
