"""``ray status``: what a cluster has, what of it is used, and what waits."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Any

import click

from ray._cli.reporting import reports_errors
from ray._cli.tool_connection import address_option, connect

_BYTES = ("memory", "object_store_memory")
_GIB = 2**30


@click.command()
@address_option
@click.option("--verbose", "-v", is_flag=True, help="Usage node by node, and whole ids.")
@reports_errors
def status(address: str, verbose: bool) -> None:
    """Show the nodes of a cluster, what is used, what is asked for, and why what waits does."""
    with connect(address) as (core, record):
        state = core.cluster_state()
    title = f"Cluster at {record.gcs_address}, {time.strftime('%Y-%m-%d %H:%M:%S')}"
    click.echo("\n".join(render(title, state, verbose)))


def render(title: str, state: dict[str, list[dict[str, Any]]], verbose: bool) -> Iterator[str]:
    """The report, line by line.

    Args:
        title: its first line.
        state: as of ``Core.cluster_state``.
        verbose: whether to show the usage of each node, and whole ids.
    """
    living = [node for node in state["nodes"] if node["alive"]]
    dead = [node for node in state["nodes"] if not node["alive"]]
    yield from (title, "=" * len(title))
    yield from _section("Nodes", (_node_line(node, verbose) for node in living))
    if dead:
        yield from _section("Dead nodes", (_dead_line(node, verbose) for node in dead))
    yield from _section("Usage", _usage(living))
    if verbose:
        for node in living:
            yield from _section(f"Usage of node {node['node_id']}", _usage([node]))
    yield from _section("Demands", _demands(living), "nothing waits for resources")
    actors, groups = state["pending_actors"], state["pending_groups"]
    if actors:
        yield from _section("Pending actors", map(_actor_line, actors))
    if groups:
        yield from _section("Pending placement groups", map(_group_line, groups))


def _section(title: str, lines: Iterable[str], otherwise: str = "none") -> Iterator[str]:
    yield from ("", title)
    for line in list(lines) or [otherwise]:
        yield f"  {line}"


def _shown_id(node: dict[str, Any], verbose: bool) -> str:
    node_id: str = node["node_id"]
    return node_id if verbose else node_id[:12]


def _node_line(node: dict[str, Any], verbose: bool) -> str:
    notes = [name for name, is_so in (("head", "is_head"), ("draining", "draining")) if node[is_so]]
    labels = [f"{key}={value}" for key, value in sorted(node["labels"].items())]
    text = f"{_shown_id(node, verbose)} {node['ip']}"
    if notes:
        text += f" ({', '.join(notes)})"
    return f"{text} {' '.join(labels)}" if verbose and labels else text


def _dead_line(node: dict[str, Any], verbose: bool) -> str:
    reason = node["death_reason"]
    return f"{_shown_id(node, verbose)} {node['ip']}" + (f": {reason}" if reason else "")


def _usage(nodes: list[dict[str, Any]]) -> Iterator[str]:
    total: dict[str, float] = defaultdict(float)
    used: dict[str, float] = defaultdict(float)
    for node in nodes:
        for name, quantity in node["total"].items():
            total[name] += quantity
            used[name] += quantity - node["available"].get(name, 0.0)
    for name in sorted(total, key=lambda name: (name not in ("CPU", "GPU"), name)):
        if not name.startswith("node:"):
            yield f"{_quantity(name, used[name])} of {_quantity(name, total[name])} {name}"
    if spilled := sum(node["spilled_bytes"] for node in nodes):
        yield f"{_quantity('object_store_memory', spilled)} of objects spilled to disk"


def _quantity(name: str, quantity: float) -> str:
    return f"{quantity / _GIB:.2f} GiB" if name in _BYTES else f"{quantity:g}"


def _resources(resources: dict[str, float]) -> str:
    parts = [f"{_quantity(name, quantity)} {name}" for name, quantity in sorted(resources.items())]
    return ", ".join(parts) or "no resources"


def _demands(nodes: list[dict[str, Any]]) -> Iterator[str]:
    """Those of all nodes, requests of one shape together."""
    counts: dict[str, int] = defaultdict(int)
    notes: dict[str, str] = {}
    for node in nodes:
        for demand in node["demands"]:
            shape = _resources(demand["resources"])
            counts[shape] += demand["count"]
            if demand["infeasible"] or shape not in notes:
                note = "no node can ever hold it" if demand["infeasible"] else ""
                notes[shape] = ". ".join(part for part in (note, demand["reason"]) if part)
    for shape, count in sorted(counts.items()):
        yield f"{count} x ({shape})" + (f": {notes[shape]}" if notes[shape] else "")


def _actor_line(actor: dict[str, Any]) -> str:
    name = f" named {actor['name']!r}" if actor["name"] else ""
    reason = actor["pending_reason"] or "it is being placed"
    return f"{actor['class_name']} {actor['actor_id']}{name}: {reason}"


def _group_line(group: dict[str, Any]) -> str:
    name = f" named {group['name']!r}" if group["name"] else ""
    bundles = " + ".join(f"({_resources(bundle)})" for bundle in group["bundles"])
    reason = group["pending_reason"] or "it is being placed"
    identity = group["placement_group_id"].hex()
    return f"{identity}{name} {group['strategy']} {bundles}: {reason}"
