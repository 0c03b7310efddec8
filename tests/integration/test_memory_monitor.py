"""A node that runs short of memory: who is ended, what the error says, what runs again.

The machine's memory is a file that the test writes: it is full as long as a process that says that
it eats memory is alive.
"""

import os
import threading
import time

import pytest

import ray
from integration.programs import is_running, wait_until
from ray.exceptions import ActorDiedError, OutOfMemoryError, TaskCancelledError

pytestmark = pytest.mark.ours_only  # the reference reads the real memory

TOTAL_KB = 8 << 20


def eat(folder):
    """Fills the machine and never ends; counts how often it was called."""
    with open(os.path.join(folder, "calls"), "a") as calls:
        calls.write("x")
    open(os.path.join(folder, f"hog-{os.getpid()}"), "w").close()
    time.sleep(60)


def calls_of_eat(folder):
    path = os.path.join(folder, "calls")
    return os.path.getsize(path) if os.path.exists(path) else 0


def write_meminfo(machine, used):
    text = f"MemTotal: {TOTAL_KB} kB\nMemAvailable: {int(TOTAL_KB * (1 - used))} kB\n"
    (machine / "proc" / "meminfo.new").write_text(text)
    (machine / "proc" / "meminfo.new").rename(machine / "proc" / "meminfo")


@pytest.fixture
def machine(tmp_path, start_cluster):
    (tmp_path / "proc").mkdir()
    write_meminfo(tmp_path, 0.5)
    ended = threading.Event()

    def run():
        while not ended.wait(0.005):
            hogs = [int(path.name.removeprefix("hog-")) for path in tmp_path.glob("hog-*")]
            write_meminfo(tmp_path, 0.99 if any(map(is_running, hogs)) else 0.5)

    thread = threading.Thread(target=run)
    thread.start()
    start_cluster(
        _system_config={
            "memory_monitor_root": str(tmp_path),
            "memory_monitor_refresh_ms": 20,
            "memory_kill_grace_ms": 100,
            "task_oom_retry_delay_ms": 50,
        }
    )
    yield tmp_path
    ended.set()
    thread.join()


@ray.remote(max_retries=0)
def calm(folder):
    """Runs until it is told to end."""
    open(os.path.join(folder, "calm"), "w").close()
    while not os.path.exists(os.path.join(folder, "enough")):
        time.sleep(0.01)
    return os.getpid()


@pytest.fixture
def neighbour(machine):
    """A task that has been running before anything else, and must not be ended."""
    ref = calm.remote(str(machine))
    wait_until((machine / "calm").exists)
    yield ref
    (machine / "enough").touch()
    assert ray.get(ref, timeout=20) > 0


@ray.remote
def hog(folder, meals=1000):
    """Eats at its first calls."""
    if calls_of_eat(folder) < meals:
        eat(folder)
    return "done"


def test_what_eats_memory_is_ended_and_its_error_shows_the_figures(machine, neighbour):
    with pytest.raises(OutOfMemoryError) as error:
        ray.get(hog.options(max_retries=0).remote(str(machine)), timeout=20)
    said = str(error.value)
    assert "7.9 GiB of the 8.0 GiB of the machine were in use (99.0 %" in said
    assert "task hog" in said and "resident" in said  # the worker and what it held
    assert "it started last" in said  # why it was chosen
    assert "pid" in said.split("Most memory of their own have:")[1]  # the largest processes
    assert "RAY_memory_usage_threshold" in said  # what to do


def test_a_retriable_task_goes_first_and_runs_again_without_using_up_its_retries(
    machine, neighbour
):
    assert ray.get(hog.options(max_retries=1).remote(str(machine), meals=4), timeout=30) == "done"
    assert calls_of_eat(machine) == 4


def test_a_task_that_is_too_large_alone_uses_up_its_retries(machine):
    with pytest.raises(OutOfMemoryError, match="99.0 %"):
        ray.get(hog.options(max_retries=2).remote(str(machine)), timeout=30)
    assert calls_of_eat(machine) == 3


def test_a_task_that_waits_for_memory_can_be_cancelled(machine, neighbour):
    ref = hog.options(max_retries=-1).remote(str(machine))
    wait_until(lambda: calls_of_eat(machine) >= 5)  # by now it waits for most of the time
    ray.cancel(ref)
    with pytest.raises(TaskCancelledError):
        ray.get(ref, timeout=20)


class Eater:
    def __init__(self, folder):
        self.folder = folder

    def pid(self):
        return os.getpid()

    def eat(self):
        eat(self.folder)


def test_an_actor_that_may_restart_does(machine, neighbour):
    actor = ray.remote(max_restarts=1, max_task_retries=1)(Eater).remote(str(machine))
    before = ray.get(actor.pid.remote())
    actor.eat.options(max_task_retries=0).remote()
    wait_until(lambda: not is_running(before))
    assert ray.get(actor.pid.remote(), timeout=20) != before


def test_an_actor_that_may_not_restart_tells_why_it_died(machine):
    actor = ray.remote(Eater).remote(str(machine))
    with pytest.raises(ActorDiedError) as error:
        ray.get(actor.eat.remote(), timeout=20)
    assert "the node ran short of memory: 7.9 GiB of the 8.0 GiB" in str(error.value)
    assert "actor Eater" in str(error.value)
