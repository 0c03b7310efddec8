"""Tensors by NIXL, NVIDIA's library for transfers from memory to memory: RDMA, NVLink, shared
memory, TCP, of GPUs and CPUs. Needs the package ``nixl`` where tensors are sent and received.

Source: https://docs.nvidia.com/nixl; https://docs.ray.io/en/latest/ray-core/direct-transport.html.
"""

from __future__ import annotations

import importlib
import os
import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from ray._runtime import RUNTIME
from ray.experimental.rdt.nixl_memory_pool import MemoryPoolManager, covers
from ray.experimental.rdt.tensor_transport_manager import (
    CommunicatorMetadata,
    FetchRequest,
    TensorTransportManager,
    TensorTransportMetadata,
)
from ray.experimental.rdt.tensors import (
    CUDA,
    Memory,
    device_kind,
    empty_tensors,
    layout_of,
    memory_of,
    storage_of,
)
from ray.experimental.rdt.transports import TRANSPORTS

_NAME = "NIXL"
# How many sources are remembered; those heard of least recently are forgotten first.
_REMOTES_MAX = int(os.environ.get("RAY_NIXL_REMOTE_AGENT_CACHE_MAXSIZE", "1000"))
# Between two looks at a transfer: short at first, as most of them are, then longer.
_LOOK_FIRST_S, _LOOK_LONGEST_S = 20e-6, 1e-3


class NixlNotInstalledError(ImportError):
    """The package ``nixl`` cannot be imported in this process."""


@dataclass
class NixlCommunicatorMetadata(CommunicatorMetadata):
    """Empty: the receiver needs only what the source says with the tensors."""


@dataclass
class NixlTransportMetadata(TensorTransportMetadata):
    """What a receiver needs to read tensors.

    Args:
        nixl_serialized_descs: where they lie, as NIXL writes it. None: none has any bytes.
        nixl_agent_meta: how the source is reached, and what memory it has registered.
        nixl_agent_name: the source.
        nixl_agent_meta_version: grows whenever ``nixl_agent_meta`` of this source changes.
    """

    nixl_serialized_descs: bytes | None = None
    nixl_agent_meta: bytes | None = None
    nixl_agent_name: str | None = None
    nixl_agent_meta_version: int = 0


class _Registrations:
    """Memory that is registered with the agent, with the number of those who need it. Threads: the
    caller's lock."""

    def __init__(self, agent: Any) -> None:
        self._agent = agent
        self._held: dict[Memory, tuple[Any, int]] = {}
        self.version = 0  # grows with what is registered

    def hold(self, tensor: Any) -> Memory:
        """Has the memory of a tensor registered; returns what to release."""
        region = self.find(tensor)
        if region is None:
            region = storage_of(tensor)
            entry = (region.address, region.nbytes, region.device_index, "")
            self._held[region] = self._agent.register_memory([entry], mem_type=region.device), 0
            self.version += 1
        descs, count = self._held[region]
        self._held[region] = descs, count + 1
        return region

    def find(self, tensor: Any) -> Memory | None:
        """What is registered and has the memory of a tensor inside; None: nothing."""
        wanted = memory_of(tensor)
        return next((known for known in list(self._held) if covers(known, wanted)), None)

    def release(self, regions: Iterable[Memory]) -> None:
        for region in regions:
            descs, count = self._held.pop(region)
            if count > 1:
                self._held[region] = descs, count - 1
            else:
                self._agent.deregister_memory(descs)
                self.version += 1


class _Remote:
    """A source, as the agent knows it."""

    def __init__(self, newest: NixlTransportMetadata) -> None:
        self.newest = newest  # that was heard of
        self.version = -1  # of what the agent knows
        self.reading = 0  # transfers under way
        self.users = 0  # those, and others that wait to begin


class _Remotes:
    """The sources that the agent knows. Threads: the caller's condition, which is notified when a
    transfer ends."""

    def __init__(self, agent: Any, changed: threading.Condition) -> None:
        self._agent = agent
        self._changed = changed
        self._known: OrderedDict[str, _Remote] = OrderedDict()

    def begin(self, metadata: NixlTransportMetadata) -> str:
        """Begins a transfer from a source, and lets the agent know that as it was heard of last;
        blocks for transfers that began before that. Returns its name."""
        name = str(metadata.nixl_agent_name)
        remote = self._known.setdefault(name, _Remote(metadata))
        self._known.move_to_end(name)
        if remote.newest.nixl_agent_meta_version < metadata.nixl_agent_meta_version:
            remote.newest = metadata
        remote.users += 1
        try:
            while remote.version < remote.newest.nixl_agent_meta_version and remote.reading:
                self._changed.wait()
            if remote.version < remote.newest.nixl_agent_meta_version:
                self._meet(name, remote)
        except BaseException:
            remote.users -= 1
            raise
        remote.reading += 1
        return name

    def end(self, name: str) -> None:
        """Ends a transfer from a source."""
        remote = self._known[name]
        remote.reading -= 1
        remote.users -= 1
        idle = [known for known, other in self._known.items() if not other.users]
        for old in idle[: max(0, len(self._known) - _REMOTES_MAX)]:
            self._agent.remove_remote_agent(old)
            del self._known[old]
        self._changed.notify_all()

    def _meet(self, name: str, remote: _Remote) -> None:
        if remote.version >= 0:
            self._agent.remove_remote_agent(name)
            remote.version = -1
        self._agent.add_remote_agent(remote.newest.nixl_agent_meta)
        remote.version = remote.newest.nixl_agent_meta_version


