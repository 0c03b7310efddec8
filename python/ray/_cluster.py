"""What the cluster has: nodes and resources.

All of these ask the local raylet (one round trip) and may be called from any thread.
Source: conformance core/test_core_resources.py, core/test_core_lifecycle.py.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from ray._runtime import RUNTIME
from ray.exceptions import RaySystemError


def _nodes() -> list[dict[str, Any]]:
    RUNTIME.refuse_after_fork()
    if RUNTIME.core is None:
        raise RaySystemError("Ray has not been started yet: call ray.init() first.")
    nodes: list[dict[str, Any]] = RUNTIME.core.cluster_state()["nodes"]
    return nodes


def nodes() -> list[dict[str, Any]]:
    """The nodes of the cluster, dead ones too.

    >>> import ray
    >>> [node["Alive"] for node in ray.nodes()]
    [True]

    Returns:
        One dict a node: NodeID (hex), Alive, DeathReasonMessage, NodeManagerAddress,
        NodeManagerHostname, NodeManagerPort and ObjectManagerPort (where its raylet listens for
        other nodes), NodeName, RayletSocketName, ObjectStoreSocketName (the same), Resources (its
        totals; memory in bytes) and Labels.

    Raises:
        RaySystemError: there is no session.

    Source: https://docs.ray.io/en/latest/ray-core/api/doc/ray.nodes.html.
    """
    return [
        {
            "NodeID": node["node_id"],
            "Alive": node["alive"],
            "alive": node["alive"],
            "DeathReasonMessage": node["death_reason"],
            "NodeManagerAddress": node["ip"],
            "NodeManagerHostname": node["hostname"],
            "NodeManagerPort": _port(node["tcp_endpoint"]),
            "ObjectManagerPort": _port(node["tcp_endpoint"]),
            "NodeName": node["ip"],
            "ObjectStoreSocketName": node["endpoint"].removeprefix("unix:"),
            "RayletSocketName": node["endpoint"].removeprefix("unix:"),
            "Resources": dict(node["total"]) if node["alive"] else {},
            "Labels": {"ray.io/node-id": node["node_id"], **node["labels"]},
        }
        for node in _nodes()
    ]


def _port(endpoint: str) -> int:
    """The port of "tcp:HOST:PORT"; -1 without one."""
    return int(endpoint.rpartition(":")[2] or -1)


def cluster_resources() -> dict[str, float]:
    """The resources of all living nodes, free or not, by name; memory and object_store_memory in
    bytes.

    >>> import ray
    >>> ray.cluster_resources()["CPU"] >= 1
    True

    Raises:
        RaySystemError: there is no session.

    Source: https://docs.ray.io/en/latest/ray-core/api/doc/ray.cluster_resources.html.
    """
    return _sum_of("total")


def available_resources() -> dict[str, float]:
    """The resources that are free now, as ``cluster_resources``; names of which nothing is free are
    left out.

    >>> import ray
    >>> ray.available_resources().get("CPU", 0) <= ray.cluster_resources()["CPU"]
    True

    Raises:
        RaySystemError: there is no session.

    Source: https://docs.ray.io/en/latest/ray-core/api/doc/ray.available_resources.html.
    """
    return _sum_of("available")


def _sum_of(which: str) -> dict[str, float]:
    sums: dict[str, float] = defaultdict(float)
    for node in _nodes():
        if node["alive"]:
            for name, quantity in node[which].items():
                sums[name] += quantity
    return {name: quantity for name, quantity in sums.items() if quantity}
