"""Driver programs in processes of their own, and conditions to wait for."""

import contextlib
import os
import pathlib
import signal
import subprocess
import sys
import time
import uuid

MARK = "RAY_TEST_MARK"


def wait_until(condition, timeout_s=30.0):
    """Returns the first true value of condition(); fails after the timeout."""
    deadline = time.monotonic() + timeout_s
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < deadline, f"not true after {timeout_s} s"
        time.sleep(0.01)


def state(pid):
    """The kernel's letter for what the process does: R, S, Z ...; None if it is gone."""
    try:
        stat = pathlib.Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    return stat.rpartition(")")[2].split()[0]


def is_running(pid):
    """Whether the process exists and is more than a zombie."""
    return state(pid) not in (None, "Z")


class Program:
    """A driver program; everything it starts is found by a mark in the environment."""

    def __init__(self, path, environment):
        self.mark = f"{MARK}={uuid.uuid4().hex}"
        name, _, value = self.mark.partition("=")
        self.process = subprocess.Popen(
            [sys.executable, "-u", path],
            env={**os.environ, name: value, **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,  # as from a shell: Ctrl-C reaches the whole group
            # Also where the tests themselves run in the background, with SIGINT ignored.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )

    def finish(self, timeout_s=40.0):
        """Everything the program printed; fails unless it ended well."""
        output, _ = self.process.communicate(timeout=timeout_s)
        assert self.process.returncode == 0, output
        return output

    def line_with(self, text):
        """Reads the output up to the first line that contains the text."""
        read = []
        for line in self.process.stdout:
            read.append(line)
            if text in line:
                return line.rstrip("\n")
        raise AssertionError(f"no line with {text!r} in:\n{''.join(read)}")

    def processes(self):
        """The program and all its descendants, also those that left its process tree."""
        found = []
        for entry in pathlib.Path("/proc").iterdir():
            with contextlib.suppress(OSError):
                if entry.name.isdigit() and self.mark.encode() in (
                    (entry / "environ").read_bytes().split(b"\0")
                ):
                    found.append(int(entry.name))
        return [pid for pid in found if is_running(pid)]

    def send(self, signal_number):
        self.process.send_signal(signal_number)

    def kill(self):
        for pid in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()
        self.process.stdout.close()