class NixlFetchRequest(FetchRequest):
    """A transfer under way; what it holds is released with it."""

    def __init__(self, obj_id: str, tensors: list[Any], agent: _Agent) -> None:
        super().__init__(obj_id, tensors)
        self.agent = agent
        self.regions: list[Memory] = []
        self.remote: str | None = None
        self.handle: Any = None

    def release(self) -> None:
        """Gives back what the transfer held. Idempotent."""
        with self.agent.changed:
            if self.handle is not None:
                self.agent.nixl.release_xfer_handle(self.handle)
                self.handle = None
            if self.remote is not None:
                self.agent.remotes.end(self.remote)
                self.remote = None
            self.agent.registrations.release(self.regions)
            self.regions = []

    def __del__(self) -> None:
        self.release()


class _Agent:
    """This process's NIXL agent and what it knows. Threads: any; ``changed`` guards all."""

    def __init__(self) -> None:
        self.name = f"{RUNTIME.require().worker_id.hex()}-{os.getpid()}"
        make, configure = _import_nixl()
        self.nixl = make(self.name, configure(backends=["UCX"]))
        # Reentrant: a request may be dropped, and released, by the garbage collector at any time.
        self.changed = threading.Condition(threading.RLock())
        self.registrations = _Registrations(self.nixl)
        self.remotes = _Remotes(self.nixl, self.changed)

    def descriptors(self, tensors: list[Any]) -> Any:
        """Where tensors lie, as NIXL takes it."""
        pieces = [memory_of(tensor) for tensor in tensors]
        entries = [(piece.address, piece.nbytes, piece.device_index) for piece in pieces]
        return self.nixl.get_xfer_descs(entries, mem_type=pieces[0].device)


def _import_nixl() -> tuple[Any, Any]:
    for module in ("nixl", "nixl._api"):
        try:
            found = importlib.import_module(module)
            return found.nixl_agent, found.nixl_agent_config
        except AttributeError:
            continue
        except ImportError as error:
            raise NixlNotInstalledError(
                f"The tensor transport nixl needs the package nixl, which cannot be imported"
                f" ({error}). Install it on all nodes that send or receive tensors (pip install"
                " nixl), or in the job's runtime_env."
            ) from error
    raise NixlNotInstalledError("The package nixl has no nixl_agent; a newer version is needed.")


