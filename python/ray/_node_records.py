"""What is known of the nodes that run on this machine: a record a node, for those who join or stop
it.

A record is the file ``node.json`` (mode 0600) in the folder of the session. A link to that folder
in ``<temp folder>/nodes_<uid>`` lets other processes of the same user find it. A record counts as
long as a process that it names lives; processes are told apart by pid and start time, so that a pid
that was given out again is never taken for them.
"""

from __future__ import annotations

import contextlib
import json
import os
import stat
from typing import NamedTuple

from ray._session_folder import (
    default_temp_folder,
    empty_session_folder,
    make_shared_folder,
    write_private_file,
)
from ray.exceptions import RaySystemError

# Who started a node, and ends it. The nodes of "ray start" live until "ray stop".
RAY_START, RAY_INIT, CLUSTER = "ray start", "ray.init", "ray.cluster_utils.Cluster"

_FILE = "node.json"
_FIELD_STATE, _FIELD_START_TIME = 0, 19  # of /proc/PID/stat, counted behind the program's name


class ProcessId(NamedTuple):
    """One process that was or is: the start time is in clock ticks since the machine's start."""

    pid: int
    start_time: int

    @classmethod
    def of(cls, pid: int) -> ProcessId:
        """Names a process that runs now."""
        return cls(pid, int(_stat(pid)[_FIELD_START_TIME]))

    def is_alive(self) -> bool:
        """Whether it runs; False for one that only waits to be reaped."""
        try:
            fields = _stat(self.pid)
        except OSError:
            return False
        return fields[_FIELD_STATE] != "Z" and int(fields[_FIELD_START_TIME]) == self.start_time


class NodeRecord(NamedTuple):
    """A node of this machine."""

    session_dir: str
    gcs_address: str  # HOST:PORT, as other nodes use it
    raylet_endpoint: str
    node_id: str  # hex
    node_ip: str
    token_file: str
    is_head: bool
    started_by: str
    start_time: float  # unix time
    machine: str
    processes: dict[str, ProcessId]  # by program: raylet, gcs_server

    def is_alive(self) -> bool:
        """Whether drivers can use the node."""
        return self.processes["raylet"].is_alive()

    def living_processes(self) -> dict[str, ProcessId]:
        """Those of the node's daemons that run, the raylet first."""
        return {name: process for name, process in self.processes.items() if process.is_alive()}


def this_machine() -> str:
    """What tells this machine from others that share its files: where pids and addresses hold."""
    return " ".join(os.readlink(f"/proc/self/ns/{kind}") for kind in ("net", "pid"))


def write(record: NodeRecord) -> None:
    """Makes the node known.

    Raises:
        RaySystemError: the folder of links is not this user's alone.
    """
    path = os.path.join(record.session_dir, _FILE)
    write_private_file(f"{path}.new", json.dumps(record._asdict(), indent=2) + "\n")
    os.replace(f"{path}.new", path)
    folder = _links_folder()
    make_shared_folder(os.path.dirname(folder))
    with contextlib.suppress(FileExistsError):
        os.mkdir(folder, mode=0o700)
    _check_private(folder)
    os.symlink(record.session_dir, os.path.join(folder, os.path.basename(record.session_dir)))


def cluster_address(session_dir: str) -> str | None:
    """HOST:PORT of the cluster that the node with this folder belongs to; None without a record."""
    record = _read(os.path.join(session_dir, _FILE))
    return None if record is None else record.gcs_address


def remove(session_dir: str) -> None:
    """Forgets a node that has ended. Idempotent."""
    for path in (
        os.path.join(_links_folder(), os.path.basename(session_dir)),
        os.path.join(session_dir, _FILE),
    ):
        with contextlib.suppress(OSError):
            os.unlink(path)


def known() -> list[NodeRecord]:
    """The nodes of this user on this machine of which any process lives, oldest first. Of the
    others, which nobody has stopped, only the logs are left.

    Raises:
        RaySystemError: as ``write``.
    """
    folder = _links_folder()
    if not os.path.isdir(folder):
        return []
    _check_private(folder)
    records = []
    for name in os.listdir(folder):
        link = os.path.join(folder, name)
        record = _read(os.path.join(link, _FILE))
        if record is None:
            with contextlib.suppress(OSError):
                os.unlink(link)
        elif record.machine != this_machine():
            continue  # Nothing can be said of it from here.
        elif record.living_processes():
            records.append(record)
        else:
            remove(record.session_dir)
            empty_session_folder(record.session_dir)
    return sorted(records, key=lambda record: record.start_time)


def _read(path: str) -> NodeRecord | None:
    try:
        with open(path) as file:
            fields = json.load(file)
        fields["processes"] = {
            name: ProcessId(*process) for name, process in fields["processes"].items()
        }
        return NodeRecord(**fields)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _links_folder() -> str:
    return os.path.join(default_temp_folder(), f"nodes_{os.geteuid()}")


def _check_private(folder: str) -> None:
    """Records say where to connect and what to end: nobody else may write them."""
    status = os.lstat(folder)
    is_private = stat.S_ISDIR(status.st_mode) and not status.st_mode & 0o077
    if not is_private or status.st_uid != os.geteuid():
        raise RaySystemError(
            f"{folder} is not a folder of this user alone (mode 0700), so its list of nodes cannot"
            " be trusted. Remove it, or set RAY_TMPDIR to a folder of your own."
        )


def _stat(pid: int) -> list[str]:
    with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
        # The program's name is in parentheses and may hold anything.
        return file.read().rpartition(")")[2].split()
