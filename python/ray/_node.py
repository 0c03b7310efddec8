"""A node of this machine: starts its daemons and stops them.

A node is a folder, a raylet, and on the head of a cluster also gcs_server. Both daemons start at
the same time. Unless the node is to live on, they die with the process that started it: each holds
the read end of a pipe (the lifeline) whose write end only that process has, so that even SIGKILL
ends them.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import shlex
import site
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from ray import _node_records
from ray._node_records import NodeRecord, ProcessId
from ray._session_folder import empty_session_folder, make_session_folder, token_file
from ray._spilling import SPILLING
from ray.exceptions import RaySystemError

LOOPBACK = "127.0.0.1"

_START_TIMEOUT_S = 30.0
# How long a daemon gets to end by itself: the raylet first ends its workers.
_STOP_TIMEOUT_S = 5.0
_LOG_TAIL_BYTES = 4000

_BINARY_FOLDER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "bin")


class TlsFiles(NamedTuple):
    """The files, in PEM format, with which a node speaks TLS."""

    certificate: str  # of the node
    key: str  # of that certificate
    authority: str  # the certificate of who has signed those of all nodes

    def flags(self) -> list[str]:
        """What tells a daemon."""
        return [
            f"--tls_cert_file={os.path.abspath(self.certificate)}",
            f"--tls_key_file={os.path.abspath(self.key)}",
            f"--tls_ca_file={os.path.abspath(self.authority)}",
        ]


class NodeOptions(NamedTuple):
    """What the node offers, and where. None: let the raylet find out."""

    num_cpus: float
    num_gpus: float | None  # None: those found
    memory: float | None  # bytes
    object_store_memory: int | None  # bytes
    resources: Mapping[str, float]
    labels: Mapping[str, str]
    config: Mapping[str, Any]  # flags of cpp/ray/base/config_flags.inc
    temp_folder: str
    node_ip: str = LOOPBACK  # where other nodes reach this one; loopback: those of this machine
    port: int = 0  # of the raylet, for other nodes; 0: any
    env_vars: Mapping[
        str, str
    ] = {}  # of the daemons and their workers, beyond those of this process
    # Modules that workers are forked with, if they are installed: faster to use then, and shared.
    preload: Sequence[str] = ("numpy",)
    tls: TlsFiles | None = None  # None: what the environment says (RAY_USE_TLS)


class NewCluster(NamedTuple):
    """The node is the head of a new cluster."""

    port: int = 0  # where the GCS listens on the node's address; 0: any
    token: str | None = None  # None: a new one
    storage: str = "sqlite"  # of the GCS: sqlite (in the session folder), sqlite:PATH, memory


class ExistingCluster(NamedTuple):
    """The node joins a cluster."""

    gcs_address: str  # HOST:PORT
    token: str


class Node:
    """A node that this process has started. Threads: the caller locks.

    Attributes:
        node_id: hex.
        gcs_address: HOST:PORT, for those who join.
        node_ip: the address of the node.
        session_dir: its folder.
        raylet_endpoint: where drivers connect: unix:PATH.
        is_head: whether the cluster's control plane runs here.
    """

    def __init__(
        self,
        options: NodeOptions,
        cluster: NewCluster | ExistingCluster,
        *,
        started_by: str,
        lives_on: bool = False,
    ) -> None:
        """Starts the node and blocks until it has joined, typically well under 0.2 s.

        Args:
            options: what it offers.
            cluster: what it belongs to.
            started_by: for the record of the node.
            lives_on: whether the node outlives this process.

        Raises:
            RaySystemError: a daemon did not start; the message has the end of its log. Nothing is
                left running.
        """
        self.node_ip = options.node_ip
        self.is_head = isinstance(cluster, NewCluster)
        self.session_dir = make_session_folder(options.temp_folder, cluster.token)
        self._daemons: dict[str, subprocess.Popen[bytes]] = {}
        self._lifeline_read, self._lifeline_write = (-1, -1) if lives_on else os.pipe()
        try:
            self._start(options, cluster)
            _node_records.write(self._record(started_by))
        except BaseException:
            self.stop()
            raise

    def _start(self, options: NodeOptions, cluster: NewCluster | ExistingCluster) -> None:
        common = self._common_flags(options)
        environment = {**_daemon_environment(), **options.env_vars}
        with contextlib.ExitStack() as stack:
            if isinstance(cluster, NewCluster):
                gcs_endpoint = f"unix:{self.session_dir}/sockets/gcs"
                flags = [
                    f"--listen={gcs_endpoint},tcp:{options.node_ip}:{cluster.port}",
                    f"--storage={self._storage(cluster.storage)}",
                ]
                gcs_flags = [*flags, *common]
                gcs = stack.enter_context(self._spawn("gcs_server", gcs_flags, environment))
                supervision = self._supervisor_flags(gcs_flags)
            else:
                gcs_endpoint = f"tcp:{cluster.gcs_address}"
                self.gcs_address = cluster.gcs_address
                supervision = []
            flags = [f"--gcs_address={gcs_endpoint}", *supervision, *self._raylet_flags(options)]
            raylet = stack.enter_context(self._spawn("raylet", [*flags, *common], environment))
            deadline = time.monotonic() + _START_TIMEOUT_S
            if self.is_head:
                endpoints = self._await_ready("gcs_server", gcs, deadline)["endpoints"]
                self.gcs_address = next(e[4:] for e in endpoints if e.startswith("tcp:"))
            ready = self._await_ready("raylet", raylet, deadline)
        self.raylet_endpoint: str = ready["endpoint"]
        self.node_id: str = ready["node_id"]

    def _common_flags(self, options: NodeOptions) -> list[str]:
        flags = [
            f"--token_file={token_file(self.session_dir)}",
            f"--config={format_config(options.config)}",
        ]
        if options.tls is not None:
            flags += options.tls.flags()
        if self._lifeline_read >= 0:
            flags.append(f"--lifeline_fd={self._lifeline_read}")
        return flags

    def _storage(self, storage: str) -> str:
        if storage != "sqlite":
            return storage
        os.mkdir(f"{self.session_dir}/state", mode=0o700)
        return f"sqlite:{self.session_dir}/state/gcs.sqlite"

    def _supervisor_flags(self, gcs_flags: list[str]) -> list[str]:
        """What the raylet needs to start gcs_server again; that one then ends with the raylet."""
        kept = [flag for flag in gcs_flags if not flag.startswith("--lifeline_fd=")]
        command = [*_daemon_command("gcs_server", self.session_dir), *kept]
        pid = self._daemons["gcs_server"].pid
        return [f"--gcs_pid={pid}", f"--gcs_command={shlex.join(command)}"]

    def _raylet_flags(self, options: NodeOptions) -> list[str]:
        flags = [
            f"--head={'true' if self.is_head else 'false'}",
            f"--listen=unix:{self.session_dir}/sockets/raylet",
            f"--listen_tcp=tcp:{options.node_ip}:{options.port}",
            f"--session_dir={self.session_dir}",
            f"--node_ip={options.node_ip}",
            f"--num_cpus={options.num_cpus:g}",
            f"--resources={json.dumps(dict(options.resources))}",
            f"--labels={json.dumps(dict(options.labels))}",
            f"--zygote_command={shlex.join([*_module_command('ray._zygote'), *options.preload])}",
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
    def _spawn(self, name: str, flags: list[str], environment: dict[str, str]) -> Iterator[int]:
        """Starts a daemon; gives the descriptor on which it says that it is ready."""
        ready_read, ready_write = os.pipe()
        log = os.path.join(self.session_dir, "logs", name)
        try:
            with open(f"{log}.out", "ab") as output:
                self._daemons[name] = subprocess.Popen(
                    [
                        *_daemon_command(name, self.session_dir),
                        f"--ready_fd={ready_write}",
                        *flags,
                    ],
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    pass_fds=[fd for fd in (ready_write, self._lifeline_read) if fd >= 0],
                    env=environment,
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
            remaining = max(0.0, deadline - time.monotonic())
            readable, _, _ = select.select([descriptor], [], [], remaining)
            chunk = os.read(descriptor, 4096) if readable else b""
            if not chunk:
                why = "ended" if readable else f"was not ready after {_START_TIMEOUT_S:.0f} s"
                raise RaySystemError(f"{name} {why}.\n{self._log_tail(name)}")
            line += chunk
        ready: dict[str, Any] = json.loads(line)
        if "error" in ready:
            raise RaySystemError(f"{name} cannot start: {ready['error']}")
        return ready

    def _record(self, started_by: str) -> NodeRecord:
        names = [name for name in ("raylet", "gcs_server") if name in self._daemons]
        return NodeRecord(
            session_dir=self.session_dir,
            gcs_address=self.gcs_address,
            raylet_endpoint=self.raylet_endpoint,
            node_id=self.node_id,
            node_ip=self.node_ip,
            token_file=token_file(self.session_dir),
            is_head=self.is_head,
            started_by=started_by,
            start_time=time.time(),
            machine=_node_records.this_machine(),
            processes={name: ProcessId.of(self._daemons[name].pid) for name in names},
        )

    def _log_tail(self, name: str) -> str:
        texts = []
        for suffix in ("out", "log"):
            path = os.path.join(self.session_dir, "logs", f"{name}.{suffix}")
            with contextlib.suppress(OSError), open(path, "rb") as file:
                size = file.seek(0, os.SEEK_END)
                file.seek(max(0, size - _LOG_TAIL_BYTES))
                texts.append(f"--- {path}\n{file.read().decode(errors='replace')}")
        return "\n".join(texts)

    def token(self) -> str:
        """The token of the cluster."""
        with open(token_file(self.session_dir)) as file:
            return file.read()

    def living_daemons(self) -> dict[str, subprocess.Popen[bytes]]:
        """The daemons that run, by name."""
        return {name: daemon for name, daemon in self._daemons.items() if daemon.poll() is None}

    def has_all_daemons(self) -> bool:
        """Whether all of them run, save those that ``kill_daemon`` has ended."""
        return all(daemon.poll() is None for daemon in self._daemons.values())

    def kill_daemon(self, name: str) -> None:
        """Ends one daemon with SIGKILL and blocks until it is gone; nothing if it is not there."""
        if daemon := self._daemons.pop(name, None):
            daemon.kill()
            daemon.wait()

    def stop(self) -> None:
        """Ends the daemons, and with the raylet all workers. Blocks until they are gone.
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
        _node_records.remove(self.session_dir)
        empty_session_folder(self.session_dir)


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


def own_ip(peer: str = "192.0.2.1") -> str:
    """The address of this machine that a peer sees; 127.0.0.1 without a way to it. Sends nothing.

    Args:
        peer: a host; by default any on another network.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((peer, 9))  # Only the route counts.
        except OSError:
            return LOOPBACK
        address: str = probe.getsockname()[0]
        return address


def _daemon_command(name: str, session_dir: str) -> list[str]:
    log = os.path.join(session_dir, "logs", f"{name}.log")
    return [os.path.join(_BINARY_FOLDER, name), f"--log_file={log}"]


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
