"""Tensor transports of numpy arrays through shared memory, for tests and measurements."""

import os
import pathlib
import time
import uuid
from dataclasses import dataclass, field
from multiprocessing import resource_tracker, shared_memory

import numpy as np

from ray.experimental import (
    CommunicatorMetadata,
    TensorTransportManager,
    TensorTransportMetadata,
    register_tensor_transport,
)

NAME = "shared_memory"
FOLDER = pathlib.Path("/dev/shm")


@dataclass
class SharedMemoryMetadata(TensorTransportMetadata):
    names: list[str] = field(default_factory=list)


def _open(name, size=None):
    memory = shared_memory.SharedMemory(name, create=size is not None, size=max(size or 0, 1))
    # The transport itself unlinks it; the tracker would when the first process ends.
    resource_tracker.unregister(memory._name, "shared_memory")
    return memory


class SharedMemoryTransport(TensorTransportManager):
    """Each array is copied into a piece of shared memory, which receivers map. What it is asked to
    do is written to the file that the environment variable TRANSPORT_LOG names."""

    def __init__(self):
        self._held = {}

    def tensor_transport_backend(self):
        return NAME.upper()

    @staticmethod
    def is_one_sided():
        return True

    @staticmethod
    def can_abort_transport():
        return True

    def actor_has_tensor_transport(self, actor):
        return True

    def extract_tensor_transport_metadata(self, obj_id, rdt_object):
        note("extract", obj_id, len(rdt_object))
        held = self._held[obj_id] = []
        for array in rdt_object:
            memory = _open(f"{prefix()}{uuid.uuid4().hex}", array.nbytes)
            np.ndarray(array.shape, array.dtype, memory.buf)[...] = array
            held.append(memory)
        return SharedMemoryMetadata(
            [(array.shape, array.dtype) for array in rdt_object], "cpu", [m.name for m in held]
        )

    def get_communicator_metadata(self, src_actor, dst_actor, backend=None):
        note("communicator", src_actor, dst_actor, backend)
        return CommunicatorMetadata()

    def recv_multiple_tensors(
        self, obj_id, tensor_transport_metadata, communicator_metadata, target_buffers=None
    ):
        note("receive", obj_id)
        arrays = []
        metadata = tensor_transport_metadata
        for index, ((shape, dtype), name) in enumerate(zip(metadata.tensor_meta, metadata.names)):
            memory = _open(name)
            array = np.empty(shape, dtype) if target_buffers is None else target_buffers[index]
            array[...] = np.ndarray(shape, dtype, memory.buf)
            memory.close()
            arrays.append(array)
        return arrays

    def send_multiple_tensors(self, *arguments):
        raise NotImplementedError

    def garbage_collect(self, obj_id, tensor_transport_meta, tensors):
        note("collect", obj_id, len(tensors))
        for memory in self._held.pop(obj_id):
            memory.close()
            (FOLDER / memory.name).unlink()

    def abort_transport(self, obj_id, communicator_metadata):
        note("abort", obj_id)


class CutWire(SharedMemoryTransport):
    """Nothing arrives."""

    def recv_multiple_tensors(self, *arguments):
        raise ConnectionError("the wire is cut")


class SlowWire(SharedMemoryTransport):
    """Never done, but does not block."""

    def fetch_multiple_tensors(self, obj_id, *arguments):
        from ray.experimental.rdt.tensor_transport_manager import FetchRequest

        return FetchRequest(obj_id, [])

    def wait_fetch_complete(self, fetch_request, timeout=-1):
        time.sleep(min(timeout, 0.05))
        raise TimeoutError("still on its way")


def prefix():
    """Of the names of all memory of a run, by which what killed actors have left is found."""
    return os.environ.get("TRANSPORT_PREFIX", "ray_test_")


def clean_up():
    """Removes what killed processes have left."""
    for path in FOLDER.glob(f"{prefix()}*"):
        path.unlink()


def note(*what):
    path = os.environ.get("TRANSPORT_LOG")
    if path:
        with open(path, "a") as file:
            print(os.getpid(), *what, file=file)


def notes(path):
    """What all processes wrote: lists of words."""
    text = pathlib.Path(path).read_text() if pathlib.Path(path).exists() else ""
    return [line.split() for line in text.splitlines()]


def register():
    """Makes them known; once a process."""
    register_tensor_transport(NAME, ["cpu"], SharedMemoryTransport, np.ndarray)
    register_tensor_transport("cut_wire", ["cpu"], CutWire, np.ndarray)
    register_tensor_transport("slow_wire", ["cpu"], SlowWire, np.ndarray)
    register_tensor_transport("gpus_only", ["cuda"], SharedMemoryTransport, np.ndarray)
