"""Sizes and names of TPU slices: how many hosts and chips a topology has, and where this host is.

Chips are given to tasks as the resource "TPU". What reserves whole slices is listed as
missing in docs/accelerators.md.

Source: https://docs.ray.io/en/latest/cluster/kubernetes/user-guides/tpu.html.
"""

from __future__ import annotations

import math
import os
import pathlib
import re
from typing import Any

__all__ = [
    "get_current_pod_name",
    "get_current_pod_worker_count",
    "get_num_tpu_chips_on_node",
    "get_tpu_coordinator_env_vars",
    "get_tpu_nodes_for_slice",
    "get_tpu_num_slices_for_workers",
    "get_tpu_slice_name_from_node",
    "get_tpu_version_from_type",
    "get_tpu_worker_resources",
]

_SLICE_LABEL = "ray.io/tpu-slice-name"
_VERSIONS = ("v2", "v3", "v4", "v5p", "v5litepod", "v6e", "v7x")
# Their pod types ("v4-16") count cores, two a chip; those of the others count chips.
_COUNTED_IN_CORES = ("v2", "v3", "v4", "v5p")
# Versions whose smallest topologies lie on one host, whatever their size.
_SINGLE_HOST_VERSIONS = ("v5litepod", "v6e")
_SINGLE_HOST_TOPOLOGIES = ("1x1", "2x2", "2x4")
_CHIPS_PER_HOST = 4


def get_current_pod_name() -> str | None:
    """The name of the slice that this host is part of.

    Returns:
        The value of ``TPU_NAME``; None where it is not set.

    >>> get_current_pod_name() == os.environ.get("TPU_NAME")
    True
    """
    return os.environ.get("TPU_NAME") or None


