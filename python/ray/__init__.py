"""Manta: a runtime for programs written against Ray. The interface is that of Ray; ``__version__``
says which."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from ray import _async_refs, _raylet
from ray._cluster import available_resources, cluster_resources, nodes
from ray._generators import DynamicObjectRefGenerator, ObjectRefGenerator
from ray._ids import (
    ActorClassID,
    ActorID,
    FunctionID,
    JobID,
    NodeID,
    PlacementGroupID,
    TaskID,
    UniqueID,
    WorkerID,
)
from ray._language import Language
from ray._operations import cancel, get, get_actor, kill, put, remote, wait
from ray._raylet import ObjectRef
from ray._serialization import PythonHooks
from ray._version import MANTA_VERSION as __manta_version__
from ray._version import RAY_VERSION as __version__

if TYPE_CHECKING:
    from ray import actor, cloudpickle, exceptions, util
    from ray._logging_config import LoggingConfig
    from ray._session import init, is_initialized, shutdown
    from ray._timeline import timeline
    from ray.actor import method
    from ray.cross_language import java_actor_class, java_function
    from ray.runtime_context import get_gpu_ids, get_runtime_context

# The name of references before Ray 1.0; programs still use it.
ObjectID = ObjectRef

# Kinds of processes.
SCRIPT_MODE = 0
WORKER_MODE = 1

# Loaded when a program first uses them.
_LAZY_MODULES = (
    "actor",
    "api",
    "cloudpickle",
    "cross_language",
    "dag",
    "exceptions",
    "experimental",
    "job_config",
    "remote_function",
    "runtime_context",
    "runtime_env",
    "types",
    "util",
)
_LAZY_NAMES = {
    "LoggingConfig": "_logging_config",
    "get_gpu_ids": "runtime_context",
    "get_runtime_context": "runtime_context",
    "init": "_session",
    "is_initialized": "_session",
    "java_actor_class": "cross_language",
    "java_function": "cross_language",
    "method": "actor",
    "shutdown": "_session",
    "timeline": "_timeline",
}

__all__ = [
    "ActorClassID",
    "ActorID",
    "DynamicObjectRefGenerator",
    "FunctionID",
    "JobID",
    "Language",
    "LoggingConfig",
    "NodeID",
    "ObjectID",
    "ObjectRef",
    "ObjectRefGenerator",
    "PlacementGroupID",
    "SCRIPT_MODE",
    "TaskID",
    "UniqueID",
    "WORKER_MODE",
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
    "java_actor_class",
    "java_function",
    "kill",
    "method",
    "nodes",
    "put",
    "remote",
    "shutdown",
    "timeline",
    "util",
    "wait",
]

_raylet.set_hooks(PythonHooks())
_async_refs.install()


def __getattr__(name: str) -> Any:
    if name in _LAZY_MODULES:
        return importlib.import_module(f"ray.{name}")
    if name in _LAZY_NAMES:
        value = getattr(importlib.import_module(f"ray.{_LAZY_NAMES[name]}"), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'ray' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY_MODULES, *_LAZY_NAMES})