class NixlTensorTransport(TensorTransportManager):
    """The transport "nixl". The receiver reads from the source's memory; the source takes no part.

    It can be registered once more, by another name, for arrays of numpy or cupy.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._agent: _Agent | None = None
        self._stream: Any = None
        self._pools: list[tuple[MemoryPoolManager, Memory]] = []
        self._held: dict[str, list[Memory]] = {}  # by object
        self._pinned: list[Memory] = []  # by register_nixl_memory

    def tensor_transport_backend(self) -> str:
        """See TensorTransportManager."""
        return _NAME

    @staticmethod
    def is_one_sided() -> bool:
        """See TensorTransportManager."""
        return True

    @staticmethod
    def can_abort_transport() -> bool:
        """See TensorTransportManager."""
        return False  # Dropping the request does.

    def actor_has_tensor_transport(self, actor: Any) -> bool:
        """True: an actor without the package says so in the call that needs it."""
        return True

    # -- settings of this process

    def register_nixl_memory(self, tensor: Any) -> None:
        """As ``ray.experimental.register_nixl_memory``."""
        agent = self._started()
        with agent.changed:
            self._pinned.append(agent.registrations.hold(tensor))

    def deregister_nixl_memory(self, tensor: Any) -> None:
        """As ``ray.experimental.deregister_nixl_memory``."""
        agent = self._started()
        with agent.changed:
            region = agent.registrations.find(tensor)
            if region not in self._pinned:
                raise ValueError("The memory of this tensor was not registered with NIXL.")
            self._pinned.remove(region)
            agent.registrations.release([region])

    def register_nixl_memory_pool(self, size: int, device: Any) -> None:
        """As ``ray.experimental.register_nixl_memory_pool``."""
        pool = MemoryPoolManager(size, device)
        whole = memory_of(pool.get_pool_tensor())
        self.register_nixl_memory(pool.get_pool_tensor())
        self._pools.append((pool, whole))

    def set_cuda_stream(self, stream: Any) -> None:
        """As ``ray.experimental.set_nixl_cuda_stream``."""
        self._stream = stream

    # -- at the source

    def extract_tensor_transport_metadata(
        self, obj_id: str, rdt_object: list[Any]
    ) -> NixlTransportMetadata:
        """See TensorTransportManager."""
        kinds = {device_kind(tensor) for tensor in rdt_object}
        if len(kinds) > 1:
            raise ValueError(
                f"All tensors of an object must be on one kind of device, not {kinds}."
            )
        self._synchronize(rdt_object)
        metadata = NixlTransportMetadata(layout_of(rdt_object), kinds.pop() if kinds else None)
        try:
            self._offer(obj_id, [tensor for tensor in rdt_object if _has_bytes(tensor)], metadata)
        except BaseException:
            self.garbage_collect(obj_id, metadata, rdt_object)
            raise
        return metadata

    def _offer(self, obj_id: str, tensors: list[Any], metadata: NixlTransportMetadata) -> None:
        agent = self._started()
        tensors = self._in_pool(obj_id, tensors)
        with agent.changed:
            held = self._held.setdefault(obj_id, [])
            for tensor in tensors:
                held.append(agent.registrations.hold(tensor))
            if tensors:
                descriptors = agent.descriptors(tensors)
                metadata.nixl_serialized_descs = agent.nixl.get_serialized_descs(descriptors)
            metadata.nixl_agent_name = agent.name
            metadata.nixl_agent_meta = agent.nixl.get_agent_metadata()
            metadata.nixl_agent_meta_version = agent.registrations.version

    def garbage_collect(
        self, obj_id: str, tensor_transport_meta: TensorTransportMetadata, tensors: list[Any]
    ) -> None:
        """See TensorTransportManager."""
        agent = self._started()
        with agent.changed:
            agent.registrations.release(self._held.pop(obj_id, []))
        for pool, _ in self._pools:
            pool.free_object(obj_id)

    def send_multiple_tensors(
        self,
        tensors: list[Any],
        tensor_transport_metadata: TensorTransportMetadata,
        communicator_metadata: CommunicatorMetadata,
    ) -> None:
        """Raises NotImplementedError: the receiver reads."""
        raise NotImplementedError("NIXL is one-sided: the receiver reads the tensors.")

    # -- at the receiver

    def get_communicator_metadata(
        self, src_actor: Any, dst_actor: Any, backend: str | None = None
    ) -> NixlCommunicatorMetadata:
        """See TensorTransportManager."""
        return NixlCommunicatorMetadata()

    def fetch_multiple_tensors(
        self,
        obj_id: str,
        tensor_transport_metadata: TensorTransportMetadata,
        communicator_metadata: CommunicatorMetadata,
        target_buffers: list[Any] | None = None,
    ) -> NixlFetchRequest:
        """See TensorTransportManager."""
        metadata = tensor_transport_metadata
        assert isinstance(metadata, NixlTransportMetadata)
        buffers = target_buffers
        if buffers is None:
            buffers = empty_tensors(metadata.tensor_meta, metadata.tensor_device or "cpu")
        agent = self._started()
        request = NixlFetchRequest(obj_id, buffers, agent)
        if metadata.nixl_serialized_descs is None:
            return request
        into = [tensor for tensor in buffers if _has_bytes(tensor)]
        with agent.changed:
            for tensor in into:
                request.regions.append(agent.registrations.hold(tensor))
            request.remote = agent.remotes.begin(metadata)
            request.handle = agent.nixl.initialize_xfer(
                "READ",
                agent.descriptors(into),
                agent.nixl.deserialize_descs(metadata.nixl_serialized_descs),
                request.remote,
                obj_id.encode(),
            )
            state = agent.nixl.transfer(request.handle)
        _check(state, obj_id)
        return request

    def wait_fetch_complete(self, fetch_request: FetchRequest, timeout: float = -1) -> list[Any]:
        """See TensorTransportManager."""
        assert isinstance(fetch_request, NixlFetchRequest)
        deadline = None if timeout < 0 else time.monotonic() + timeout
        pause = _LOOK_FIRST_S
        while fetch_request.handle is not None:
            with fetch_request.agent.changed:
                state = fetch_request.agent.nixl.check_xfer_state(fetch_request.handle)
            _check(state, fetch_request.obj_id)
            if state == "DONE":
                break
            if deadline is not None and time.monotonic() >= deadline:
                raise TimeoutError(f"NIXL has not read the tensors in {timeout} s.")
            time.sleep(pause)
            pause = min(2 * pause, _LOOK_LONGEST_S)
        fetch_request.release()
        return fetch_request.tensors

    def recv_multiple_tensors(
        self,
        obj_id: str,
        tensor_transport_metadata: TensorTransportMetadata,
        communicator_metadata: CommunicatorMetadata,
        target_buffers: list[Any] | None = None,
    ) -> list[Any]:
        """See TensorTransportManager."""
        return self.wait_fetch_complete(
            self.fetch_multiple_tensors(
                obj_id, tensor_transport_metadata, communicator_metadata, target_buffers
            )
        )

    def abort_transport(self, obj_id: str, communicator_metadata: CommunicatorMetadata) -> None:
        """Nothing to do: a transfer ends with its request."""

    # -- its own

    def _started(self) -> _Agent:
        with self._lock:
            if self._agent is None:
                self._agent = _Agent()
            return self._agent

    def _in_pool(self, obj_id: str, tensors: list[Any]) -> list[Any]:
        """Copies in a pool of the tensors' device; the tensors themselves if there is none."""
        for pool, whole in self._pools:
            pieces = [memory_of(tensor) for tensor in tensors]
            same = all(
                (piece.device, piece.device_index) == (whole.device, whole.device_index)
                for piece in pieces
            )
            if pieces and same:
                return pool.allocate_group(obj_id, tensors)
        return tensors

    def _synchronize(self, tensors: list[Any]) -> None:
        """What computes the tensors is done after this."""
        if self._stream is not None:
            self._stream.synchronize()
            return
        for device in {memory_of(tensor).device_index for tensor in tensors if _on_cuda(tensor)}:
            _synchronize_device(device)


