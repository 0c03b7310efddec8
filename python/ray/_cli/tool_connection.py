"""Commands' connection to a cluster: through a node of this machine."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import click

from ray import _joining, _raylet
from ray._node_records import NodeRecord

_Command = TypeVar("_Command", bound=Callable[..., Any])


def address_option(command: _Command) -> _Command:
    """Adds --address: which cluster the command is about."""
    return click.option(
        "--address",
        envvar="RAY_ADDRESS",
        default="auto",
        show_default="the latest on this machine",
        help="HOST:PORT of the cluster. A node of it must run on this machine.",
    )(command)


@contextlib.contextmanager
def connect(address: str) -> Iterator[tuple[_raylet.Core, NodeRecord]]:
    """Connects to a cluster without becoming a job of it.

    Raises:
        ConnectionError: no node of the cluster runs on this machine.
    """
    record = _joining.find_node(address)
    core = _raylet.Core.connect_tool(record.raylet_endpoint)
    try:
        yield core, record
    finally:
        core.shutdown()


def token_of_environment() -> str | None:
    """The token that RAY_AUTH_TOKEN holds or RAY_AUTH_TOKEN_PATH leads to, if they are set.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is empty.
    """
    if token := os.environ.get("RAY_AUTH_TOKEN"):
        return token.strip()
    path = os.environ.get("RAY_AUTH_TOKEN_PATH")
    return read_token(path) if path else None


def read_token(path: str) -> str:
    """The token in a file.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is empty.
    """
    with open(os.path.expanduser(path)) as file:
        token = file.read().strip()
    if not token:
        raise ValueError(f"{path} holds no token.")
    return token
