"""Processes that die, and signals."""

import contextlib
import os
import pathlib
import signal
import socket
import stat
import struct
import time

import psutil
import pytest

import ray
from integration.programs import is_running, state, wait_until
from ray.cluster_utils import Cluster
from ray.exceptions import ActorUnavailableError, RayTaskError, WorkerCrashedError


@ray.remote
def record_and_wait(path, gate):
    """Adds a line with the process id to the file; goes on once the gate exists."""
    with open(path, "a") as file:
        file.write(f"{os.getpid()}\n")
    wait_until(lambda: os.path.exists(gate), timeout_s=30)
    return "done"


def recorded_pids(path):
    return [int(line) for line in path.read_text().splitlines()] if path.exists() else []


def test_killed_worker_fails_a_task_without_retries(cluster, tmp_path):
    path = tmp_path / "pids"
    ref = record_and_wait.options(max_retries=0).remote(path, tmp_path / "gate")
    (pid,) = wait_until(lambda: recorded_pids(path))
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(WorkerCrashedError):
        ray.get(ref, timeout=20)


def test_killed_worker_is_replaced_for_the_retry(cluster, tmp_path):
    path, gate = tmp_path / "pids", tmp_path / "gate"
    ref = record_and_wait.options(max_retries=1).remote(path, gate)
    (first,) = wait_until(lambda: recorded_pids(path))
    os.kill(first, signal.SIGKILL)
    wait_until(lambda: len(recorded_pids(path)) == 2, timeout_s=20)
    gate.touch()
    assert ray.get(ref, timeout=20) == "done"
    assert first not in recorded_pids(path)[1:]


def test_retry_does_not_wait_for_a_node_that_hangs(tmp_path):
    ray.shutdown()
    cluster = Cluster()
    lingers = {"lease_linger_ms": 60_000}
    cluster.add_node(num_cpus=0, _system_config=lingers)
    nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
    ray.init(address=cluster.address, log_to_driver=False)
    hangs = psutil.Process(dict(nodes[0].live_processes())["raylet"].pid)
    path, gate = tmp_path / "pids", tmp_path / "gate"

    @ray.remote(num_cpus=1, max_retries=1)
    def run_on(lost):
        # Both run at once, so one on each node.
        with open(path, "a") as file:
            file.write(f"{os.getpid()}\n")
        wait_until(lambda: len(recorded_pids(path)) > 1, timeout_s=30)
        if ray.get_runtime_context().get_node_id() == lost:
            wait_until(gate.exists, timeout_s=30)
        return os.getpid()

    try:
        refs = [run_on.remote(nodes[0].node_id) for _ in range(2)]
        (done,), (waits,) = ray.wait(refs, timeout=30)
        steady = ray.get(done)
        (pid,) = {*recorded_pids(path)} - {steady}
        hangs.suspend()
        os.kill(pid, signal.SIGKILL)
        assert ray.get(waits, timeout=10) == steady
    finally:
        hangs.resume()
        ray.shutdown()
        cluster.shutdown()


def test_death_of_one_worker_leaves_the_others_alone(cluster, tmp_path):
    @ray.remote(max_retries=0)
    def exit_at_once():
        os._exit(7)

    gate = tmp_path / "gate"
    steady = record_and_wait.remote(tmp_path / "pids", gate)
    with pytest.raises(WorkerCrashedError):
        ray.get(exit_at_once.remote())
    gate.touch()
    assert ray.get(steady, timeout=20) == "done"


def test_exception_keeps_type_message_and_traceback(cluster):
    class Shortage(Exception):
        def __init__(self, what):
            super().__init__(f"no {what} left")
            self.what = what

        def __reduce__(self):
            return Shortage, (self.what,)

    @ray.remote
    def run_out():
        raise Shortage("tea")

    with pytest.raises(Shortage) as raised:
        ray.get(run_out.remote())
    assert isinstance(raised.value, RayTaskError)
    assert raised.value.cause.what == "tea"
    for text in ("no tea left", "run_out", 'raise Shortage("tea")'):
        assert text in str(raised.value)


