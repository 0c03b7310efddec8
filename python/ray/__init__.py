"""Manta: a runtime for programs written against Ray. The interface is that of Ray; ``__version__``
says which."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from ray import _async_refs, _raylet
from ray._cluster import available_resources, cluster_resources, nodes
from ray._operations import cancel, get, get_actor, kill, put, remote, wait
from ray._raylet import (
    ActorID,
    JobID,
    NodeID,
    ObjectRef,
    PlacementGroupID,
    TaskID,
    UniqueID,
    WorkerID,
)
from ray._serialization import PythonHooks
from ray._session import init, is_initialized, shutdown
from ray._version import MANTA_VERSION as __manta_version__
from ray._version import RAY_VERSION as __version__
from ray.actor import method
from ray.runtime_context import get_gpu_ids, get_runtime_context

if TYPE_CHECKING:
    from ray import actor, cloudpickle, exceptions, util

# The name of references before Ray 1.0; programs still use it.
ObjectID = ObjectRef

# Loaded when a program first uses them.
_LAZY_MODULES = ("api", "cloudpickle", "types", "util")

__all__ = [
    "ActorID",
    "JobID",
    "NodeID",
    "ObjectID",
    "ObjectRef",
    "PlacementGroupID",
    "TaskID",
    "UniqueID",
    "WorkerID",
    "__manta_version__",
    "__version__",
    "actor",
    "available_resources",
    "cancel",
    "cloudpickle",
    "cluster_resources",
    "exceptions",
    "get",
    "get_actor",
    "get_gpu_ids",
    "get_runtime_context",
    "init",
    "is_initialized",
    "kill",
    "method",
    "nodes",
    "put",
    "remote",
    "shutdown",
    "util",
    "wait",
]

_raylet.set_hooks(PythonHooks())
_async_refs.install()


def __getattr__(name: str) -> Any:
    if name in _LAZY_MODULES:
        return importlib.import_module(f"ray.{name}")
    raise AttributeError(f"module 'ray' has no attribute {name!r}")
