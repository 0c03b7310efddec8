"""What is asked of tensors, whatever library they come from: torch, numpy, cupy, or any class that
has ``shape`` and ``dtype``.

No library is imported that the program has not imported itself, or whose tensors are asked for.
"""

from __future__ import annotations

from typing import Any, NamedTuple

CPU = "cpu"
CUDA = "cuda"


class Memory(NamedTuple):
    """Where a tensor lies: one piece of memory."""

    address: int
    nbytes: int
    device: str  # kind: "cpu" or "cuda"
    device_index: int  # 0 for "cpu"


def device_kind(tensor: Any) -> str | None:
    """The kind of device that a tensor is on: "cpu", "cuda"; None if it does not say."""
    device = getattr(tensor, "device", None)
    if device is None or isinstance(device, str):
        return None if device is None else device.partition(":")[0]
    if type(tensor).__module__.partition(".")[0] == "cupy":
        return CUDA
    kind = getattr(device, "type", None)
    return kind if isinstance(kind, str) else None


def memory_of(tensor: Any) -> Memory:
    """Where a tensor lies.

    Raises:
        ValueError: it is not contiguous, so that it is not one piece.
        TypeError: that cannot be told of this class.
    """
    kind = device_kind(tensor) or CPU
    if hasattr(tensor, "data_ptr"):  # torch
        _require_contiguous(tensor, tensor.is_contiguous())
        index = tensor.get_device() if kind != CPU else 0
        return Memory(tensor.data_ptr(), tensor.numel() * tensor.element_size(), kind, index)
    if hasattr(tensor, "__cuda_array_interface__"):  # cupy and others
        _require_contiguous(tensor, tensor.flags.c_contiguous)
        address, _ = tensor.__cuda_array_interface__["data"]
        return Memory(address, tensor.nbytes, CUDA, int(tensor.device.id))
    if hasattr(tensor, "__array_interface__"):  # numpy
        _require_contiguous(tensor, tensor.flags.c_contiguous)
        address, _ = tensor.__array_interface__["data"]
        return Memory(address, tensor.nbytes, CPU, 0)
    raise TypeError(
        f"Where a {type(tensor).__name__} lies in memory cannot be told. Tensors of torch, cupy and"
        " numpy are supported."
    )


def _require_contiguous(tensor: Any, is_contiguous: bool) -> None:
    if not is_contiguous:
        raise ValueError(
            f"A tensor of shape {tuple(tensor.shape)} is not contiguous in memory and cannot be"
            " moved as one piece. Make it so first, by tensor.contiguous() or"
            " numpy.ascontiguousarray."
        )


def element_size(tensor: Any) -> int:
    """Bytes of each element."""
    size: int = tensor.element_size() if hasattr(tensor, "element_size") else tensor.itemsize
    return size


def layout_of(tensors: list[Any]) -> list[tuple[Any, Any]]:
    """Shape and dtype of each."""
    return [(tuple(tensor.shape), tensor.dtype) for tensor in tensors]


def empty_tensors(layout: list[tuple[Any, Any]], device: str) -> list[Any]:
    """New tensors, not initialised, of the library that the dtypes are of.

    Args:
        layout: shape and dtype of each.
        device: such as "cpu", "cuda", "cuda:1".

    Raises:
        ValueError: the library has no such device.
    """
    return [_empty(shape, dtype, device) for shape, dtype in layout]


def _empty(shape: Any, dtype: Any, device: str) -> Any:
    if type(dtype).__module__ == "torch":
        import torch  # type: ignore[import-not-found]

        return torch.empty(tuple(shape), dtype=dtype, device=device)
    kind, _, index = device.partition(":")
    if kind == CPU:
        import numpy

        return numpy.empty(shape, dtype)
    if kind == CUDA:
        import cupy  # type: ignore[import-not-found]

        with cupy.cuda.Device(int(index or 0)):
            return cupy.empty(shape, dtype)
    raise ValueError(f"There is no device {device!r} for tensors of dtype {dtype}.")


def copy_into(buffers: list[Any], tensors: list[Any]) -> list[Any]:
    """Copies each tensor into its buffer. Returns the buffers."""
    for buffer, tensor in zip(buffers, tensors, strict=True):
        if hasattr(buffer, "copy_"):  # torch
            buffer.copy_(tensor)
        elif hasattr(buffer, "set") and not hasattr(tensor, "__cuda_array_interface__"):  # cupy
            buffer.set(tensor)
        else:
            buffer[...] = tensor
    return buffers


def check_target(what: str, layout: list[tuple[Any, Any]], buffers: list[Any]) -> None:
    """Checks that tensors fit the buffers.

    Args:
        what: the tensors, for the message.
        layout: shape and dtype of each tensor.
        buffers: what they are to be received into.

    Raises:
        ValueError: they do not; it says which.
    """
    if len(buffers) != len(layout):
        raise ValueError(f"There are {len(buffers)} target buffers for {len(layout)} of {what}.")
    for index, ((shape, dtype), buffer) in enumerate(zip(layout, buffers)):
        if tuple(buffer.shape) == tuple(shape) and buffer.dtype == dtype:
            continue
        raise ValueError(
            f"The target buffer {index} has shape {tuple(buffer.shape)} and dtype {buffer.dtype},"
            f" but number {index} of {what} has shape {tuple(shape)} and dtype {dtype}."
        )


def storage_of(tensor: Any) -> Memory:
    """The whole piece of memory that a tensor of torch, perhaps a view, is part of; of other
    libraries the tensor's own."""
    own = memory_of(tensor)
    if not hasattr(tensor, "untyped_storage"):
        return own
    storage = tensor.untyped_storage()
    return own._replace(address=storage.data_ptr(), nbytes=storage.nbytes())


def slot_in(pool: Any, offset: int, tensor: Any) -> Any:
    """Copies a tensor into a pool of bytes of its library, at an offset; returns the copy."""
    nbytes = memory_of(tensor).nbytes
    slot = pool[offset : offset + nbytes].view(tensor.dtype).reshape(tensor.shape)
    return copy_into([slot], [tensor])[0]
