"""Does damage to a running cluster: kills and stops its processes, at random but from a seed."""

import collections
import contextlib
import os
import pathlib
import random
import shutil
import signal
import socket
import subprocess
import threading
import time
import traceback

import psutil

from integration.programs import is_running
from ray.cluster_utils import Cluster

WORKER, RAYLET, GCS = "worker", "raylet", "gcs"  # are killed
STOP_WORKER, STOP_RAYLET = "stop-worker", "stop-raylet"  # do nothing for up to a second
CUT = "cut"  # all TCP connections of a raylet break, without the kernel's usual farewell
STOP_MAX_S = 1.0


def _can_cut():
    """Whether this user may break the connections of others, and the kernel knows how to."""
    if shutil.which("ss") is None:
        return False
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)) as client, server.accept()[0]:
            _break_connections(port)
            try:
                client.send(b"x")
                return False
            except OSError:
                return True


def _break_connections(port):
    for side in ("sport", "dport"):
        subprocess.run(["ss", "-K", "-t", side, "=", str(port)], capture_output=True)


ALL_KINDS = (WORKER, RAYLET, GCS, STOP_WORKER, STOP_RAYLET, *([CUT] if _can_cut() else ()))


def _parent(pid):
    stat = pathlib.Path(f"/proc/{pid}/stat").read_text()
    return int(stat.rpartition(")")[2].split()[1])


def _command(pid):
    return pathlib.Path(f"/proc/{pid}/cmdline").read_bytes()


def _children():
    """All processes of the machine by their parent."""
    found = {}
    for entry in pathlib.Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdigit():
                found.setdefault(_parent(entry.name), []).append(int(entry.name))
    return found


def descendants(pid):
    """The processes below one, and what each is by its command line."""
    children, found, below = _children(), {}, [pid]
    while below:
        for child in children.get(below.pop(), ()):
            with contextlib.suppress(OSError):
                if is_running(child):
                    found[child] = _command(child)
                    below.append(child)
    return found


def raylet_pid(node):
    """The raylet of a node of the cluster; None when it has been killed."""
    return next((p.pid for name, p in node.live_processes() if name == "raylet"), None)


def worker_pids(node):
    """The living workers of a node: what its zygote has forked."""
    raylet = raylet_pid(node)
    children = _children()
    zygotes = children.get(raylet, ()) if raylet else ()
    return [pid for zygote in zygotes for pid in children.get(zygote, ()) if is_running(pid)]


def _tcp_port(pid):
    """Where a process listens."""
    with contextlib.suppress(psutil.Error):
        for connection in psutil.Process(pid).net_connections("tcp"):
            if connection.status == psutil.CONN_LISTEN:
                return connection.laddr.port
    return None


def processes_of(session_dirs):
    """The processes of which the command line or environment names one of the folders."""
    needles = [path.encode() for path in session_dirs]
    found = {}
    for entry in pathlib.Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        with contextlib.suppress(OSError):
            text = (entry / "cmdline").read_bytes() + b"\0" + (entry / "environ").read_bytes()
            if any(needle in text for needle in needles) and is_running(int(entry.name)):
                found[int(entry.name)] = text[:200]
    return found


class Damage:
    """A thread that does one kind of damage after another to the nodes other than the head, where
    the driver is; the control plane is on the head and is killed as well.

    A raylet that is killed takes its workers along; a new node with the same resources takes its
    place at once.
    """

    def __init__(
        self,
        cluster: Cluster,
        seed,
        kinds=ALL_KINDS,
        pause_s=(0.1, 0.6),
        node_args=None,
        limit=None,
    ):
        self._cluster = cluster
        self._random = random.Random(seed)
        self._kinds = kinds
        self._pause_s = pause_s
        self._node_args = node_args or {"num_cpus": 2}
        self._limit = limit
        self._ended = threading.Event()
        self.done = []  # (when, what) in order
        self.session_dirs = {node.get_session_dir_path() for node in cluster.list_all_nodes()}
        self._error = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *exc_info):
        self.end()

    def end(self):
        """Stops the damage, and waits until the last one is done."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join(40)
        assert not self._thread.is_alive(), "the agent hangs"
        assert self._error is None, self._error

    def is_over(self):
        """Whether as much was done as there may be."""
        return self._ended.is_set() or not self._thread.is_alive()

    def summary(self):
        """How often what was done."""
        return dict(collections.Counter(what.split()[0] for _, what in self.done))

    def _run(self):
        try:
            while len(self.done) != self._limit:
                if self._ended.wait(self._random.uniform(*self._pause_s)):
                    return
                kind = self._random.choice(self._kinds)
                what = getattr(self, "_" + kind.replace("-", "_"))()
                if what is not None:
                    self.done.append((time.time(), f"{kind} {what}"))
        except BaseException:
            self._error = traceback.format_exc()

    def _node(self):
        nodes = sorted(self._cluster.worker_nodes, key=lambda node: node.session_name)
        return self._random.choice(nodes)

    def _some_worker(self):
        pids = sorted(worker_pids(self._node()))
        return self._random.choice(pids) if pids else None

    def _worker(self):
        pid = self._some_worker()
        return pid and _send(pid, signal.SIGKILL)

    def _raylet(self):
        node = self._node()
        self._cluster.remove_node(node, allow_graceful=False)
        added = self._cluster.add_node(**self._node_args)
        self.session_dirs.add(added.get_session_dir_path())
        return f"{node.node_id[:8]} -> {added.node_id[:8]}"

    def _gcs(self):
        session_dir = self._cluster.head_node.get_session_dir_path().encode()
        below = {**descendants(os.getpid()), **descendants(raylet_pid(self._cluster.head_node))}
        for pid, command in below.items():
            if command.split(b"\0")[0].endswith(b"/gcs_server") and session_dir in command:
                return _send(pid, signal.SIGKILL)
        return None

    def _cut(self):
        """The connections that others have made to a raylet."""
        port = _tcp_port(raylet_pid(self._node()))
        if port is not None:
            _break_connections(port)
        return port

    def _stop_worker(self):
        return self._stop(self._some_worker())

    def _stop_raylet(self):
        return self._stop(raylet_pid(self._node()))

    def _stop(self, pid):
        if pid is None or _send(pid, signal.SIGSTOP) is None:
            return None
        pause_s = self._random.uniform(0, STOP_MAX_S)
        self._ended.wait(pause_s)
        _send(pid, signal.SIGCONT)
        return f"{pid} for {pause_s:.2f} s"


def _send(pid, number):
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return None
    return pid
