"""The accelerators that this worker may use. The raylet decides; the worker hears of it before user
code runs.
"""

from __future__ import annotations

import os

_assigned: dict[str, list[str]] = {}


def use_devices(ids: dict[str, list[str]], environment: dict[str, str]) -> None:
    """Confines this process to devices; without effect on a library that has looked already.

    Args:
        ids: of the devices, by resource name.
        environment: variables that say so to libraries.
    """
    _assigned.update(ids)
    os.environ.update(environment)


def assigned_devices(resource: str) -> list[str]:
    """The ids of the devices that the running task or actor has; none in the driver."""
    return list(_assigned.get(resource, ()))
