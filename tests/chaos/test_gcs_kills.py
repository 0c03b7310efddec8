"""The control plane is killed again and again under load. Nothing may be lost, calls of actors that
exist go on, and it is back at once."""

import os
import pathlib
import random
import signal
import statistics
import threading
import time

import pytest

import ray
from integration.programs import is_running, wait_until
from ray.experimental.internal_kv import _internal_kv_get, _internal_kv_put
from ray.util.placement_group import (
    placement_group,
    placement_group_table,
    remove_placement_group,
)
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

# A caller of a living actor does not need the GCS: what it sees is how busy the machine is.
PAUSE_MAX_S = 1.0


def gcs_pid(session_dir):
    """The process that serves now; None while there is none."""
    for entry in pathlib.Path("/proc").iterdir():
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0") if entry.name.isdigit() else []
        except OSError:
            continue
        if not words or not words[0].endswith(b"/gcs_server"):
            continue
        if any(session_dir.encode() in word for word in words) and is_running(int(entry.name)):
            return int(entry.name)
    return None


def kill_gcs(session_dir):
    """Kills the process that serves, once there is one."""
    os.kill(wait_until(lambda: gcs_pid(session_dir)), signal.SIGKILL)


@ray.remote(num_cpus=0)
class Counter:
    def __init__(self, start=0):
        self.count = start

    def add(self):
        self.count += 1
        return self.count

    def value(self):
        return self.count


@ray.remote(num_cpus=0, max_concurrency=2)
class Caller:
    """Calls an actor without a pause, and keeps how long each call took."""

    def __init__(self):
        self.stopped = False
        self.durations = []

    def call(self, actor):
        while not self.stopped:
            begin = time.monotonic()
            ray.get(actor.add.remote())
            self.durations.append(time.monotonic() - begin)
        return self.durations

    def stop(self):
        self.stopped = True


@ray.remote
def square(x):
    return x * x


