"""``ray drain-node``: takes a node out of the cluster without losing what it does."""

from __future__ import annotations

import time

import click

from ray._cli.reporting import reports_errors
from ray._cli.tool_connection import address_option, connect

_REASONS = ("DRAIN_NODE_REASON_IDLE_TERMINATION", "DRAIN_NODE_REASON_PREEMPTION")


@click.command("drain-node")
@address_option
@click.option("--node-id", help="Which node: as in ray.nodes() or 'ray status -v'.")
@click.option("--reason", type=click.Choice(_REASONS), required=True, help="Why it shall leave.")
@click.option("--reason-message", required=True, help="The same in words, for logs and errors.")
@click.option(
    "--deadline-remaining-seconds",
    type=click.IntRange(min=0),
    help="When the node will be cut off, in seconds from now.  [default: it has all the time]",
)
@reports_errors
def drain_node(
    address: str,
    node_id: str | None,
    reason: str,
    reason_message: str,
    deadline_remaining_seconds: int | None,
) -> None:
    """Drain a node: nothing new is placed on it, and it leaves once it is idle.

    Without --node-id, the node of this machine that the command connects to.
    """
    with connect(address) as (core, record):
        target = _node_id(node_id or record.node_id)
        deadline_ms = 0
        if deadline_remaining_seconds is not None:
            deadline_ms = int((time.time() + deadline_remaining_seconds) * 1000)
        core.drain_node(target, reason=f"{reason}: {reason_message}", deadline_ms=deadline_ms)
        click.echo(f"Node {target.hex()} is being drained.")


def _node_id(text: str) -> bytes:
    try:
        node_id = bytes.fromhex(text)
    except ValueError:
        node_id = b""
    if len(node_id) != 28:
        raise ValueError(f"--node-id must be 56 hexadecimal digits, not {text!r}.")
    return node_id