def test_retry_exceptions_runs_again_until_it_succeeds(cluster, tmp_path):
    path = tmp_path / "attempts"

    @ray.remote(max_retries=5, retry_exceptions=[OSError])
    def third_time():
        with open(path, "a") as file:
            file.write("x")
        if path.stat().st_size < 3:
            raise OSError("not yet")
        return path.stat().st_size

    assert ray.get(third_time.remote()) == 3


@pytest.mark.ours_only  # the reference takes a second
def test_interrupt_in_get_returns_at_once(run_program):
    program = run_program("""
import faulthandler, ray, signal, time
ray.init(address="local", num_cpus=1)

@ray.remote(num_cpus=8)
def never():
    pass

ref = never.remote()
faulthandler.dump_traceback_later(10, exit=True)  # says where it hangs, should it
try:
    print("waiting", flush=True)
    ray.get(ref)
except KeyboardInterrupt:
    print("interrupted", time.monotonic(), flush=True)
""")
    program.line_with("waiting")
    wait_until(lambda: state(program.process.pid) == "S")  # inside get
    sent = time.monotonic()
    program.send(signal.SIGINT)
    line = program.line_with("interrupted")
    assert float(line.split()[1]) - sent < 0.3
    program.finish()


def pid_of(program, daemon):
    """Of the only process of the program that runs this daemon."""
    (pid,) = [
        pid
        for pid in program.processes()
        if os.path.basename(os.readlink(f"/proc/{pid}/exe")) == daemon
    ]
    return pid


@pytest.mark.ours_only
def test_interrupt_while_logs_are_flushed_is_raised(run_program):
    program = run_program("""
import os, ray
from ray._runtime import RUNTIME
ray.init(address="local", num_cpus=1)
try:
    print("waiting", flush=True)
    while True:
        RUNTIME.core.flush_logs(60)
except KeyboardInterrupt:
    print("interrupted", flush=True)
os._exit(0)
""")
    program.line_with("waiting")
    os.kill(pid_of(program, "raylet"), signal.SIGSTOP)
    wait_until(lambda: state(program.process.pid) == "S")  # it waits for the raylet
    program.send(signal.SIGINT)
    program.line_with("interrupted")


@pytest.mark.ours_only
def test_an_actor_whose_creation_was_interrupted_ends(run_program):
    program = run_program("""
import os, signal, threading
import psutil, ray
from integration.programs import wait_until

ray.init(address="local", num_cpus=2)

@ray.remote
class Actor:
    pass

(gcs,) = [p for p in psutil.Process().children(recursive=True) if p.name() == "gcs_server"]
gcs.suspend()
threading.Timer(0.3, os.kill, [os.getpid(), signal.SIGINT]).start()
try:
    Actor.options(name="interrupted").remote()
except KeyboardInterrupt:
    gcs.resume()
kept = Actor.options(name="kept").remote()  # is registered after the other one
wait_until(lambda: ray.util.list_named_actors() == ["kept"], 10)
print("ended", flush=True)
""")
    assert "ended" in program.finish()


@pytest.mark.ours_only
def test_interrupt_of_the_last_flush_leaves_nothing_behind(run_program):
    program = run_program("""
import os, ray
from ray._runtime import RUNTIME
ray.init(address="local", num_cpus=1)

class Interrupted:
    def __init__(self, core):
        self._core = core
    def __getattr__(self, name):
        return getattr(self._core, name)
    def flush_logs(self, timeout):
        raise KeyboardInterrupt

RUNTIME.session._core = Interrupted(RUNTIME.core)
try:
    ray.shutdown()
except KeyboardInterrupt:
    children = open(f"/proc/self/task/{os.getpid()}/children").read().split()
    print("interrupted", children, flush=True)
os._exit(0)
""")
    assert program.line_with("interrupted") == "interrupted []"


@pytest.mark.ours_only
def test_readers_of_messages_hear_that_the_raylet_is_gone(run_program):
    program = run_program("""
import os, ray
from ray._runtime import RUNTIME
ray.init(address="local", num_cpus=1, log_to_driver=False)
print("waiting", flush=True)
print("heard", RUNTIME.core.next_messages(60), flush=True)
os._exit(0)
""")
    program.line_with("waiting")
    os.kill(pid_of(program, "raylet"), signal.SIGKILL)
    assert program.line_with("heard") == "heard None"