def _on_cuda(tensor: Any) -> bool:
    return device_kind(tensor) == CUDA


def _has_bytes(tensor: Any) -> bool:
    return memory_of(tensor).nbytes > 0


def _synchronize_device(index: int) -> None:
    torch, cupy = sys.modules.get("torch"), sys.modules.get("cupy")
    if torch is not None:
        torch.cuda.synchronize(index)
    if cupy is not None:
        cupy.cuda.Device(index).synchronize()


def _check(state: str, obj_id: str) -> None:
    if state not in ("DONE", "PROC"):
        raise RuntimeError(f"NIXL reports the state {state} of the transfer of {obj_id}.")


# ------------------------------------------------------------------------------------------------
# what programs call


def _transport() -> NixlTensorTransport:
    manager = TRANSPORTS.manager(_NAME)
    assert isinstance(manager, NixlTensorTransport)
    return manager


def register_nixl_memory(tensor: Any) -> None:
    """Registers the memory of a tensor with NIXL for good, or until ``deregister_nixl_memory``.

    Otherwise memory is registered with each object and deregistered when that goes. A tensor that
    becomes part of many objects is cheaper so; views of it count as the same memory.

    Args:
        tensor: of torch, or of cupy or numpy.

    Raises:
        ImportError: the package ``nixl`` is missing.
        TypeError: no tensor.
    """
    _transport().register_nixl_memory(tensor)


def deregister_nixl_memory(tensor: Any) -> None:
    """Takes one ``register_nixl_memory`` of a tensor's memory back. It stays registered while
    objects need it.

    Args:
        tensor: the tensor, or a view of it.

    Raises:
        ValueError: it was not registered.
        ImportError, TypeError: as for ``register_nixl_memory``.
    """
    _transport().deregister_nixl_memory(tensor)


def register_nixl_memory_pool(size: int, device: Any) -> None:
    """Allocates memory that is registered with NIXL once. Tensors on that device that are put, or
    returned, from then on are copied into it, and no memory of theirs is registered.

    So what is put is a snapshot. An object's part of the pool is free again when nobody refers to
    the object.

    Args:
        size: in bytes.
        device: a torch.device, or its name: "cpu", "cuda:0".

    Raises:
        ValueError: no positive size, or no such device.
        ImportError: as for ``register_nixl_memory``.
        NixlOutOfMemoryError: later, by ``ray.put`` and methods: the pool has no room.
    """
    _transport().register_nixl_memory_pool(size, device)


def set_nixl_cuda_stream(stream: Any) -> None:
    """Sets the CUDA stream that is waited for before tensors of this process are offered.

    By default all work on their device is waited for. It holds for all tensors from then on.

    Args:
        stream: a ``torch.cuda.Stream`` or ``cupy.cuda.Stream``; None: all work on the device.

    Raises:
        TypeError: it cannot be waited for.
    """
    if stream is not None and not callable(getattr(stream, "synchronize", None)):
        raise TypeError(f"A CUDA stream is needed, or None, not {type(stream).__name__}.")
    _transport().set_cuda_stream(stream)
