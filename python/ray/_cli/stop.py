"""``ray stop``: ends what ``ray start`` has started on this machine."""

from __future__ import annotations

import os
import select
import signal
import time

import click

from ray import _node_records
from ray._cli.reporting import reports_errors
from ray._node_records import NodeRecord, ProcessId
from ray._session_folder import empty_session_folder

_KILL_TIMEOUT_S = 5.0


@click.command()
@click.option("--force", "-f", is_flag=True, help="Kill at once, without a chance to end well.")
@click.option(
    "--grace-period",
    "-g",
    type=click.FloatRange(min=0),
    default=16,
    show_default=True,
    help="Seconds after which what has not ended is killed.",
)
@reports_errors
def stop(force: bool, grace_period: float) -> None:
    """End all nodes that you have started with "ray start" on this machine.

    Nodes that belong to a running program (ray.init, cluster_utils.Cluster) end with it.
    """
    records = [r for r in _node_records.known() if r.started_by == _node_records.RAY_START]
    if not records:
        click.echo("No node of 'ray start' runs on this machine.")
        return
    # Heads last: the other nodes still tell them that they leave.
    records.sort(key=lambda record: record.is_head)
    deadline = time.monotonic() + (0 if force else grace_period)
    left = [name for record in records for name in _stop_node(record, force, deadline)]
    ended = len(records)
    click.echo(f"Stopped {ended} {'node' if ended == 1 else 'nodes'}.")
    if left:
        raise click.ClickException(f"These could not be ended: {', '.join(left)}.")


def _stop_node(record: NodeRecord, force: bool, deadline: float) -> list[str]:
    """Ends a node's daemons, and with the raylet all workers. Returns what is left."""
    left = []
    # The raylet comes first: it still tells the GCS that its node leaves.
    for name, process in record.living_processes().items():
        if not _end(process, force, deadline):
            left.append(f"{name} (pid {process.pid})")
    if not left:
        _node_records.remove(record.session_dir)
        empty_session_folder(record.session_dir)
    return left


def _end(process: ProcessId, force: bool, deadline: float) -> bool:
    """Ends one process; whether it is gone."""
    try:
        descriptor = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return True
    try:
        # The descriptor stays with this process even if its pid is given out again.
        if not process.is_alive():
            return True
        if not force:
            signal.pidfd_send_signal(descriptor, signal.SIGTERM)
            if _wait(descriptor, deadline - time.monotonic()):
                return True
        signal.pidfd_send_signal(descriptor, signal.SIGKILL)
        return _wait(descriptor, _KILL_TIMEOUT_S)
    except ProcessLookupError:
        return True
    finally:
        os.close(descriptor)


def _wait(descriptor: int, seconds: float) -> bool:
    ended, _, _ = select.select([descriptor], [], [], max(0.0, seconds))
    return bool(ended)
