"""Which running node of this machine a driver or tool connects to."""

from __future__ import annotations

import os
import socket

from ray import _node_records
from ray._node_records import NodeRecord
from ray._session_folder import default_temp_folder


def node_for_driver(address: str | None, temp_folder: str | None = None) -> NodeRecord | None:
    """The node that ``ray.init(address)`` connects to; None: it starts one of its own.

    Args:
        address: None: the cluster that ``ray start`` has made on this machine, if there is one;
            RAY_ADDRESS says otherwise. "local": none. Else as for ``find_node``.
        temp_folder: where that cluster's folder lies, if no address is given.

    Raises:
        ConnectionError: no node of that cluster runs here.
    """
    address = address or os.environ.get("RAY_ADDRESS")
    if address == "local":
        return None
    if address:
        return find_node(address)
    folder = os.path.realpath(temp_folder or default_temp_folder())
    found = [
        record
        for record in _living_nodes()
        if record.started_by == _node_records.RAY_START
        and (temp_folder is None or os.path.dirname(record.session_dir) == folder)
    ]
    return _best_of(found)


def find_node(address: str) -> NodeRecord:
    """A running node of this machine.

    Args:
        address: "auto": of the latest cluster, one of ``ray start`` before all others. HOST:PORT:
            of the cluster whose control plane listens there.

    Raises:
        ConnectionError: there is none; the message says what to do.
    """
    if "://" in address:
        raise ConnectionError(
            f"{address!r} cannot be connected to: a driver runs on a machine of its cluster, and"
            " there is no Ray Client. Run the program there, with address='auto'."
        )
    nodes = _living_nodes()
    if address == "auto":
        started = [node for node in nodes if node.started_by == _node_records.RAY_START]
        node = _best_of(started or nodes)
        if node is None:
            raise ConnectionError(
                "No cluster of this user runs on this machine. Start one with 'ray start --head',"
                " or leave the address out, to run the program with a node of its own."
            )
        return node
    host, port = split_address(address)
    node = _best_of([node for node in nodes if _is_at(node, host, port)])
    if node is None:
        raise ConnectionError(
            f"No node of the cluster at {address} runs on this machine, for this user. Start one"
            f" with 'ray start --address={address}'; or, if the cluster is gone, start a new one"
            " with 'ray start --head'."
        )
    return node


def split_address(address: str) -> tuple[str, int]:
    """The host and the port of HOST:PORT.

    Raises:
        ConnectionError: it is something else.
    """
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise ConnectionError(
            f"{address!r} is no address of a cluster. It must be HOST:PORT, 'auto' or 'local'."
        )
    return host, int(port)


def is_of_this_machine(host: str) -> bool:
    """Whether the host is this machine: whether a socket can have its address."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((host, 0))
        except OSError:
            return False
        return True


def _living_nodes() -> list[NodeRecord]:
    return [record for record in _node_records.known() if record.is_alive()]


def _best_of(nodes: list[NodeRecord]) -> NodeRecord | None:
    """Of the latest cluster among them: its head, or its oldest node."""
    if not nodes:
        return None
    latest = nodes[-1].gcs_address
    return min(
        (node for node in nodes if node.gcs_address == latest),
        key=lambda node: (not node.is_head, node.start_time),
    )


def _is_at(node: NodeRecord, host: str, port: int) -> bool:
    node_host, node_port = split_address(node.gcs_address)
    if port != node_port:
        return False
    return (
        host == node_host
        or _resolve(host) == _resolve(node_host)
        or (is_of_this_machine(host) and is_of_this_machine(node_host))
    )


def _resolve(host: str) -> str:
    try:
        return socket.gethostbyname(host)
    except OSError:
        return host
