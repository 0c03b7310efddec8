"""The zygote as a process, spoken to as the raylet does."""

import contextlib
import json
import os
import pathlib
import select
import signal
import socket
import subprocess
import sys
import time

import pytest

HERE = pathlib.Path(__file__).parent

# The worker does what its environment says; everything before that is the real thing.
PROGRAM = """
import os, random, sys, time
inherited = int(sys.argv[1])
if inherited != 3:
    os.dup2(inherited, 3)
    os.close(inherited)
import fake_raylet
fake_raylet.install_if_missing()
from ray import _worker_main, _zygote

def act(token):
    print("token", token)
    print("pid", os.getpid(), file=sys.stderr)
    sys.stdout.flush()
    action = os.environ["ACTION"]
    if action == "sleep":
        time.sleep(60)
    if action == "draw":
        import numpy
        print("drew", random.random(), numpy.random.random())
        sys.stdout.flush()
    if action == "modules":
        print("numpy" in sys.modules)
        sys.stdout.flush()
    if action == "raise":
        raise RuntimeError("worker failed")
    os._exit(7)

_worker_main.main = act
sys.argv[1:] = ["numpy", "not_installed_anywhere"]
_zygote.main()
"""


class Raylet:
    """The other end of the zygote's socket."""

    def __init__(self, session_dir):
        self.logs = session_dir / "logs"
        self.logs.mkdir()
        self.socket, theirs = socket.socketpair()
        self.socket.settimeout(30)
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(theirs.fileno())],
            env={
                **os.environ,
                "RAY_SESSION_DIR": str(session_dir),
                "PYTHONPATH": os.pathsep.join([str(HERE), *sys.path]),
            },
            pass_fds=[theirs.fileno()],
        )
        theirs.close()
        self.lines = self.socket.makefile()

    def event(self):
        return json.loads(self.lines.readline())

    def ask(self, token, action):
        request = {"op": "fork", "token": token, "log_prefix": "worker-x"}
        request["env"] = {"ACTION": action}
        self.socket.sendall(json.dumps(request).encode() + b"\n")

    def fork(self, token, action):
        self.ask(token, action)
        event = self.event()
        assert (event["event"], event["token"]) == ("forked", token)
        return event["pid"]

    def log(self, pid, suffix):
        return (self.logs / f"worker-x-{pid}.{suffix}").read_text()

    def close(self):
        self.lines.close()
        self.socket.close()
        return self.process.wait(timeout=10)


@pytest.fixture
def raylet(tmp_path):
    started = Raylet(tmp_path)
    assert started.event() == {"event": "ready"}
    yield started
    with contextlib.suppress(OSError):
        started.close()
    started.process.kill()
    started.process.wait()


def test_worker_runs_and_its_exit_is_reported(raylet):
    pid = raylet.fork(11, "exit")
    exited = {"event": "exited", "pid": pid, "token": 11, "exit_code": 7, "signal": None}
    event = raylet.event()
    assert event.pop("peak_memory_bytes") > 1_000_000
    assert event == exited
    assert raylet.log(pid, "out") == "token 11\n"
    assert raylet.log(pid, "err") == f"pid {pid}\n"


def test_death_by_a_signal_is_reported(raylet):
    pid = raylet.fork(1, "sleep")
    os.kill(pid, signal.SIGKILL)
    exited = {"event": "exited", "pid": pid, "token": 1, "exit_code": None, "signal": 9}
    event = raylet.event()
    assert event.pop("peak_memory_bytes") > 0
    assert event == exited


def test_exception_ends_the_worker_with_a_traceback(raylet):
    pid = raylet.fork(1, "raise")
    assert raylet.event()["exit_code"] == 1
    assert "RuntimeError: worker failed" in raylet.log(pid, "err")


def test_requests_in_one_read_are_all_served(raylet):
    request = {"op": "fork", "log_prefix": "worker-x", "env": {"ACTION": "exit"}}
    lines = [json.dumps({**request, "token": token}) for token in range(1, 6)]
    raylet.socket.sendall("".join(line + "\n" for line in lines).encode())
    events = [raylet.event() for _ in range(10)]
    for kind in ("forked", "exited"):
        assert {e["token"] for e in events if e["event"] == kind} == set(range(1, 6))


def test_who_waits_gets_a_worker_before_everything_is_imported(tmp_path):
    with contextlib.closing(Raylet(tmp_path)) as raylet:
        for token in range(20):
            raylet.ask(token, "modules")
        events = [raylet.event() for _ in range(41)]
        pids = {each["token"]: each["pid"] for each in events if each["event"] == "forked"}
        logs = [raylet.log(pids[token], "out") for token in range(20)]
    assert logs[0] == "token 0\nFalse\n"
    assert logs[19] == "token 19\nTrue\n"


def test_workers_draw_different_random_numbers(raylet):
    pids = []
    for token in (1, 2):
        pids.append(raylet.fork(token, "draw"))
        raylet.event()
    numbers = [raylet.log(pid, "out").split("drew")[1].split() for pid in pids]
    assert numbers[0][0] != numbers[1][0]
    assert numbers[0][1] != numbers[1][1]


def test_worker_has_its_own_session(raylet):
    pid = raylet.fork(1, "sleep")
    deadline = time.monotonic() + 10
    while os.getsid(pid) != pid:
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_end_of_file_ends_the_zygote_and_its_workers(raylet):
    pid = raylet.fork(1, "sleep")
    watch = os.pidfd_open(pid)
    try:
        assert raylet.close() == 0
        assert select.select([watch], [], [], 10)[0]
    finally:
        os.close(watch)
