"""``ray start``: a node of this machine that lives until ``ray stop``."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import sys
from types import FrameType
from typing import Any

import click

from ray import _joining, _node_records
from ray._cli.reporting import reports_errors
from ray._cli.tool_connection import read_token, token_of_environment
from ray._node import ExistingCluster, NewCluster, Node, TlsFiles, own_ip
from ray._session import node_options

_DEFAULT_PORT = 6379
_CONNECT_TIMEOUT_S = 5.0
_EXISTING_FILE = click.Path(exists=True, dir_okay=False)

# What the reference takes and this has no use for: there is no dashboard, usage is not reported,
# and workers choose their ports.
_WITHOUT_EFFECT = (
    ("--include-dashboard", bool),
    ("--dashboard-host", str),
    ("--dashboard-port", int),
    ("--dashboard-agent-listen-port", int),
    ("--dashboard-agent-grpc-port", int),
    ("--runtime-env-agent-port", int),
    ("--metrics-export-port", int),
    ("--ray-client-server-port", int),
    ("--object-manager-port", int),
    ("--min-worker-port", int),
    ("--max-worker-port", int),
)


def _accepts_ignored_options(command: Any) -> Any:
    for name, kind in _WITHOUT_EFFECT:
        command = click.option(name, type=kind, hidden=True)(command)
    return click.option("--disable-usage-stats", is_flag=True, hidden=True)(command)


@click.command()
@click.option("--head", is_flag=True, help="Start a new cluster, with this node as its head.")
@click.option("--address", help="HOST:PORT of the cluster that the node joins.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    help=f"Port of the head for joining nodes; 0: any free one.  [default: {_DEFAULT_PORT}]",
)
@click.option(
    "--node-ip-address",
    help="Address of this node for the others.  [default: the one that reaches them]",
)
@click.option(
    "--node-manager-port",
    type=click.IntRange(0, 65535),
    default=0,
    help="Port of this node for the others; 0: any free one.  [default: 0]",
)
@click.option("--num-cpus", type=float, help="CPUs the node offers.  [default: those it has]")
@click.option("--num-gpus", type=float, help="GPUs the node offers.  [default: those it has]")
@click.option("--memory", type=int, help="Bytes of memory for tasks and actors to demand.")
@click.option("--object-store-memory", type=int, help="Size of the object store in bytes.")
@click.option(
    "--resources", default="{}", help="Further resources: a JSON object, '{\"disk\": 2}'."
)
@click.option("--labels", default="", help="Labels of the node: KEY=VALUE,KEY=VALUE.")
@click.option(
    "--object-spilling-directory",
    help="Where objects go that memory has no room for.  [default: in the node's folder]",
)
@click.option("--temp-dir", help="Where the node's folder is made.  [default: /tmp/ray]")
@click.option(
    "--storage",
    default="sqlite",
    show_default=True,
    help="Where the head keeps the state of the cluster: sqlite (in its folder), sqlite:PATH,"
    " redis://HOST:PORT/PREFIX, or memory.",
)
@click.option(
    "--token-file",
    help="File with the token of the cluster, which all its nodes share.  [default: RAY_AUTH_TOKEN,"
    " RAY_AUTH_TOKEN_PATH, else found on this machine, or for a new cluster made]",
)
@click.option(
    "--tls-cert-file",
    type=_EXISTING_FILE,
    help="Certificate of this node (PEM), for TLS between all nodes; with the other two --tls"
    " options. All nodes of a cluster have TLS or none.  [default: the environment, RAY_USE_TLS]",
)
@click.option("--tls-key-file", type=_EXISTING_FILE, help="Key of that certificate (PEM).")
@click.option(
    "--tls-ca-file",
    type=_EXISTING_FILE,
    help="Certificate (PEM) of the authority that has signed those of all nodes.",
)
@click.option("--system-config", default="{}", help="Settings: a JSON object.", hidden=True)
@click.option("--block", is_flag=True, help="Stay until the node ends; Ctrl-C ends it.")
@_accepts_ignored_options
@reports_errors
def start(head: bool, address: str | None, block: bool, **options: Any) -> None:
    """Start a node on this machine.

    It runs until "ray stop". The head is started first; the others join it by its address.
    """
    if head == (address is not None):
        raise click.ClickException(
            "Give either --head, to start a new cluster, or --address=HOST:PORT, to join one."
        )
    _warn_of_ignored(options)
    node = (_start_head if address is None else _join)(address or "", not block, options)
    click.echo(_next_steps(node))
    if block:
        sys.exit(_stay(node))


def _warn_of_ignored(options: dict[str, Any]) -> None:
    for name, _ in _WITHOUT_EFFECT:
        value = options[name.strip("-").replace("-", "_")]
        if value not in (None, False):
            click.echo(f"{name} has no effect.", err=True)


def _start_head(_: str, lives_on: bool, options: dict[str, Any]) -> Node:
    port = _DEFAULT_PORT if options["port"] is None else options["port"]
    ip = options["node_ip_address"] or own_ip()
    if port and _is_taken(ip, port):
        raise ConnectionError(
            f"Something listens on {ip}:{port} already. If it is a cluster of yours, 'ray stop'"
            " ends it; else choose another --port."
        )
    cluster = NewCluster(port, _given_token(options), options["storage"])
    return _start_node(cluster, ip, lives_on, options)


def _join(address: str, lives_on: bool, options: dict[str, Any]) -> Node:
    if options["port"] is not None:
        raise click.ClickException("--port is for --head; the port to join is in --address.")
    if address != "auto":
        _joining.split_address(address)
    token = _given_token(options)
    if address == "auto" or token is None:
        known = _known_cluster(address)
        address, token = known.gcs_address, token or read_token(known.token_file)
    host, port = _joining.split_address(address)
    _check_reachable(host, port)
    ip = options["node_ip_address"] or own_ip(host)
    return _start_node(ExistingCluster(address, token), ip, lives_on, options)


def _start_node(
    cluster: NewCluster | ExistingCluster, ip: str, lives_on: bool, options: dict[str, Any]
) -> Node:
    return Node(
        node_options(
            num_cpus=options["num_cpus"],
            num_gpus=options["num_gpus"],
            memory=options["memory"],
            object_store_memory=options["object_store_memory"],
            resources=_json_object("--resources", options["resources"]),
            labels=_labels(options["labels"]),
            config=_json_object("--system-config", options["system_config"]),
            temp_folder=options["temp_dir"],
            spilling_directory=options["object_spilling_directory"],
            node_ip=ip,
            port=options["node_manager_port"],
            tls=_tls_files(options),
        ),
        cluster,
        started_by=_node_records.RAY_START,
        lives_on=lives_on,
    )


def _given_token(options: dict[str, Any]) -> str | None:
    path = options["token_file"]
    return read_token(path) if path else token_of_environment()


def _tls_files(options: dict[str, Any]) -> TlsFiles | None:
    given = [options[name] for name in ("tls_cert_file", "tls_key_file", "tls_ca_file")]
    if not any(given):
        return None
    if not all(given):
        raise click.ClickException(
            "TLS needs all of --tls-cert-file, --tls-key-file and --tls-ca-file."
        )
    return TlsFiles(*given)


def _known_cluster(address: str) -> _node_records.NodeRecord:
    """The cluster at this address, if a node of it runs here: its token is known then."""
    try:
        return _joining.find_node(address)
    except ConnectionError as error:
        if address == "auto":
            raise
        raise ConnectionError(
            f"The token of the cluster at {address} is not known on this machine. Copy the file"
            " 'token' from the folder of its head, whose path 'ray start --head' has printed, and"
            " pass it with --token-file; or set RAY_AUTH_TOKEN."
        ) from error


def _is_taken(ip: str, port: int) -> bool:
    try:
        socket.create_connection((ip, port), _CONNECT_TIMEOUT_S).close()
    except OSError:
        return False
    return True


def _check_reachable(host: str, port: int) -> None:
    try:
        socket.create_connection((host, port), _CONNECT_TIMEOUT_S).close()
    except OSError as error:
        raise ConnectionError(
            f"There is no cluster at {host}:{port}: {error}. Start one there with 'ray start"
            f" --head --port={port}', and see that the port can be reached from here."
        ) from error


def _json_object(option: str, text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError as error:
        raise ValueError(f"{option} is no JSON: {error}: {text!r}") from error
    if not isinstance(value, dict):
        raise ValueError(f"{option} must be a JSON object, as '{{\"name\": 1}}', not {text!r}.")
    return value


def _labels(text: str) -> dict[str, str]:
    labels = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        key, equals, value = part.partition("=")
        if not equals:
            raise ValueError(f"--labels must be KEY=VALUE,KEY=VALUE; {part!r} has no '='.")
        labels[key.strip()] = value.strip()
    return labels


def _next_steps(node: Node) -> str:
    lines = [
        "Ray runtime started.",
        f"  node:   {node.node_id} at {node.node_ip}",
        f"  folder: {node.session_dir}",
        "",
        "To use the cluster from a program on this machine:",
        "  import ray",
        "  ray.init()",
    ]
    if node.is_head:
        lines += [
            "To add another machine, copy the file with the token to it and run there:",
            f"  ray start --address='{node.gcs_address}' --token-file=token",
            f"The token is in {node.session_dir}/token; whoever has it may use the cluster.",
        ]
    lines += ["To see the cluster:", "  ray status", "To end this machine's nodes:", "  ray stop"]
    return "\n".join(lines)


class _AskedToEnd(Exception):
    """SIGTERM or SIGINT has come."""


def _stay(node: Node) -> int:
    """Blocks until the node ends or this process is asked to; returns the exit code."""

    def on_signal(number: int, frame: FrameType | None) -> None:
        raise _AskedToEnd

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, on_signal)
    raylet = node.living_daemons().get("raylet")
    try:
        if raylet is not None:
            descriptor = os.pidfd_open(raylet.pid)
            select.select([descriptor], [], [])
            raylet.wait()
        code = raylet.returncode if raylet is not None else 1
    except _AskedToEnd:
        click.echo("Ending the node.")
        code = 0
    finally:
        node.stop()
    if code != 0:
        click.echo(f"The raylet ended with code {code}; see {node.session_dir}/logs.", err=True)
    return 1 if code else 0
