"""Resources that change while a node runs: gone since Ray 2.0."""

from __future__ import annotations

from typing import NoReturn


def set_resource(resource_name: str, capacity: float, node_id: str | None = None) -> NoReturn:
    """Refuses: the resources of a node are set when it starts.

    Args:
        resource_name: name of the resource.
        capacity: how much of it.
        node_id: which node, in hex.

    Raises:
        DeprecationWarning: always; the message says what to use.
    """
    raise DeprecationWarning(
        "Dynamic custom resources are deprecated. Reserve resources with placement groups"
        " (ray.util.placement_group), or set them when the node starts, with"
        " ray.init(resources={...})."
    )
