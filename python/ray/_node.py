"""The processes of a local node: starts gcs_server and raylet for a driver, and stops them.

Both start at the same time and die with the driver: each holds the read end of a pipe (the
lifeline) whose write end only the driver has, so that even SIGKILL on the driver ends them.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import shlex
import shutil
import site
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from ray._spilling import SPILLING
from ray.exceptions import RaySystemError

_START_TIMEOUT_S = 30.0
# How long a daemon gets to end by itself: the raylet first ends its workers.
_STOP_TIMEOUT_S = 5.0
_LOG_TAIL_BYTES = 4000

_BINARY_FOLDER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "bin")


class NodeOptions(NamedTuple):
    """What the node offers. None: let the raylet find out."""

    num_cpus: float
    num_gpus: float | None  # None: those found
    memory: float | None  # bytes
    object_store_memory: int | None  # bytes
    resources: Mapping[str, float]
    labels: Mapping[str, str]
    config: Mapping[str, Any]  # flags of cpp/ray/base/config_flags.inc
    temp_folder: str


class LocalNode:
    """The head node of a session that this process started. Threads: the caller locks."""

    def __init__(self, options: NodeOptions) -> None:
        """Starts the node and blocks until it is ready, typically well under 0.2 s.

        Raises:
            RaySystemError: a daemon did not start; the message has the end of its log. Nothing is
                left running.
        """
        self.node_ip = _own_ip()
        self.session_dir = _make_session_folder(options.temp_folder)
        self._daemons: dict[str, subprocess.Popen[bytes]] = {}
        self._lifeline_read, self._lifeline_write = os.pipe()
        try:
            self._start(options)
        except BaseException:
            self.stop()
            raise

    def _start(self, options: NodeOptions) -> None:
        gcs_endpoint = f"unix:{self.session_dir}/sockets/gcs"
        common = self._common_flags(options.config)
        with contextlib.ExitStack() as stack:
            gcs = stack.enter_context(
                self._spawn(
                    "gcs_server",
                    [f"--listen={gcs_endpoint},tcp:127.0.0.1:0", "--storage=memory", *common],
                )
            )
            raylet = stack.enter_context(
                self._spawn(
                    "raylet",
                    [f"--gcs_address={gcs_endpoint}", *self._raylet_flags(options), *common],
                )
            )
            deadline = time.monotonic() + _START_TIMEOUT_S
            gcs_ready = self._await_ready("gcs_server", gcs, deadline)
            raylet_ready = self._await_ready("raylet", raylet, deadline)
        tcp = [e.removeprefix("tcp:") for e in gcs_ready["endpoints"] if e.startswith("tcp:")]
        self.gcs_address: str = tcp[0] if tcp else gcs_endpoint
        self.raylet_endpoint: str = raylet_ready["endpoint"]
        self.node_id: str = raylet_ready["node_id"]

    def _common_flags(self, config: Mapping[str, Any]) -> list[str]:
        return [
            f"--token_file={self.session_dir}/token",
            f"--lifeline_fd={self._lifeline_read}",
            f"--config={format_config(config)}",
        ]

    def _raylet_flags(self, options: NodeOptions) -> list[str]:
        flags = [
            "--head=true",
            f"--listen=unix:{self.session_dir}/sockets/raylet",
            f"--session_dir={self.session_dir}",
            f"--node_ip={self.node_ip}",
            f"--num_cpus={options.num_cpus:g}",
            f"--resources={json.dumps(dict(options.resources))}",
            f"--labels={json.dumps(dict(options.labels))}",
            f"--zygote_command={shlex.join(_module_command('ray._zygote'))}",
            f"--spill_worker_command={shlex.join(_module_command('ray._spill_worker'))}",
        ]
        if spilling := options.config.get(SPILLING):
            flags.append(f"--{SPILLING}={spilling}")
        if options.num_gpus is not None:
            flags.append(f"--num_gpus={options.num_gpus:g}")
        if options.memory is not None:
            flags.append(f"--memory={int(options.memory)}")
        if options.object_store_memory is not None:
            flags.append(f"--object_store_memory={options.object_store_memory}")
        return flags

    @contextlib.contextmanager
    def _spawn(self, name: str, flags: list[str]) -> Iterator[int]:
        """Starts a daemon; gives the descriptor on which it says that it is ready."""
        ready_read, ready_write = os.pipe()
        log = os.path.join(self.session_dir, "logs", name)
        try:
            with open(f"{log}.out", "ab") as output:
                self._daemons[name] = subprocess.Popen(
                    [
                        os.path.join(_BINARY_FOLDER, name),
                        f"--log_file={log}.log",
                        f"--ready_fd={ready_write}",
                        *flags,
                    ],
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    pass_fds=(ready_write, self._lifeline_read),
                    env=_daemon_environment(),
                    # Out of the terminal's process group: Ctrl-C is the driver's alone.
                    start_new_session=True,
                )
        except OSError as error:
            os.close(ready_read)
            raise RaySystemError(f"{name} cannot be started: {error}") from error
        finally:
            os.close(ready_write)
        try:
            yield ready_read
        finally:
            os.close(ready_read)

    def _await_ready(self, name: str, descriptor: int, deadline: float) -> dict[str, Any]:
        line = b""
        while not line.endswith(b"\n"):
            readable, _, _ = select.select([descriptor], [], [], deadline - time.monotonic())
            chunk = os.read(descriptor, 4096) if readable else b""
            if not chunk:
                why = "ended" if readable else f"was not ready after {_START_TIMEOUT_S:.0f} s"
                raise RaySystemError(f"{name} {why}.\n{self._log_tail(name)}")
            line += chunk
        ready: dict[str, Any] = json.loads(line)
        if "error" in ready:
            raise RaySystemError(f"{name} cannot start: {ready['error']}")
        return ready

    def _log_tail(self, name: str) -> str:
        texts = []
        for suffix in ("out", "log"):
            path = os.path.join(self.session_dir, "logs", f"{name}.{suffix}")
            with contextlib.suppress(OSError), open(path, "rb") as file:
                size = file.seek(0, os.SEEK_END)
                file.seek(max(0, size - _LOG_TAIL_BYTES))
                texts.append(f"--- {path}\n{file.read().decode(errors='replace')}")
        return "\n".join(texts)

    def stop(self) -> None:
        """Ends both daemons, and with the raylet all workers. Blocks until they are gone.
        Idempotent.

        The folder of logs stays, as does nothing else.
        """
        # The raylet first: it still tells the GCS that its node leaves.
        for name in ("raylet", "gcs_server"):
            if daemon := self._daemons.pop(name, None):
                _end(daemon)
        for descriptor in (self._lifeline_read, self._lifeline_write):
            if descriptor >= 0:
                os.close(descriptor)
        self._lifeline_read = self._lifeline_write = -1
        for folder in ("sockets", "spill", "runtime_env"):
            shutil.rmtree(os.path.join(self.session_dir, folder), ignore_errors=True)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(os.path.join(self.session_dir, "token"))


def format_config(config: Mapping[str, Any]) -> str:
    """Flags as the daemons' ``--config`` wants them: ``name=value,name=value``.

    Raises:
        ValueError: a value with a comma, which cannot be told from the next flag.
    """
    texts = []
    for name, value in config.items():
        if name == SPILLING:  # JSON, has commas: a flag of its own
            continue
        text = str(value).lower() if isinstance(value, bool) else str(value)
        if "," in text:
            raise ValueError(f"_system_config: the value of {name} has a comma: {text!r}")
        texts.append(f"{name}={text}")
    return ",".join(texts)


def _end(daemon: subprocess.Popen[bytes]) -> None:
    daemon.terminate()
    try:
        daemon.wait(_STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        daemon.kill()
        daemon.wait()


def _module_command(module: str) -> list[str]:
    # -P: "python -m" would otherwise import modules from the current folder first.
    safe_path = ["-P"] if sys.version_info >= (3, 11) else []
    return [sys.executable, *safe_path, "-m", module]


def _daemon_environment() -> dict[str, str]:
    """The driver's environment; in it, workers find this package even if only the driver's sys.path
    leads to it."""
    environment = dict(os.environ)
    folder = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    if folder not in (*site.getsitepackages(), site.getusersitepackages()):
        paths = environment.get("PYTHONPATH", "").split(os.pathsep)
        environment["PYTHONPATH"] = os.pathsep.join([folder, *(p for p in paths if p)])
    return environment


def _make_session_folder(temp_folder: str) -> str:
    """A new folder for sockets (mode 0700: whoever can enter it may use the node), logs and the
    token."""
    _make_shared_folder(temp_folder)
    now = time.time()
    stamp = time.strftime("%Y-%m-%d_%H-%M-%S", time.localtime(now))
    micros = int(now % 1 * 1_000_000)
    folder = os.path.join(temp_folder, f"session_{stamp}_{micros:06}_{os.getpid()}")
    os.mkdir(folder, mode=0o700)
    for name in ("logs", "sockets"):
        os.mkdir(os.path.join(folder, name), mode=0o700)
    token = os.open(os.path.join(folder, "token"), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(token, "w") as file:
        file.write(os.urandom(32).hex())
    _point_latest_to(folder)
    return folder


def _make_shared_folder(path: str) -> None:
    """The parent of all sessions, which other users of the machine may use as well."""
    try:
        os.makedirs(path)
    except FileExistsError:
        return
    os.chmod(path, 0o1777)


def _point_latest_to(folder: str) -> None:
    link = os.path.join(os.path.dirname(folder), "session_latest")
    staged = f"{link}_{os.getpid()}"
    # The link of another user cannot be replaced; it is a convenience only.
    with contextlib.suppress(OSError):
        os.symlink(os.path.basename(folder), staged)
        try:
            os.replace(staged, link)
        except OSError:
            os.unlink(staged)
            raise


def _own_ip() -> str:
    """The address other machines would reach this one at; 127.0.0.1 without a network. Sends
    nothing."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # A documentation address: only the route to it counts.
        except OSError:
            return "127.0.0.1"
        address: str = probe.getsockname()[0]
        return address
