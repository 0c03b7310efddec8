"""Breakpoints in tasks and actors, and the command that attaches to them."""

import os
import pathlib
import select
import socket
import subprocess

import pytest

import ray
from integration.command_line import RAY
from integration.programs import wait_until
from ray import _breakpoints
from ray._runtime import RUNTIME

pytestmark = [pytest.mark.ours_only, pytest.mark.timeout(60)]


@ray.remote(max_retries=0)
def double(value):
    doubled = 2 * value
    breakpoint()
    return doubled


@ray.remote
class Account:
    def __init__(self):
        self.balance = 1

    def pay(self, amount):
        ray.util.pdb.set_trace()
        self.balance += amount
        return self.balance


@ray.remote(max_retries=0)
def fail(value):
    missing = value
    raise KeyError(missing)


def waiting(count):
    """Those that wait, once there are so many."""
    found = []

    def are_there():
        found[:] = _breakpoints.waiting(RUNTIME.core)
        return len(found) == count

    wait_until(are_there)
    return found


@pytest.fixture
def debug(cluster):
    """What ``ray debug`` prints when this is typed."""

    def run(typed, *arguments):
        address = cluster.address_info["address"]
        done = subprocess.run(
            [*RAY, "debug", f"--address={address}", *arguments],
            input=typed,
            env={**os.environ, "PYTHONPATH": str(pathlib.Path(ray.__file__).parents[1])},
            capture_output=True,
            text=True,
            timeout=30,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run


def test_a_task_waits_for_a_debugger_and_runs_on(debug):
    ref = double.remote(21)
    (one,) = waiting(1)
    assert one.where.startswith("double, ") and "test_debugger.py:" in one.where
    assert ray.wait([ref], timeout=0.1)[0] == []
    printed = debug("0\np doubled\ndoubled = 5\nc\n")
    assert "Breakpoints that wait: 1" in printed and "double, " in printed
    assert "(Pdb) 42\n" in printed
    assert ray.get(ref) == 5
    waiting(0)


def test_a_method_can_be_stepped_through(debug):
    account = Account.remote()
    ref = account.pay.remote(2)
    (one,) = waiting(1)
    assert one.where.startswith("Account.pay, ")
    printed = debug("0\nn\np self.balance\nw\nc\n", "--verbose")
    assert "(Pdb) 3\n" in printed and str(one.pid) in printed
    assert ray.get(ref) == 3


def test_breakpoints_of_the_debugger_keep_it(debug):
    @ray.remote
    def count():
        total = 0
        breakpoint()
        for i in range(3):
            total += i
        return total

    ref = count.remote()
    waiting(1)
    line = count.__wrapped__.__code__.co_firstlineno + 5
    printed = debug(f"0\nb {line}\nc\nc\np total\nclear\ny\nc\n")
    assert "(Pdb) 0\n" in printed or "(Pdb) 1\n" in printed
    assert ray.get(ref) == 3


def test_the_task_runs_on_when_the_terminal_goes_away(debug):
    ref = double.remote(1)
    waiting(1)
    debug("0\n")
    assert ray.get(ref) == 2


def test_quit_ends_the_task(debug):
    ref = double.remote(1)
    waiting(1)
    debug("0\nq\n")
    with pytest.raises(ray.exceptions.RayTaskError, match="BdbQuit"):
        ray.get(ref)


def test_several_wait_at_the_same_time(debug):
    refs = [double.remote(i) for i in range(2)]
    waiting(2)
    assert "Breakpoints that wait: 2" in debug("")
    assert "There is no breakpoint 7." in debug("7\nx\n")
    debug("0\nc\n")
    waiting(1)
    debug("0\nc\n")
    assert ray.get(refs) == [0, 2]


def test_a_cancelled_task_waits_no_more(cluster):
    ref = double.remote(1)
    (one,) = waiting(1)
    ray.cancel(ref)
    with pytest.raises(ray.exceptions.TaskCancelledError):
        ray.get(ref)
    waiting(0)
    assert not os.path.exists(one.path)


def test_what_a_killed_process_left_is_not_shown(cluster):
    double.remote(1)
    (one,) = waiting(1)
    os.kill(one.pid, 9)
    waiting(0)


def test_only_the_user_may_attach(cluster):
    ref = double.remote(4)
    (one,) = waiting(1)
    assert os.stat(one.path).st_mode & 0o777 == 0o600
    assert pathlib.Path(one.path).parent.stat().st_mode & 0o077 == 0
    with socket.socket(socket.AF_UNIX) as debugger:
        debugger.connect(one.path)
        # It leaves without having read: the other end sees a reset, not an end.
        wait_until(lambda: select.select([debugger], [], [], 0)[0])
    assert ray.get(ref) == 8


def test_a_failed_task_can_be_looked_at(debug):
    environment = {"env_vars": {"RAY_DEBUG_POST_MORTEM": "1"}}
    ref = fail.options(runtime_env=environment).remote("a key")
    (one,) = waiting(1)
    assert one.error == "KeyError: 'a key'"
    printed = debug("0\np missing\nq\n")
    assert one.error in printed and "(Pdb) 'a key'\n" in printed
    with pytest.raises(KeyError):
        ray.get(ref)


def test_own_hooks_stay(cluster):
    environment = {"env_vars": {"PYTHONBREAKPOINT": "0"}}
    assert ray.get(double.options(runtime_env=environment).remote(3)) == 6


def test_names(cluster):
    from ray.util import debugpy, rpdb

    assert ray.util.pdb is ray.util.rpdb is rpdb
    assert ray.util.ray_debugpy is debugpy
    with pytest.raises(AttributeError):
        ray.util.no_such_thing  # noqa: B018
