"""The breakpoints that wait for a debugger: where they are written down for who looks for them.

One record each in the key-value table, removed when a debugger attaches. A process that is killed
leaves its record; whoever lists them removes it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import socket
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ray._raylet import Core

_NAMESPACE = "breakpoints"


@dataclasses.dataclass(frozen=True)
class Breakpoint:
    """Where a process waits, and the socket at which it does. Threads: immutable."""

    uuid: str
    where: str  # task or Class.method, and place in the file
    error: str  # of a task that has failed: its last line; else ""
    since: float  # unix time, in seconds
    pid: int
    host: str
    node_id: str  # hex
    path: str  # of the socket, on that host

    def publish(self, core: Core) -> None:
        """Writes it down. Blocks for one request to the GCS."""
        core.kv_put(self.uuid.encode(), json.dumps(vars(self)).encode(), True, _NAMESPACE)

    def withdraw(self, core: Core) -> None:
        """Takes it back. Blocks for one request to the GCS."""
        core.kv_del(self.uuid.encode(), False, _NAMESPACE)

    @property
    def is_here(self) -> bool:
        """Whether it waits on this machine."""
        return self.host == socket.gethostname()

    def _is_gone(self, living_nodes: set[str]) -> bool:
        if self.node_id not in living_nodes:
            return True
        if not self.is_here:
            return False
        with contextlib.suppress(PermissionError):
            try:
                os.kill(self.pid, 0)
            except ProcessLookupError:
                return True
        return not os.path.exists(self.path)


def waiting(core: Core) -> list[Breakpoint]:
    """Those that wait now, the oldest first. Blocks for a few requests to the GCS."""
    living = {node["node_id"] for node in core.cluster_state()["nodes"] if node["alive"]}
    found = []
    for key in core.kv_keys(b"", _NAMESPACE):
        value = core.kv_get(key, _NAMESPACE)
        if value is None:
            continue
        fields: dict[str, Any] = json.loads(value)
        one = Breakpoint(**fields)
        if one._is_gone(living):
            one.withdraw(core)
        else:
            found.append(one)
    return sorted(found, key=lambda one: one.since)
