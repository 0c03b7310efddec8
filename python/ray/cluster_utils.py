"""Clusters of several nodes on this machine, for tests of programs."""

from __future__ import annotations

import atexit
import os
import time
from typing import TYPE_CHECKING, Any

from ray import _raylet
from ray._node import ExistingCluster, NewCluster, Node
from ray._node_records import CLUSTER
from ray._session import RayContext, init, node_options

if TYPE_CHECKING:
    import subprocess

# Options of a node that the reference takes and that mean nothing here.
_IGNORED_OPTIONS = ("include_dashboard", "dashboard_host", "dashboard_port", "redirect_output")
_POLL_INTERVAL_S = 0.02


class ClusterNode:
    """One node of a ``Cluster``, with daemons of its own.

    Attributes:
        node_id: hex.
        unique_id: tells it from all other nodes of all clusters.
        address: HOST:PORT of the cluster's control plane.
        gcs_address: the same.
        node_ip_address: where the other nodes reach it.
        raylet_socket_name: path of the socket that its drivers and workers connect to.
        plasma_store_socket_name: the same: the raylet serves the object store.
        session_name: name of its session folder.
        head: whether the control plane runs on it.

    Source: conformance cluster/test_node_failure.py.
    """

    def __init__(self, node: Node) -> None:
        """For ``Cluster.add_node``.

        Args:
            node: the node, started.
        """
        self._node = node
        self.node_id = node.node_id
        self.address = self.gcs_address = node.gcs_address
        self.node_ip_address = node.node_ip
        self.raylet_socket_name = node.raylet_endpoint.removeprefix("unix:")
        self.plasma_store_socket_name = self.raylet_socket_name
        self.unique_id = f"{node.node_ip}:{self.raylet_socket_name}"
        self.session_name = os.path.basename(node.session_dir)
        self.head = node.is_head

    def is_head(self) -> bool:
        """Whether the control plane runs on it."""
        return self.head

    def get_session_dir_path(self) -> str:
        """The folder of the node."""
        return self._node.session_dir

    def get_logs_dir_path(self) -> str:
        """The folder of its logs."""
        return os.path.join(self._node.session_dir, "logs")

    def get_sockets_dir_path(self) -> str:
        """The folder of its sockets."""
        return os.path.join(self._node.session_dir, "sockets")

    def get_temp_dir_path(self) -> str:
        """The folder that its own folder lies in."""
        return os.path.dirname(self._node.session_dir)

    def kill_raylet(self, check_alive: bool = True) -> None:
        """Ends the raylet with SIGKILL, and with it its workers: to the others, the node dies.

        Args:
            check_alive: raise if it does not run.

        Raises:
            RuntimeError: it does not run.
        """
        self._kill("raylet", check_alive)

    def kill_gcs_server(self, check_alive: bool = True) -> None:
        """Ends the control plane with SIGKILL.

        Args:
            check_alive: raise if it does not run.

        Raises:
            RuntimeError: it does not run, or this is not the head.
        """
        self._kill("gcs_server", check_alive)

    def kill_all_processes(
        self, check_alive: bool = True, allow_graceful: bool = False, wait: bool = False
    ) -> None:
        """Ends all processes of the node, and blocks until they are gone.

        Args:
            check_alive: accepted; a daemon that has ended already is no error.
            allow_graceful: let the daemons end in good order, rather than by SIGKILL.
            wait: accepted; the processes are always waited for.
        """
        if not allow_graceful:
            self._node.kill_daemon("raylet")
            self._node.kill_daemon("gcs_server")
        self._node.stop()

    def live_processes(self) -> list[tuple[str, subprocess.Popen[bytes]]]:
        """The daemons that run: pairs of program and process."""
        return list(self._node.living_daemons().items())

    def any_processes_alive(self) -> bool:
        """Whether a daemon runs."""
        return bool(self._node.living_daemons())

    def remaining_processes_alive(self) -> bool:
        """Whether all daemons that were not killed run."""
        return self._node.has_all_daemons()

    def _kill(self, name: str, check_alive: bool) -> None:
        if check_alive and name not in self._node.living_daemons():
            raise RuntimeError(f"{name} does not run on node {self.node_id}.")
        self._node.kill_daemon(name)


