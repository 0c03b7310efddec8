"""Tools on top of tasks and actors."""

from __future__ import annotations

from typing import Any

from ray._runtime import RUNTIME
from ray.util.serialization import deregister_serializer, register_serializer

__all__ = [
    "deregister_serializer",
    "get_node_ip_address",
    "list_named_actors",
    "register_serializer",
]


def list_named_actors(all_namespaces: bool = False) -> list[Any]:
    """The named actors that are alive. Blocks for one request to the GCS.

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


def get_node_ip_address() -> str:
    """The address of this node, as ``ray.nodes`` reports it.

    Source: conformance actors/test_context_metrics_dag.py::test_node_ip_address.
    """
    return RUNTIME.require().node_ip
