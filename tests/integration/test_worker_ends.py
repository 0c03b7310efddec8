"""How workers end: max_calls, crashes with their reasons, cancels that reach everything."""

from __future__ import annotations

import os
import signal
import sys
import time

import pytest

import ray
from integration.programs import wait_until
from ray.exceptions import TaskCancelledError, WorkerCrashedError


@pytest.fixture(scope="module", autouse=True)
def session(start_module_cluster):
    start_module_cluster(_system_config={"cancel_grace_ms": 500})


@pytest.mark.parametrize("retries", [0, 3])
def test_max_calls_ends_the_worker_without_losing_tasks(retries):
    @ray.remote(max_calls=3, max_retries=retries)
    def pid():
        return os.getpid()

    pids = ray.get([pid.remote() for _ in range(30)])
    assert max(pids.count(one) for one in pids) <= 3
    assert len(set(pids)) >= 10


def test_who_leaves_takes_nothing_along_that_it_passed_on():
    @ray.remote
    def make():
        return [ray.put(i) for i in range(100)]

    @ray.remote(max_calls=1)
    def pass_on():
        return ray.get(make.remote())  # The lease of that worker lingers when this one leaves.

    for _ in range(10):
        refs = ray.get(pass_on.remote())
        time.sleep(0.05)
        assert ray.get(refs, timeout=20) == list(range(100))


def test_a_crash_tells_signal_and_last_words():
    @ray.remote(max_retries=0)
    def die():
        print("last words", file=sys.stderr, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)

    with pytest.raises(WorkerCrashedError) as crash:
        ray.get(die.remote())
    assert "SIGKILL" in str(crash.value)
    assert "last words" in str(crash.value)
    assert "\x1e" not in str(crash.value) and "task:die" not in str(crash.value)


def test_an_exit_tells_its_code():
    @ray.remote(max_retries=0)
    def leave():
        os._exit(7)

    with pytest.raises(WorkerCrashedError, match="exited with code 7"):
        ray.get(leave.remote())


def test_cancel_reaches_children(tmp_path):
    @ray.remote(num_cpus=0)
    def child(path):
        open(path, "w").close()
        try:
            time.sleep(60)
        finally:
            open(path + "-ended", "w").close()

    @ray.remote(num_cpus=0)
    def parent(folder):
        ray.get([child.remote(os.path.join(folder, str(i))) for i in range(2)])

    ref = parent.remote(str(tmp_path))
    wait_until(lambda: len(os.listdir(tmp_path)) == 2)
    ray.cancel(ref)
    with pytest.raises(TaskCancelledError):
        ray.get(ref, timeout=20)
    wait_until(lambda: len(os.listdir(tmp_path)) == 4)


def test_cancel_of_a_task_that_ignores_it_ends_its_worker():
    @ray.remote(max_retries=0)
    def stubborn(marker):
        while True:
            try:
                time.sleep(0.05)
            except KeyboardInterrupt:
                continue

    ref = stubborn.remote(None)
    time.sleep(0.5)
    ray.cancel(ref)
    with pytest.raises(TaskCancelledError):
        ray.get(ref, timeout=20)


def test_a_call_that_goes_on_after_its_cancel_ends_as_cancelled(tmp_path):
    started = tmp_path / "started"

    @ray.remote(num_cpus=0)
    class Patient:
        def run(self, path):
            open(path, "w").close()
            context = ray.get_runtime_context()
            while not context.is_canceled():
                time.sleep(0.01)
            return "done"

    actor = Patient.options(max_concurrency=2).remote()
    ref = actor.run.remote(str(started))
    wait_until(started.exists)
    ray.cancel(ref)
    with pytest.raises(TaskCancelledError):
        ray.get(ref, timeout=20)