BUSY_DRIVER = """
import numpy as np, os, ray, signal, time
context = ray.init(address="local", num_cpus=2)

@ray.remote(num_cpus=0)
class Holder:
    def __init__(self, ref):
        self.array = ref

    def ready(self):
        return True

    def block(self):
        time.sleep(1000)

@ray.remote
def block():
    time.sleep(1000)

ref = ray.put(np.ones(20_000_000, np.uint8))
holder = Holder.remote(ref)
blocked = [block.remote(), holder.block.remote(), block.remote(), block.remote()]
detached = Holder.options(name="detached", lifetime="detached").remote(ref)
ray.get(detached.ready.remote())
print("session", context.address_info["session_dir"], flush=True)
time.sleep(1000)
"""


def sockets_below(folder):
    return [path for path in pathlib.Path(folder).rglob("*") if stat.S_ISSOCK(path.stat().st_mode)]


@pytest.mark.ours_only
def test_killed_driver_leaves_nothing_behind(run_program):
    shared_before = set(os.listdir("/dev/shm"))
    program = run_program(BUSY_DRIVER)
    session_dir = program.line_with("session").split()[1]
    processes = program.processes()
    assert len(processes) > 3, "driver, gcs_server, raylet and workers"

    program.send(signal.SIGKILL)
    wait_until(lambda: not any(map(is_running, processes)), timeout_s=5)
    assert program.processes() == []
    assert sockets_below(session_dir) == []
    assert session_dir not in pathlib.Path("/proc/net/unix").read_text()
    assert set(os.listdir("/dev/shm")) <= shared_before


@pytest.mark.ours_only
@pytest.mark.parametrize("daemon", ["raylet", "gcs_server"])
def test_killed_daemon_leaves_nothing_behind_its_driver(run_program, daemon):
    program = run_program(BUSY_DRIVER)
    program.line_with("session")
    os.kill(pid_of(program, daemon), signal.SIGKILL)
    program.send(signal.SIGTERM)
    wait_until(lambda: program.processes() == [], timeout_s=10)


def test_shutdown_leaves_no_process(run_program):
    program = run_program("""
import ray, time
ray.init(address="local", num_cpus=2)
print(ray.get(ray.remote(lambda: 1).remote()))
ray.shutdown()
print("down", flush=True)
time.sleep(1000)
""")
    program.line_with("down")
    wait_until(lambda: program.processes() == [program.process.pid], timeout_s=5)


@ray.remote(num_cpus=0)
class Counter:
    def __init__(self):
        self.calls = 0

    def count(self):
        self.calls += 1
        return self.calls

    def count_and_cut_off(self, pid, cut):
        """Breaks the connection with another process, in the first `cut` calls of all."""
        self.calls += 1
        if self.calls <= cut:
            for end in connections_with(pid):
                end.shutdown(socket.SHUT_RDWR)
        return self.calls


def connections_with(pid):
    found = []
    for descriptor in map(int, os.listdir("/proc/self/fd")):
        with contextlib.suppress(OSError):
            end = socket.socket(fileno=os.dup(descriptor))
            credentials = end.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
            if struct.unpack("3i", credentials)[0] == pid:
                found.append(end)
    return found


def test_calls_go_on_when_the_connection_to_a_living_actor_breaks(cluster):
    counter = Counter.remote()
    assert ray.get(counter.count.remote()) == 1
    with pytest.raises(ActorUnavailableError, match="the actor lives"):
        ray.get(counter.count_and_cut_off.remote(os.getpid(), 2), timeout=20)
    assert ray.get(counter.count.remote(), timeout=20) == 3


def test_call_with_retries_runs_again_when_its_connection_breaks(cluster):
    counter = Counter.remote()
    retried = counter.count_and_cut_off.options(max_task_retries=1)
    assert ray.get(retried.remote(os.getpid(), 1), timeout=20) == 2