def get_current_pod_worker_count() -> int | None:
    """The number of hosts of the slice that this host is part of.

    Returns:
        By ``TPU_ACCELERATOR_TYPE`` and the chips of this host; None where there are none.
    """
    pod_type = os.environ.get("TPU_ACCELERATOR_TYPE", "")
    match = re.fullmatch(r"(\w+)-(\d+)", pod_type)
    chips_on_host = get_num_tpu_chips_on_node()
    if match is None or chips_on_host == 0:
        return None
    chips = int(match.group(2))
    if match.group(1) in _COUNTED_IN_CORES:
        chips //= 2
    return max(1, chips // chips_on_host)


def get_num_tpu_chips_on_node() -> int:
    """The number of TPU chips of this host, by their device files; 0 on other machines.

    >>> get_num_tpu_chips_on_node() >= 0
    True
    """
    return _count_chips(pathlib.Path("/dev"))


def _count_chips(devices: pathlib.Path) -> int:
    # Up to v4 each chip is a file of its own, later ones are groups of VFIO.
    chips = len([path for path in devices.glob("accel*") if path.name[5:].isdigit()])
    return chips or len([path for path in devices.glob("vfio/*") if path.name.isdigit()])


def get_tpu_version_from_type(accelerator_type: str) -> str:
    """The version of an accelerator type.

    Args:
        accelerator_type: "TPU-V4", "v4", "tpu7x", in any case.

    Raises:
        ValueError: there is no such version.

    >>> get_tpu_version_from_type("TPU-V5LITEPOD")
    'v5litepod'
    """
    if not isinstance(accelerator_type, str):
        raise ValueError(f"Invalid accelerator_type: {accelerator_type!r} is no text.")
    version = accelerator_type.lower().removeprefix("tpu-")
    if version == "tpu7x":
        version = "v7x"
    if version not in _VERSIONS:
        raise ValueError(
            f"Invalid accelerator_type: {accelerator_type}. Must be one of {list(_VERSIONS)} or"
            " start with 'TPU-' followed by a valid type."
        )
    return version


def get_tpu_coordinator_env_vars(
    coordinator_address: str, num_slices: int, slice_id: int, coordinator_port: str = "8081"
) -> dict[str, str]:
    """The environment of a worker of a program that runs on several slices.

    Args:
        coordinator_address: of the host that runs the first worker.
        num_slices: of the program.
        slice_id: the worker's slice, from 0.
        coordinator_port: where the first worker listens.

    >>> get_tpu_coordinator_env_vars("10.0.0.1", 2, 0)["MEGASCALE_NUM_SLICES"]
    '2'
    """
    return {
        "MEGASCALE_COORDINATOR_ADDRESS": coordinator_address,
        "MEGASCALE_PORT": coordinator_port,
        "MEGASCALE_NUM_SLICES": str(num_slices),
        "MEGASCALE_SLICE_ID": str(slice_id),
    }


def get_tpu_worker_resources(
    topology: str,
    accelerator_type: str,
    resources_per_worker: dict[str, float] | None = None,
    num_slices: int = 1,
    chips_per_vm: int | None = None,
    tpu_resource_per_chip: int | None = None,
) -> tuple[int, dict[str, float]]:
    """How many workers fill the slices, and what each of them takes.

    Args:
        topology: chips in each direction of a slice, "4x4" or "2x2x2".
        accelerator_type: "TPU-V6E" or "v6e".
        resources_per_worker: what a worker takes; by default a CPU and all chips of its host.
        num_slices: of this topology.
        chips_per_vm: chips of a host; by default what hosts of this version and topology have.
        tpu_resource_per_chip: how much "TPU" a chip counts for; 1 by default.

    Returns:
        The number of workers, and the resources of one.

    Raises:
        ValueError: there is no such version or topology, or the chips cannot be divided so.

    >>> get_tpu_worker_resources("4x4", "TPU-V6E")
    (4, {'CPU': 1, 'TPU': 4})
    """
    version = get_tpu_version_from_type(accelerator_type)
    chips = _chips_of(topology)
    per_chip = 1 if tpu_resource_per_chip is None else tpu_resource_per_chip
    if chips_per_vm is None:
        chips_per_vm = _chips_per_host(topology, version)
    resources: dict[str, float] = dict(resources_per_worker or {})
    resources.setdefault("CPU", 1)
    resources.setdefault("TPU", chips_per_vm * per_chip)
    if resources["TPU"] <= 0:
        raise ValueError("TPU resources must be positive.")
    total = chips * per_chip
    if total % resources["TPU"] != 0:
        raise ValueError(
            f"Total TPU resources ({total}) not divisible by TPUs requested per worker"
            f" ({resources['TPU']})."
        )
    return int(total // resources["TPU"]) * num_slices, resources


def get_tpu_num_slices_for_workers(
    topology: str,
    accelerator_type: str,
    num_workers: int,
    resources_per_worker: dict[str, float] | None = None,
    tpu_resource_per_chip: int | None = None,
) -> int:
    """How many slices it takes for a number of workers; 1 where that cannot be told.

    Args:
        topology: chips in each direction of a slice, "4x4" or "2x2x2".
        accelerator_type: "TPU-V6E" or "v6e".
        num_workers: in all.
        resources_per_worker: what a worker takes; by default a CPU and all chips of its host.
        tpu_resource_per_chip: how much "TPU" a chip counts for; 1 by default.

    >>> get_tpu_num_slices_for_workers("4x4", "TPU-V6E", num_workers=8)
    2
    """
    try:
        workers, _ = get_tpu_worker_resources(
            topology,
            accelerator_type,
            resources_per_worker,
            tpu_resource_per_chip=tpu_resource_per_chip,
        )
    except ValueError:
        return 1
    return max(1, math.ceil(num_workers / workers))


def get_tpu_slice_name_from_node(node: dict[str, Any]) -> str | None:
    """The slice of a node.

    Args:
        node: an entry of ``ray.nodes()``.

    Returns:
        The slice's name, or None for a node of no slice.

    >>> get_tpu_slice_name_from_node({"Labels": {"ray.io/tpu-slice-name": "a"}})
    'a'
    """
    name: str | None = (node.get("Labels") or {}).get(_SLICE_LABEL)
    return name


def get_tpu_nodes_for_slice(
    slice_name: str, nodes: list[dict[str, Any]] | None = None
) -> list[dict[str, Any]]:
    """The nodes of a slice that are alive.

    Args:
        slice_name: as ``get_current_pod_name`` gives it there.
        nodes: entries of ``ray.nodes()``; asked for, which blocks for a moment, if None.

    >>> get_tpu_nodes_for_slice("a", nodes=[])
    []
    """
    if nodes is None:
        import ray

        nodes = ray.nodes()
    return [
        node
        for node in nodes
        if node.get("Alive") and get_tpu_slice_name_from_node(node) == slice_name
    ]


def _chips_of(topology: str) -> int:
    sizes = topology.lower().split("x") if isinstance(topology, str) else []
    if not sizes or not all(size.isdigit() and int(size) > 0 for size in sizes):
        raise ValueError(
            f"Invalid topology: {topology!r}. Give the chips by direction, as '2x2x2'."
        )
    return math.prod(int(size) for size in sizes)


def _chips_per_host(topology: str, version: str) -> int:
    if version in _SINGLE_HOST_VERSIONS and topology.lower() in _SINGLE_HOST_TOPOLOGIES:
        return _chips_of(topology)
    return _CHIPS_PER_HOST
