"""Clusters of this machine for tests."""

from __future__ import annotations

from typing import Any

from ray._node import LocalNode
from ray._session import node_options


class Cluster:
    """A cluster that the test builds node by node, and that ends with ``shutdown``.

    A cluster has one node so far, its head, and cannot be joined by a driver (see ``ray.init``).

    Args:
        initialize_head: whether to start the head node at once.
        head_node_args: what it offers; see ``add_node``.

    Source: conformance actors/conftest.py.
    """

    def __init__(
        self, initialize_head: bool = False, head_node_args: dict[str, Any] | None = None
    ) -> None:
        self.head_node: LocalNode | None = None
        if initialize_head:
            self.add_node(**(head_node_args or {}))

    @property
    def address(self) -> str:
        """Address of the control plane; "" while there is no node."""
        return "" if self.head_node is None else self.head_node.gcs_address

    def add_node(self, **node_args: Any) -> LocalNode:
        """Starts a node and blocks until it is ready.

        Args:
            **node_args: num_cpus, num_gpus, memory, object_store_memory, resources, labels; as for
                ``ray.init``.

        Raises:
            RuntimeError: there is a node already.
        """
        if self.head_node is not None:
            raise RuntimeError("A cluster cannot have more than one node yet.")
        self.head_node = LocalNode(node_options(**node_args))
        return self.head_node

    def remove_node(self, node: LocalNode) -> None:
        """Ends a node and blocks until it is gone.

        Raises:
            ValueError: it is not a node of this cluster.
        """
        if node is not self.head_node:
            raise ValueError("This node is not part of the cluster.")
        self.shutdown()

    def shutdown(self) -> None:
        """Ends all nodes and blocks until they are gone. Idempotent."""
        if self.head_node is not None:
            self.head_node.stop()
            self.head_node = None