class Cluster:
    """A cluster that the test builds node by node, each with daemons of its own, all on this
    machine. It ends with ``shutdown``, or with this process.

    >>> import ray
    >>> from ray.cluster_utils import Cluster
    >>> ray.shutdown()
    >>> cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    >>> node = cluster.add_node(num_cpus=2, resources={"special": 1})
    >>> _ = ray.init(address=cluster.address, log_to_driver=False)
    >>> ray.cluster_resources()["CPU"]
    3.0
    >>> cluster.remove_node(node)
    >>> ray.shutdown()
    >>> cluster.shutdown()

    Attributes:
        head_node: the first node; None while there is none.
        worker_nodes: the others.
        connected: whether ``connect`` was called.

    Source: conformance cluster/conftest.py, cluster/test_scheduling.py.
    """

    def __init__(
        self,
        initialize_head: bool = False,
        connect: bool = False,
        head_node_args: dict[str, Any] | None = None,
        shutdown_at_exit: bool = True,
    ) -> None:
        """Starts the head, if it shall.

        Args:
            initialize_head: whether to start the head node at once.
            connect: whether to make this process a driver of the cluster then.
            head_node_args: what the head offers; see ``add_node``.
            shutdown_at_exit: end the cluster at the exit of this process in good order; it ends
                then in any case.

        Raises:
            RuntimeError: ``connect`` without a head.
        """
        self.head_node: ClusterNode | None = None
        self.worker_nodes: set[ClusterNode] = set()
        self.connected = False
        self._head: Node | None = None
        self._pid = os.getpid()
        if connect and not initialize_head:
            raise RuntimeError("A cluster without a head cannot be connected to.")
        if initialize_head:
            self.add_node(**(head_node_args or {}))
            if connect:
                self.connect()
        if shutdown_at_exit:
            atexit.register(self._shutdown_at_exit)

    @property
    def address(self) -> str | None:
        """HOST:PORT of the control plane, for ``ray.init``; None while there is no node."""
        return None if self.head_node is None else self.head_node.gcs_address

    @property
    def gcs_address(self) -> str | None:
        """The same as ``address``."""
        return self.address

    def connect(self, namespace: str | None = None) -> RayContext:
        """Makes this process a driver of the cluster, connected to its head.

        Args:
            namespace: as for ``ray.init``.

        Raises:
            RuntimeError: there is no node, or this process is connected already.
        """
        if self.address is None:
            raise RuntimeError("Add a node before you connect to the cluster.")
        if self.connected:
            raise RuntimeError("This process is connected to the cluster already.")
        context = init(self.address, namespace=namespace, ignore_reinit_error=True)
        self.connected = True
        return context

    def add_node(self, wait: bool = True, **node_args: Any) -> ClusterNode:
        """Starts a node and blocks until it has joined; the first one is the head.

        Args:
            wait: accepted; the node is always waited for.
            **node_args: num_cpus, num_gpus (GPUs that need not exist), memory,
                object_store_memory, resources, labels, as for ``ray.init``; env_vars:
                environment variables of the node's processes; _system_config (of the head, for the
                whole cluster).

        Returns:
            The node; keep it for ``remove_node``.

        Raises:
            TypeError: an unknown option, or a value of a wrong type.
            ValueError: a value out of range.
            RaySystemError: the node could not be started; the message has the end of its logs.
        """
        node = Node(_options(node_args), self._membership(), started_by=CLUSTER)
        added = ClusterNode(node)
        if self.head_node is None:
            self.head_node, self._head = added, node
        else:
            self.worker_nodes.add(added)
        return added

    def _membership(self) -> NewCluster | ExistingCluster:
        if self._head is None:
            return NewCluster()
        return ExistingCluster(self._head.gcs_address, self._head.token())

    def remove_node(self, node: ClusterNode, allow_graceful: bool = True) -> None:
        """Ends a node and blocks until its processes are gone. Without the head, the cluster is
        gone.

        Args:
            node: what ``add_node`` returned.
            allow_graceful: whether the node may leave in good order; else it is killed, as by a
                failure of its machine.

        Raises:
            ValueError: it is not a node of this cluster.
        """
        if node is not self.head_node and node not in self.worker_nodes:
            raise ValueError(f"Node {node.node_id} is not part of this cluster.")
        node.kill_all_processes(allow_graceful=allow_graceful)
        self.worker_nodes.discard(node)
        if node is self.head_node:
            self.head_node = self._head = None

    def list_all_nodes(self) -> list[ClusterNode]:
        """The nodes that were added and not removed, the head first."""
        head = [] if self.head_node is None else [self.head_node]
        return [*head, *self.worker_nodes]

    def wait_for_nodes(self, timeout: float = 30) -> None:
        """Blocks until the control plane says that exactly the nodes of this cluster are alive.

        Args:
            timeout: in seconds.

        Raises:
            TimeoutError: it does not say so in time.
            RuntimeError: there is no node.
        """
        if self.head_node is None:
            raise RuntimeError("The cluster has no node.")
        expected = {node.node_id for node in self.list_all_nodes()}
        tool = _raylet.Core.connect_tool(f"unix:{self.head_node.raylet_socket_name}")
        try:
            deadline = time.monotonic() + timeout
            while (alive := _living_nodes(tool)) != expected:
                if time.monotonic() > deadline:
                    raise TimeoutError(
                        f"Of {len(expected)} nodes, {len(alive & expected)} are alive after"
                        f" {timeout} s, and {len(alive - expected)} that were removed still are."
                    )
                time.sleep(_POLL_INTERVAL_S)
        finally:
            tool.shutdown()

    def remaining_processes_alive(self) -> bool:
        """Whether all daemons of all nodes run that were not killed."""
        return all(node.remaining_processes_alive() for node in self.list_all_nodes())

    def shutdown(self) -> None:
        """Ends all nodes and blocks until they are gone. Idempotent."""
        for node in [*self.worker_nodes]:
            self.remove_node(node)
        if self.head_node is not None:
            self.remove_node(self.head_node)
        self.connected = False
        atexit.unregister(self._shutdown_at_exit)

    def _shutdown_at_exit(self) -> None:
        if os.getpid() == self._pid:  # The cluster is not a forked child's to end.
            self.shutdown()


def _options(node_args: dict[str, Any]) -> Any:
    options = {name: value for name, value in node_args.items() if name not in _IGNORED_OPTIONS}
    if "_system_config" in options:
        options["config"] = options.pop("_system_config")
    return node_options(**options)


def _living_nodes(tool: _raylet.Core) -> set[str]:
    return {node["node_id"] for node in tool.cluster_state()["nodes"] if node["alive"]}
