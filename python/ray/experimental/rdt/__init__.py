"""Direct transport: tensors go from the actor that made them to the actor that wants them, without
the object store (docs/direct_transport.md in the repository).

A method declared with ``@ray.method(tensor_transport="...")`` leaves the tensors of its result in
its actor's process. What travels is everything else. Whoever gets the result, as an argument or by
``ray.get``, has the transport bring the tensors; the actor that made them gets the very same. They
are let go when nobody refers to the result any more.

Source: https://docs.ray.io/en/latest/ray-core/direct-transport.html.
"""

from ray.experimental.rdt.nixl_tensor_transport import (
    deregister_nixl_memory,
    register_nixl_memory,
    register_nixl_memory_pool,
    set_nixl_cuda_stream,
)
from ray.experimental.rdt.rdt_manager import (
    RDTManager,
    set_target_device_for_ref,
    set_target_for_ref,
    wait_tensor_freed,
)
from ray.experimental.rdt.tensor_transport_manager import (
    CommunicatorMetadata,
    TensorTransportManager,
    TensorTransportMetadata,
)
from ray.experimental.rdt.transports import register_tensor_transport

__all__ = [
    "CommunicatorMetadata",
    "RDTManager",
    "TensorTransportManager",
    "TensorTransportMetadata",
    "deregister_nixl_memory",
    "register_nixl_memory",
    "register_nixl_memory_pool",
    "register_tensor_transport",
    "set_nixl_cuda_stream",
    "set_target_device_for_ref",
    "set_target_for_ref",
    "wait_tensor_freed",
]
