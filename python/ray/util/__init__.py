"""Tools on top of tasks and actors."""

from __future__ import annotations

import importlib
import os
import socket
from typing import Any

from ray._runtime import RUNTIME
from ray.util.actor_pool import ActorPool
from ray.util.check_serialize import inspect_serializability
from ray.util.completion import as_completed, map_unordered
from ray.util.debug import disable_log_once_globally, enable_periodic_logging, log_once
from ray.util.pending import why_pending
from ray.util.placement_group import (
    get_current_placement_group,
    get_placement_group,
    placement_group,
    placement_group_table,
    remove_placement_group,
)
from ray.util.serialization import deregister_serializer, register_serializer

__all__ = [
    "ActorPool",
    "as_completed",
    "deregister_serializer",
    "disable_log_once_globally",
    "enable_periodic_logging",
    "get_current_placement_group",
    "get_node_instance_id",
    "get_node_ip_address",
    "get_placement_group",
    "inspect_serializability",
    "list_named_actors",
    "log_once",
    "map_unordered",
    "placement_group",
    "placement_group_table",
    "register_serializer",
    "remove_placement_group",
    "why_pending",
]


def list_named_actors(all_namespaces: bool = False) -> list[Any]:
    """The named actors that are alive. Blocks for one request to the GCS.

    >>> import ray
    >>> @ray.remote
    ... class Clerk:
    ...     pass
    >>> clerk = Clerk.options(name="clerk").remote()
    >>> "clerk" in list_named_actors()
    True

    Args:
        all_namespaces: those of every namespace, not only of this job's.

    Returns:
        Their names, or with ``all_namespaces`` dicts with "name" and "namespace".

    Source: https://docs.ray.io/en/latest/ray-core/api/doc/ray.util.list_named_actors.html,
        conformance
    actors/test_namespaces.py::test_list_named_actors.
    """
    actors = RUNTIME.require().list_named_actors(all_namespaces)
    if all_namespaces:
        return [{"name": name, "namespace": namespace} for name, namespace in actors]
    return [name for name, _ in actors]


def get_node_ip_address(address: str | None = None) -> str:
    """The address of this node. Does not block.

    >>> import ray
    >>> get_node_ip_address() == ray.nodes()[0]["NodeManagerAddress"]
    True

    Args:
        address: "HOST:PORT" of a machine that the node talks to: the answer is the node's address
            on the way there. Without it, the address that ``ray.nodes`` reports.

    Raises:
        ValueError: the address has no port.

    Source: conformance actors/test_context_metrics_dag.py::test_node_ip_address.
    """
    if address is None:
        return RUNTIME.require().node_ip
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdigit():
        raise ValueError(f"address must be HOST:PORT, not {address!r}.")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((host.strip("[]"), int(port)))  # Sends nothing: it chooses a route.
        except OSError:
            return RUNTIME.require().node_ip
        ip: str = probe.getsockname()[0]
        return ip


def get_node_instance_id() -> str:
    """The cloud provider's id of this machine, as the variable RAY_CLOUD_INSTANCE_ID says; ""
    without it.

    >>> get_node_instance_id() == os.environ.get("RAY_CLOUD_INSTANCE_ID", "")
    True
    """
    return os.environ.get("RAY_CLOUD_INSTANCE_ID", "")


# Modules that few programs need, and their older names.
_LAZY_MODULES = {
    "debugpy": "ray.util.debugpy",
    "pdb": "ray.util.rpdb",
    "ray_debugpy": "ray.util.debugpy",
    "rpdb": "ray.util.rpdb",
}


def __getattr__(name: str) -> Any:
    if name in _LAZY_MODULES:
        return importlib.import_module(_LAZY_MODULES[name])
    raise AttributeError(f"module 'ray.util' has no attribute {name!r}")
