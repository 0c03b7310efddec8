"""System calls of many calls: what is sent together goes together, and waiting costs no more.

The counts depend on timing, so that the bounds are some times what is usual: a thousand calls that
do not share system calls make several thousand. Instructions are counted in tests/cpp/cost.
"""

import shutil
import subprocess
import sys

import pytest

pytestmark = pytest.mark.ours_only

PROGRAM = """
import sys, ray
ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)

@ray.remote(num_cpus=0)
class Echo:
    def ping(self):
        return None

@ray.remote
def nothing():
    return None

method = {"task": nothing, "call": Echo.remote().ping}[sys.argv[1]]
rounds, batch = int(sys.argv[2]), int(sys.argv[3])
ray.get(method.remote())
for _ in range(rounds):
    ray.get([method.remote() for _ in range(batch)])
ray.shutdown()
"""
SENT = ["sendmsg", "sendto", "write", "writev"]
RECEIVED = ["recvmsg", "recvfrom", "read", "readv"]
WAITS = ["futex", "epoll_wait", "epoll_pwait", "epoll_pwait2"]


def counts(tmp_path, *arguments):
    """How often all processes of a session together make each system call."""
    report = tmp_path / "strace"
    command = ["strace", "-f", "--seccomp-bpf", "-c", "-U", "name,calls", "-o", report]
    command += ["-e", "trace=" + ",".join(SENT + RECEIVED + WAITS)]
    subprocess.run([*command, sys.executable, "-c", PROGRAM, *arguments], check=True)
    lines = [line.split() for line in report.read_text().splitlines()]
    return {line[0]: int(line[1]) for line in lines if len(line) == 2 and line[1].isdigit()}


def for_each_round(tmp_path, kind, rounds, batch):
    """(sent, received, waits) of one round; what the session itself needs is taken off."""
    few = counts(tmp_path, kind, "1", str(batch))
    many = counts(tmp_path, kind, str(1 + rounds), str(batch))

    def difference(names):
        return sum(many.get(name, 0) - few.get(name, 0) for name in names) / rounds

    return difference(SENT), difference(RECEIVED), difference(WAITS)


@pytest.fixture(autouse=True)
def strace():
    assert shutil.which("strace"), "strace is missing: run make setup"


@pytest.mark.parametrize("kind", ["call", "task"])
def test_thousand_pipelined_calls_share_system_calls(tmp_path, kind):
    sent, received, waits = for_each_round(tmp_path, kind, rounds=20, batch=1000)
    assert sent < 300  # usual: 16 for calls of an actor, 80 for tasks on two workers
    assert received < 300  # 15, 50
    assert waits < 600  # 35, 130


@pytest.mark.parametrize("kind", ["call", "task"])
def test_call_alone_is_one_frame_each_way(tmp_path, kind):
    sent, received, waits = for_each_round(tmp_path, kind, rounds=2000, batch=1)
    assert sent < 2.5
    assert received < 6
    assert waits < 30  # a wait looks often before it sleeps
