"""Interfaces that may change."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from ray.experimental import internal_kv
from ray.experimental.dynamic_resources import set_resource
from ray.experimental.locations import get_local_object_locations, get_object_locations

if TYPE_CHECKING:
    from ray.experimental.rdt import (
        CommunicatorMetadata,
        RDTManager,
        TensorTransportManager,
        TensorTransportMetadata,
        deregister_nixl_memory,
        register_nixl_memory,
        register_nixl_memory_pool,
        register_tensor_transport,
        set_nixl_cuda_stream,
        set_target_device_for_ref,
        set_target_for_ref,
        wait_tensor_freed,
    )

__all__ = [
    "CommunicatorMetadata",
    "RDTManager",
    "TensorTransportManager",
    "TensorTransportMetadata",
    "deregister_nixl_memory",
    "get_local_object_locations",
    "get_object_locations",
    "internal_kv",
    "register_nixl_memory",
    "register_nixl_memory_pool",
    "register_tensor_transport",
    "set_nixl_cuda_stream",
    "set_resource",
    "set_target_device_for_ref",
    "set_target_for_ref",
    "wait_tensor_freed",
]


def __getattr__(name: str) -> Any:
    # Direct transport is loaded when a program first uses it.
    if name in __all__:
        return getattr(importlib.import_module("ray.experimental.rdt"), name)
    raise AttributeError(f"module 'ray.experimental' has no attribute {name!r}")
