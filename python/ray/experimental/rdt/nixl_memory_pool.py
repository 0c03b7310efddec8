"""Memory that is registered with NIXL once, and given out in blocks."""

from __future__ import annotations

import threading
from typing import Any, NamedTuple

from ray.experimental.rdt.tensors import (
    Memory,
    element_size,
    empty_tensors,
    memory_of,
    slot_in,
)


class NixlOutOfMemoryError(RuntimeError):
    """The memory pool has no room for the tensors of an object."""


class MemoryBlock(NamedTuple):
    """A piece of the pool, in bytes."""

    offset: int
    size: int


class MemoryPoolManager:
    """A piece of memory whose blocks belong to objects. Threads: any.

    Args:
        pool_size: in bytes.
        device: where: "cpu", "cuda:0" or a torch.device.

    Raises:
        ValueError: no positive size.
    """

    def __init__(self, pool_size: int, device: Any) -> None:
        if pool_size <= 0:
            raise ValueError(f"A memory pool has a positive size, not {pool_size} bytes.")
        self._pool = _bytes_on(pool_size, device)
        self._lock = threading.Lock()
        self._free = [MemoryBlock(0, pool_size)]  # by offset; no two touch
        self._taken: dict[str, list[MemoryBlock]] = {}

    def get_pool_tensor(self) -> Any:
        """All of the pool, as a tensor of bytes."""
        return self._pool

    def allocate_group(self, obj_id: str, tensors: list[Any]) -> list[Any]:
        """Copies the tensors of an object into the pool: into one block if there is one that is
        large enough, else each into its own.

        Returns:
            The copies, in the same order.

        Raises:
            NixlOutOfMemoryError: there is no room. The pool is as before.
        """
        sizes = [(memory_of(tensor).nbytes, element_size(tensor)) for tensor in tensors]
        with self._lock:
            offsets, blocks = self._place_together(sizes) or self._place_apart(sizes)
            self._taken.setdefault(obj_id, []).extend(blocks)
        return [slot_in(self._pool, offset, tensor) for offset, tensor in zip(offsets, tensors)]

    def free_object(self, obj_id: str) -> None:
        """Takes back the blocks of an object, if it has any."""
        with self._lock:
            for block in self._taken.pop(obj_id, []):
                self._give_back(block)

    def _place_together(
        self, sizes: list[tuple[int, int]]
    ) -> tuple[list[int], list[MemoryBlock]] | None:
        for index, free in enumerate(self._free):
            offsets, end = _pack(free.offset, sizes)
            if end <= free.offset + free.size:
                self._take(index, end - free.offset)
                return offsets, [MemoryBlock(free.offset, end - free.offset)]
        return None

    def _place_apart(self, sizes: list[tuple[int, int]]) -> tuple[list[int], list[MemoryBlock]]:
        offsets: list[int] = []
        blocks: list[MemoryBlock] = []
        for size in sizes:
            placed = self._place_together([size]) if len(sizes) > 1 else None
            if placed is None:
                for block in blocks:
                    self._give_back(block)
                raise NixlOutOfMemoryError(
                    f"The NIXL memory pool has no room for {sum(nbytes for nbytes, _ in sizes)}"
                    f" bytes: {sum(free.size for free in self._free)} are free, in"
                    f" {len(self._free)} pieces. Make it larger (register_nixl_memory_pool), or"
                    " drop references to objects that are not needed any more."
                )
            offsets += placed[0]
            blocks += placed[1]
        return offsets, blocks

    def _take(self, index: int, size: int) -> None:
        free = self._free[index]
        rest = MemoryBlock(free.offset + size, free.size - size)
        self._free[index : index + 1] = [rest] if rest.size else []

    def _give_back(self, block: MemoryBlock) -> None:
        joined: list[MemoryBlock] = []
        for free in sorted([*self._free, block]):
            if joined and joined[-1].offset + joined[-1].size == free.offset:
                joined[-1] = MemoryBlock(joined[-1].offset, joined[-1].size + free.size)
            else:
                joined.append(free)
        self._free = joined


def _pack(start: int, sizes: list[tuple[int, int]]) -> tuple[list[int], int]:
    """Where tensors lie that are packed one behind the other, and where the last one ends. Each
    begins at a multiple of its element size."""
    offsets = []
    for nbytes, alignment in sizes:
        start += -start % alignment
        offsets.append(start)
        start += nbytes
    return offsets, start


def _bytes_on(size: int, device: Any) -> Any:
    if type(device).__module__ == "torch":
        import torch  # type: ignore[import-not-found,unused-ignore]

        return torch.empty(size, dtype=torch.uint8, device=device)
    import numpy

    return empty_tensors([((size,), numpy.dtype(numpy.uint8))], str(device))[0]


def covers(whole: Memory, part: Memory) -> bool:
    """Whether a piece of memory lies within another."""
    return (
        whole.device == part.device
        and whole.device_index == part.device_index
        and whole.address <= part.address
        and part.address + part.nbytes <= whole.address + whole.nbytes
    )