class Load:
    """Threads that each do one kind of thing over and over; the first error ends the test."""

    def __init__(self):
        self._ended = threading.Event()
        self._errors = []
        self._threads = []
        self.actors = {}  # handle -> value
        self.named = {}  # name -> value
        self.groups = []
        self.removed_groups = []
        self.keys = {}
        self.tasks = 0
        for step in (
            self._run_task,
            self._make_actor,
            self._make_named,
            self._change_groups,
            self._put_key,
        ):
            thread = threading.Thread(target=self._repeat, args=(step,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _repeat(self, step):
        number = 0
        try:
            while not self._ended.is_set():
                step(number)
                number += 1
                time.sleep(0.02)
        except Exception as error:
            self._errors.append((step.__name__, error))

    def _run_task(self, number):
        assert ray.get(square.remote(number), timeout=30) == number * number
        self.tasks += 1

    def _make_actor(self, number):
        actor = Counter.remote(number)
        assert ray.get(actor.value.remote(), timeout=30) == number
        if number % 4 == 3:
            ray.kill(actor)
        elif number < 60:
            self.actors[actor] = number

    def _make_named(self, number):
        if number >= 40:
            return
        name = f"named-{number}"
        lifetime = "detached" if number % 2 else None
        actor = Counter.options(name=name, lifetime=lifetime).remote(number)
        self.named[name] = (actor, number)

    def _change_groups(self, number):
        group = placement_group([{"CPU": 0.01}] * 2)
        assert group.wait(30)
        if number % 3 and len(self.groups) < 20:
            self.groups.append(group)
        else:
            remove_placement_group(group)
            self.removed_groups.append(group)

    def _put_key(self, number):
        key, value = f"key-{number}".encode(), os.urandom(200)
        assert not _internal_kv_put(key, value, overwrite=False), "it was not there before"
        self.keys[key] = value

    def check(self):
        assert not self._errors, self._errors

    def end(self):
        self._ended.set()
        for thread in self._threads:
            thread.join(60)
            assert not thread.is_alive()
        self.check()


def test_nothing_is_lost_when_the_gcs_is_killed_under_load(start_cluster, soak):
    context = start_cluster(namespace="chaos")
    session_dir = context.address_info["session_dir"]
    (node_id,) = [node["NodeID"] for node in ray.nodes()]
    counter = Counter.remote()
    caller = Caller.remote()
    calls = caller.call.remote(counter)
    load = Load()
    recoveries = []
    for number in range(20 if soak else 5):
        time.sleep(random.uniform(0.1, 1.0))
        load.check()
        pid = wait_until(lambda: gcs_pid(session_dir))
        os.kill(pid, signal.SIGKILL)
        killed = time.monotonic()
        # Full service: a key is stored, and a new actor answers.
        _internal_kv_put(b"probe", b"%d" % number)
        stored = time.monotonic() - killed
        assert ray.get(Counter.remote(7).value.remote(), timeout=30) == 7
        recoveries.append((stored, time.monotonic() - killed))
    load.end()
    ray.get(caller.stop.remote())
    durations = ray.get(calls)

    assert ray.get(counter.value.remote()) == len(durations)
    for actor, value in load.actors.items():
        assert ray.get(actor.value.remote(), timeout=30) == value
    for name, (_, value) in load.named.items():
        assert ray.get(ray.get_actor(name).value.remote(), timeout=30) == value
    assert set(ray.util.list_named_actors()) == set(load.named)
    for key, value in load.keys.items():
        assert _internal_kv_get(key) == value
    for group in load.groups:
        strategy = PlacementGroupSchedulingStrategy(group)
        in_group = square.options(num_cpus=0.01, scheduling_strategy=strategy)
        assert ray.get(in_group.remote(3), timeout=30) == 9
    states = {
        entry["placement_group_id"]: entry["state"] for entry in placement_group_table().values()
    }
    assert {states[group.id.hex()] for group in load.groups} == {"CREATED"}
    assert {states[group.id.hex()] for group in load.removed_groups} == {"REMOVED"}
    assert [(node["NodeID"], node["Alive"]) for node in ray.nodes()] == [(node_id, True)]

    stored, served = (statistics.median(times) for times in zip(*recoveries))
    print(
        f"\n{len(recoveries)} kills: a key is stored after {stored:.2f} s (median), a new actor "
        f"answers after {served:.2f} s (median), {max(r[1] for r in recoveries):.2f} s (worst); "
        f"{len(durations)} calls of an actor, longest {max(durations) * 1000:.0f} ms; "
        f"{load.tasks} tasks, {len(load.actors) + len(load.named)} actors, {len(load.groups)} "
        f"groups, {len(load.removed_groups)} removed, {len(load.keys)} keys"
    )
    assert max(durations) < PAUSE_MAX_S
    assert served < 1.0


def test_a_finished_cluster_leaves_no_replacement_behind(start_cluster):
    session_dir = start_cluster().address_info["session_dir"]
    first = wait_until(lambda: gcs_pid(session_dir))
    os.kill(first, signal.SIGKILL)
    second = wait_until(lambda: gcs_pid(session_dir) not in (None, first) and gcs_pid(session_dir))
    ray.shutdown()
    assert not is_running(second)
    assert gcs_pid(session_dir) is None
    assert not os.path.exists(os.path.join(session_dir, "state"))


@pytest.mark.parametrize("restarts", [0, 3])
def test_a_kill_with_restart_counts_once(start_cluster, restarts):
    session_dir = start_cluster().address_info["session_dir"]
    for _ in range(5):
        actor = Counter.options(max_restarts=restarts, max_task_retries=-1).remote()
        ray.get(actor.value.remote())
        threading.Timer(random.uniform(0, 0.01), kill_gcs, [session_dir]).start()
        ray.kill(actor, no_restart=False)
        if restarts == 0:
            with pytest.raises(ray.exceptions.RayActorError):
                ray.get(actor.value.remote(), timeout=30)
        else:
            for _ in range(2):
                assert ray.get(actor.value.remote(), timeout=30) == 0
        wait_until(lambda: gcs_pid(session_dir))
