"""The process that forks the workers of a node: ``python -m ray._zygote [MODULE...]``, started by
the raylet.

It imports what workers need once, and the given modules if they are installed, and forks on
request: a worker starts in milliseconds and shares these pages. It has one thread, for ever: a fork
copies only the thread that calls it, and locks that another one held would stay locked.

It forks as soon as it has what every worker needs, and imports the rest while nobody waits; when
somebody does, it forks once before the next import. So the first worker of a node starts early, and
few have to import by themselves what they could have shared.

Protocol: JSON objects, one a line, on the socket at descriptor 3.
    raylet -> zygote  {"op": "fork", "token": N, "env": {...}, "log_prefix": "worker-...",
                       "runtime_env": "..."}
    zygote -> raylet  {"event": "ready"}
                      {"event": "forked", "token": N, "pid": P}
                      {"event": "exited", "token": N, "pid": P, "exit_code": C or null,
                       "signal": S or null, "peak_memory_bytes": B}
End of file means that the raylet is gone: the zygote ends, and the kernel ends its workers
(PR_SET_PDEATHSIG).
"""

from __future__ import annotations

import collections
import contextlib
import ctypes
import faulthandler
import gc
import importlib
import json
import os
import select
import signal
import socket
import sys
from collections.abc import Iterable
from typing import Any, NoReturn

_CONTROL_FD = 3
_PR_SET_PDEATHSIG = 1
_PR_SET_NAME = 15

# Libraries read these when they are imported; their pools of threads would not survive a fork.
_THREAD_LIMITS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")

# What every worker uses at once.
_PRELOADED = ("ray", "ray._worker_main", "ray.cloudpickle")
# What most use soon.
_PRELOADED_LATER = (
    "ray._value_pickler",
    "ray.remote_function",
    "ray.runtime_context",
    "ray._runtime_env.setup",
)


class Zygote:
    """Serves fork requests until the raylet is gone. Threads: the only one.

    Args:
        control: connected to the raylet.
        later: modules to import while nobody waits for a fork; those that are not installed are
            left out.
    """

    def __init__(self, control: socket.socket, later: Iterable[str]) -> None:
        self._control = control
        self._later = collections.deque(later)
        self._requests: collections.deque[dict[str, Any]] = collections.deque()
        self._libc = ctypes.CDLL(None)
        self._pid = os.getpid()
        self._tokens: dict[int, int] = {}  # by pid of a living worker
        self._received = b""
        # SIGCHLD makes this readable.
        self._wakeup_read, self._wakeup_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(self._wakeup_write, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda number, frame: None)

    def serve(self) -> None:
        """Blocks until end of file on the control socket."""
        self._send(event="ready")
        poll = select.poll()
        poll.register(self._control, select.POLLIN)
        poll.register(self._wakeup_read, select.POLLIN)
        while True:
            is_busy = bool(self._later or self._requests)
            readable = [descriptor for descriptor, _ in poll.poll(0 if is_busy else None)]
            if self._wakeup_read in readable:
                self._reap()
            if self._control.fileno() in readable and not self._receive():
                return
            if self._requests:
                self._fork(self._requests.popleft())
            if self._later:
                _import_quietly(self._later.popleft())
                _refuse_threads()
                if not self._later:
                    _freeze()

    def _receive(self) -> bool:
        """Takes the requests that have come. False: the end of file."""
        chunk = self._control.recv(1 << 16)
        *lines, self._received = (self._received + chunk).split(b"\n")
        self._requests.extend(json.loads(line) for line in lines)
        return bool(chunk)

    def _send(self, **event: Any) -> None:
        self._control.sendall(json.dumps(event).encode() + b"\n")

    def _fork(self, request: dict[str, Any]) -> None:
        token = request["token"]
        pid = os.fork()
        if pid == 0:
            self._become_worker(request)
        self._tokens[pid] = token
        self._send(event="forked", token=token, pid=pid)

    def _reap(self) -> None:
        os.read(self._wakeup_read, 4096)
        while self._tokens:
            pid, status, usage = os.wait4(-1, os.WNOHANG)
            if pid == 0:
                return
            code = os.waitstatus_to_exitcode(status)
            self._send(
                event="exited",
                pid=pid,
                token=self._tokens.pop(pid),
                exit_code=code if code >= 0 else None,
                signal=-code if code < 0 else None,
                peak_memory_bytes=usage.ru_maxrss * 1024,
            )

    def _become_worker(self, request: dict[str, Any]) -> NoReturn:
        """In the child. Never returns: the stack above belongs to the zygote."""
        try:
            self._libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != self._pid:
                os._exit(1)  # The zygote died before the kernel knew what that means to us.
            self._libc.prctl(_PR_SET_NAME, b"ray::worker")
            self._leave_zygote()
            os.environ.update(request["env"])
            _redirect_output(request["log_prefix"])
            if environment := request.get("runtime_env"):
                from ray._runtime_env import setup

                setup.enter(environment, request["token"])
            from ray import _worker_main

            _worker_main.main(request["token"])
        except BaseException:
            sys.excepthook(*sys.exc_info())
        finally:
            os._exit(1)

    def _leave_zygote(self) -> None:
        # Ctrl-C at the driver's terminal is not for workers.
        os.setsid()
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        self._control.close()
        os.close(self._wakeup_read)
        os.close(self._wakeup_write)
        gc.enable()
        _reseed()


def _reseed() -> None:
    """Workers must not draw the same random numbers. Python's own generator sees to that itself."""
    if numpy := sys.modules.get("numpy"):
        numpy.random.seed()


def _redirect_output(log_prefix: str) -> None:
    """Standard output and error to the worker's log files, which the raylet reads."""
    path = os.path.join(os.environ["RAY_SESSION_DIR"], "logs", f"{log_prefix}-{os.getpid()}")
    for descriptor, suffix in ((1, "out"), (2, "err")):
        file = os.open(
            f"{path}.{suffix}", os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600
        )
        os.dup2(file, descriptor)
        os.close(file)
    null = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    os.dup2(null, 0)
    os.close(null)
    faulthandler.enable(file=2)


def _import_quietly(name: str) -> None:
    """Imports a module, if it is installed, without pools of threads."""
    saved = {variable: os.environ.get(variable) for variable in _THREAD_LIMITS}
    os.environ.update(dict.fromkeys(_THREAD_LIMITS, "1"))
    with contextlib.suppress(ModuleNotFoundError):
        importlib.import_module(name)
    for variable, value in saved.items():
        if value is None:
            del os.environ[variable]
        else:
            os.environ[variable] = value


def _freeze() -> None:
    """Keeps the collector of workers from writing to the pages that they share."""
    gc.unfreeze()
    gc.collect()
    gc.freeze()


def _refuse_threads() -> None:
    threads = len(os.listdir("/proc/self/task"))
    if threads != 1:
        raise SystemExit(f"The zygote has {threads} threads, so that it cannot fork safely.")


def main() -> None:
    """Entry point of the process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for name in _PRELOADED:
        importlib.import_module(name)
    _refuse_threads()
    gc.disable()
    gc.freeze()
    with socket.socket(fileno=_CONTROL_FD) as control:
        control.set_inheritable(False)
        Zygote(control, [*_PRELOADED_LATER, *sys.argv[1:]]).serve()


if __name__ == "__main__":
    main()
