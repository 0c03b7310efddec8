"""Direct transport in this process: tensors kept for others, and tensors brought from others."""

from __future__ import annotations

import atexit
import itertools
import logging
import os
import threading
import weakref
from typing import TYPE_CHECKING, Any, NamedTuple

from ray._raylet import ObjectRef, ReadyQueue
from ray._runtime import RUNTIME
from ray.exceptions import ActorDiedError, GetTimeoutError, RayDirectTransportError, RayError
from ray.experimental.rdt.direct_objects import Description, Source, describing, keep_tensors
from ray.experimental.rdt.rdt_store import KeptObject, RDTStore
from ray.experimental.rdt.tensors import check_target, copy_into, device_kind, empty_tensors
from ray.experimental.rdt.transports import OBJECT_STORE, TRANSPORTS

if TYPE_CHECKING:
    from ray._raylet import Core
    from ray.actor import ActorHandle
    from ray.experimental.rdt.tensor_transport_manager import (
        CommunicatorMetadata,
        FetchRequest,
        TensorTransportManager,
        TensorTransportMetadata,
    )

_logger = logging.getLogger(__name__)

# While a transfer runs its source is looked at this often.
_LOOK_S = 0.5
# When a transfer has failed its source is asked for a sign of life: a busy actor gives none so
# soon, a dead one at once.
_SIGN_OF_LIFE_S = 1.0
# An owner that is not heard of for this long has the object not ready: it answers once it is.
_OWNER_ANSWERS_S = 0.5


def _is_own(ref: ObjectRef[Any]) -> bool:
    """Whether this process owns the object."""
    return RUNTIME.require().worker_id in ref.owner_address()


def _patience_for(ref: ObjectRef[Any]) -> float:
    """How long to wait for the owner's answer, in seconds."""
    return 0 if _is_own(ref) else _OWNER_ANSWERS_S


class Target(NamedTuple):
    """Where the tensors of an object are to be received: one of both."""

    buffers: list[Any] | None = None
    device: str | None = None

    def allocate(self, description: Description) -> list[Any]:
        """The buffers, new ones for a device.

        Raises:
            ValueError: the tensors do not fit, or there is no such device.
        """
        layout = description.metadata.tensor_meta
        if self.buffers is None:
            return empty_tensors(layout, str(self.device))
        check_target(f"the tensors of ObjectRef({description.obj_id})", layout, self.buffers)
        return self.buffers


class RDTManager:
    """What this process knows of objects whose tensors travel directly. There is one, MANAGER.

    Threads: any. The first tensors that are kept start a daemon thread, which lets them go when
    nobody refers to them, and gives them to those who want them through the object store.
    """

    def __init__(self) -> None:
        self._begin()
        # What a transport holds is not for a child of this process to end.
        os.register_at_fork(after_in_child=self._begin)

    def _begin(self) -> None:
        self._lock = threading.Lock()
        self._store = RDTStore()
        self._queue: ReadyQueue | None = None
        self._numbers = itertools.count(1)
        # What the numbers in the queue stand for: the object whose tensors they are, and the
        # deferred object by which others refer to them.
        self._deferred: dict[int, tuple[str, bytes]] = {}
        self._targets: dict[str, Target] = {}
        # Of objects whose tensors travel directly, as far as this process made or called for them.
        self._transports: dict[str, str] = {}
        self._refs: weakref.WeakValueDictionary[str, ObjectRef[Any]] = weakref.WeakValueDictionary()

    # -- references

    @property
    def rdt_store(self) -> RDTStore:
        """The tensors that this process keeps for others."""
        return self._store

    def add_rdt_ref(
        self,
        obj_ref: ObjectRef[Any],
        src_actor: ActorHandle[Any] | None,
        tensor_transport: str,
        tensor_transport_meta: TensorTransportMetadata | None = None,
    ) -> None:
        """Notes that the tensors of an object travel directly, while ``obj_ref`` lives.

        Args:
            obj_ref: the reference.
            src_actor: not needed: the object itself says where its tensors are.
            tensor_transport: the name.
            tensor_transport_meta: not needed, likewise.
        """
        obj_id = obj_ref.hex()
        self._transports[obj_id] = tensor_transport
        self._refs[obj_id] = obj_ref
        weakref.finalize(obj_ref, self._forget, obj_id).atexit = False

    def is_managed_object(self, obj_id: str) -> bool:
        """Whether the tensors of an object are known here to travel directly.

        Args:
            obj_id: in hex, as everywhere here.
        """
        return obj_id in self._transports or self._store.has_object(obj_id)

    def transport_of(self, ref: ObjectRef[Any]) -> str | None:
        """The name of the transport of an object's tensors; None: it has none, or that is not known
        before it is ready. Its owner is asked, if that is another process.

        Args:
            ref: the object.
        """
        name = self._transports.get(ref.hex())
        if name is not None:
            return name
        description = self._describe(ref, _patience_for(ref))
        return None if description is None else description.transport

    def get_rdt_metadata(self, obj_id: str) -> TensorTransportMetadata | None:
        """What the transport needs to know of tensors that are kept here; None: there are none.

        Args:
            obj_id: in hex.
        """
        kept = self._store.get_object(obj_id)
        return None if kept is None else kept.metadata

    def wait_for_tensor_transport_metadata(
        self, obj_id: str, timeout: float
    ) -> TensorTransportMetadata | None:
        """As ``get_rdt_metadata``, also of tensors of other processes, for objects that this
        process has called for. Blocks until the object is ready.

        Args:
            obj_id: in hex.
            timeout: in seconds, at most.

        Returns:
            None: it is not ready in time, or has no tensors.
        """
        ref = self._refs.get(obj_id)
        description = None if ref is None else self._describe(ref, timeout)
        return self.get_rdt_metadata(obj_id) if description is None else description.metadata

    # -- at the source

    @staticmethod
    def actor_has_tensor_transport(actor: ActorHandle[Any], tensor_transport: str) -> bool:
        """Whether an actor can use a transport. The transport is asked, which may ask the actor.

        Args:
            actor: a handle.
            tensor_transport: its name, in capitals.
        """
        return TRANSPORTS.manager(tensor_transport).actor_has_tensor_transport(actor)

    def put(self, value: Any, tensor_transport: str) -> ObjectRef[Any]:
        """As ``ray.put(value, _tensor_transport=)``.

        Args:
            value: with tensors, somewhere.
            tensor_transport: by name.

        Raises:
            ValueError: the transport is unknown, or does not serve the device of a tensor.
        """
        core = RUNTIME.require()
        transport = TRANSPORTS.check_name(tensor_transport)
        if transport == OBJECT_STORE:
            return core.put(value)
        TRANSPORTS.publish()
        ref = core.defer(None)  # Its id is needed before its value.
        core.fulfil(ref.binary(), keep_tensors(value, transport, ref.hex()))
        self.add_rdt_ref(ref, None, transport)
        return ref

    def put_object(
        self, obj_ref: ObjectRef[Any], tensor_transport: str, tensors: list[Any]
    ) -> ObjectRef[Any]:
        """Keeps tensors as those of an object of this process.

        Args:
            obj_ref: the object.
            tensor_transport: a name, in capitals.
            tensors: of the transport's data type.

        Returns:
            What others refer to them by; they are let go when nobody does.
        """
        return self.keep(obj_ref.hex(), tensor_transport, tensors)[1]

    def keep(
        self, obj_id: str, transport: str, tensors: list[Any]
    ) -> tuple[TensorTransportMetadata, ObjectRef[Any]]:
        """Keeps tensors until nobody refers to them.

        Args:
            obj_id: the object that they are part of, in hex. If it is kept already its method has
                run again, and those tensors are let go.
            transport: a name, in capitals.
            tensors: of the transport's data type.

        Returns:
            What the transport needs to know to bring them, and a reference to them: an object of
            this process whose value, a list of them, is made when somebody asks for it.

        Raises:
            ValueError: a tensor is on a device that the transport does not serve.
        """
        _check_devices(transport, tensors)
        self.free_object_primary_copy(obj_id)
        manager, number = TRANSPORTS.manager(transport), next(self._numbers)
        metadata = manager.extract_tensor_transport_metadata(obj_id, tensors)
        self._store.add_object(obj_id, KeptObject(tensors, transport, metadata, number))
        tensors_ref = RUNTIME.require().defer(self._started(), 2 * number, 2 * number + 1)
        self._deferred[number] = obj_id, tensors_ref.binary()
        return metadata, tensors_ref

    def free_object_primary_copy(self, object_id: str) -> None:
        """Lets the tensors of an object go now, whoever refers to them. Does nothing if they are
        not kept here.

        Args:
            object_id: in hex.
        """
        kept = self._store.pop_object(object_id)
        if kept is not None:
            self._let_go(object_id, kept)

    def shutdown(self) -> None:
        """Lets all tensors go and forgets what it knows: the session ends, and with it all
        references."""
        for known in (self._deferred, self._targets, self._transports):
            known.clear()
        for obj_id in self._store.ids():
            try:
                self.free_object_primary_copy(obj_id)
            except Exception:
                _logger.exception("The transport did not let the tensors of %s go", obj_id)

    # -- at the receiver

    def set_target_buffers_for_ref(self, ref: ObjectRef[Any], target_buffers: list[Any]) -> None:
        """As ``ray.experimental.set_target_for_ref``.

        Args:
            ref: the object.
            target_buffers: one for each of its tensors.

        Raises:
            TypeError, ValueError: likewise.
        """
        if not isinstance(target_buffers, list):
            raise TypeError(f"The target must be a list, not {type(target_buffers).__name__}.")
        self._set_target(ref, Target(buffers=target_buffers))

    def set_target_device_for_ref(self, ref: ObjectRef[Any], target_device: str) -> None:
        """As ``ray.experimental.set_target_device_for_ref``.

        Args:
            ref: the object.
            target_device: such as "cpu", "cuda:0".

        Raises:
            TypeError, ValueError: likewise.
        """
        if not isinstance(target_device, str):
            raise TypeError(f"A device is named by a string, not {target_device!r}.")
        self._set_target(ref, Target(device=target_device))

    def get_rdt_objects(self, object_ids: list[str]) -> dict[str, list[Any]]:
        """The tensors of those of the objects that are kept here, by id.

        Args:
            object_ids: in hex.
        """
        kept = {obj_id: self._store.get_object(obj_id) for obj_id in object_ids}
        return {obj_id: found.tensors for obj_id, found in kept.items() if found is not None}

    def fetch_and_get_rdt_objects(
        self, object_ids: list[str], timeout: float | None = None, use_object_store: bool = False
    ) -> dict[str, list[Any]]:
        """The tensors of objects that are kept here, or that this process has called for, by id.

        Args:
            object_ids: in hex, of objects whose tensors travel directly.
            timeout: how long to wait for each object to be ready, in seconds. None: without limit.
            use_object_store: bring them through the object store.

        Raises:
            ValueError: one is not known here, is not ready in time, or has no tensors.
            Exception: as of ``bring``.
        """
        found = self.get_rdt_objects(object_ids)
        for obj_id in object_ids:
            if obj_id in found:
                continue
            ref = self._refs.get(obj_id)
            description = None if ref is None else self._describe(ref, timeout)
            if description is None:
                raise ValueError(f"ObjectRef({obj_id}) is not ready here, or has no tensors.")
            found[obj_id] = self.bring(description, use_object_store)
        return found

    def bring(self, description: Description, through_store: bool) -> list[Any]:
        """The tensors of an object: those kept here themselves, or else copies of those elsewhere.

        Args:
            description: what came in their place.
            through_store: not by the transport, but through the object store.

        Raises:
            ValueError: they do not fit the target that was set.
            ActorDiedError: the actor that had them is dead.
            RayDirectTransportError: it was restarted, or this process does not know the transport.
            Exception: what the transport raises.
        """
        kept = self._store.get_object(description.obj_id)
        if kept is not None:
            return kept.tensors
        target = self._targets.pop(description.obj_id, None)
        buffers = None if target is None else target.allocate(description)
        try:
            if not through_store:
                return _Transfer(description, buffers).run()
            tensors: list[Any] = RUNTIME.require().get_one(description.tensors_ref, None)
            return tensors if buffers is None else copy_into(buffers, tensors)
        except Exception as error:
            loss = _loss_of(description)
            if loss is None:
                raise
            raise loss from error

    # -- its own

    def _started(self) -> ReadyQueue:
        with self._lock:
            if self._queue is None:
                self._queue = ReadyQueue()
                threading.Thread(
                    target=self._serve, args=(self._queue,), name="ray_tensors", daemon=True
                ).start()
                atexit.register(self.shutdown)  # What a transport holds may outlive the process.
            return self._queue

    def _serve(self, queue: ReadyQueue) -> None:
        while tokens := queue.wait():
            for token in tokens:
                try:
                    self._handle(*divmod(token, 2))
                except Exception:
                    _logger.exception("Tensors could not be given, or let go")

    def _handle(self, number: int, is_gone: int) -> None:
        if is_gone:
            deferred = self._deferred.pop(number, None)
            kept = None if deferred is None else self._store.pop_object(deferred[0], number)
            if deferred is not None and kept is not None:
                self._let_go(deferred[0], kept)
            return
        core, deferred = RUNTIME.core, self._deferred.get(number)
        if core is not None and deferred is not None:
            self._give(core, *deferred)

    def _give(self, core: Core, obj_id: str, deferred_id: bytes) -> None:
        """Makes the value of a deferred object, for the object store."""
        kept = self._store.get_object(obj_id)
        try:
            if kept is None:
                raise RayDirectTransportError(f"The tensors of ObjectRef({obj_id}) were freed.")
            core.fulfil(deferred_id, kept.tensors)
        except Exception as error:
            failure = RayDirectTransportError(
                f"The tensors of ObjectRef({obj_id}) cannot be put into the object store: {error}"
            )
            core.fulfil(deferred_id, failure, is_error=True)

    def _let_go(self, obj_id: str, kept: KeptObject) -> None:
        TRANSPORTS.manager(kept.transport).garbage_collect(obj_id, kept.metadata, kept.tensors)

    def _forget(self, obj_id: str) -> None:
        self._transports.pop(obj_id, None)
        self._targets.pop(obj_id, None)

    def _set_target(self, ref: ObjectRef[Any], target: Target) -> None:
        if not isinstance(ref, ObjectRef):
            raise TypeError(f"The first argument must be an ObjectRef, not {type(ref).__name__}.")
        if not self._may_have_tensors(ref):
            raise ValueError(
                f"{ref} has no tensors that travel directly: it comes neither from a method with"
                " tensor_transport nor from ray.put(_tensor_transport=)."
            )
        self._targets[ref.hex()] = target

    def _may_have_tensors(self, ref: ObjectRef[Any]) -> bool:
        """Whether the object has tensors that travel directly, or nobody knows yet."""
        core = RUNTIME.require()
        if ref.hex() in self._transports:
            return True
        if core.wait([ref], 1, _patience_for(ref), False)[0]:
            return self._describe(ref, 0) is not None
        return not _is_own(ref)  # Who owns it would know.

    @staticmethod
    def _describe(ref: ObjectRef[Any], timeout: float | None) -> Description | None:
        """What is known of the object's tensors; None: it has none that travel directly, is an
        error, or is not ready in time."""
        with describing():
            try:
                value = RUNTIME.require().get_one(ref, timeout)
            except (GetTimeoutError, RayError):
                return None
        return value if isinstance(value, Description) else None


# ------------------------------------------------------------------------------------------------
# transfers


class _Transfer:
    """One transfer to this process. Threads: the one that made it."""

    def __init__(self, description: Description, buffers: list[Any] | None) -> None:
        self._description = description
        self._buffers = buffers
        self._manager: TensorTransportManager = TRANSPORTS.manager(description.transport)
        self._communicator: CommunicatorMetadata = self._manager.get_communicator_metadata(
            _handle_of(description.source), _handle_of(Source.here()), description.transport
        )

    def run(self) -> list[Any]:
        """Blocks until the tensors are here. Raises what the transport raises, and
        RayDirectTransportError if the source dies meanwhile."""
        obj_id, metadata = self._description.obj_id, self._description.metadata
        request = self._manager.fetch_multiple_tensors(
            obj_id, metadata, self._communicator, self._buffers
        )
        while True:
            try:
                return self._manager.wait_fetch_complete(request, _LOOK_S)
            except TimeoutError:
                self._look_at_source(request)

    def _look_at_source(self, request: FetchRequest) -> None:
        source = self._description.source
        if source is None:
            return
        if RUNTIME.require().actor_client(source.actor_id).state() not in ("DEAD", "RESTARTING"):
            return
        if self._manager.can_abort_transport():
            self._manager.abort_transport(request.obj_id, self._communicator)
        raise RayDirectTransportError(
            f"Actor {source.actor_id.hex()} died while the transport {self._description.transport}"
            f" brought the tensors of ObjectRef({request.obj_id}) from it."
        )


def _handle_of(source: Source | None) -> Any:
    from ray.actor import rebuild_handle

    return None if source is None else rebuild_handle(source.actor_id, source.handle_blob, None)


def _incarnation(actor: Any) -> int:
    """Runs in an actor."""
    assert RUNTIME.actor is not None
    return RUNTIME.actor["num_restarts"]


def _loss_of(description: Description) -> RayError | None:
    """Why the tensors are gone with their source; None: they are there, or nobody knows."""
    source = description.source
    if source is None:
        return None
    asked = _handle_of(source).__ray_call__.remote(_incarnation)
    try:
        if RUNTIME.require().get_one(asked, _SIGN_OF_LIFE_S) == source.num_restarts:
            return None
    except ActorDiedError as death:
        return death
    except RayError:
        return None
    return RayDirectTransportError(
        f"The tensors of ObjectRef({description.obj_id}) are lost: the actor"
        f" {source.actor_id.hex()}, which had them, was restarted."
    )


def _check_devices(transport: str, tensors: list[Any]) -> None:
    devices = TRANSPORTS.require(transport).devices
    for kind in {device_kind(tensor) for tensor in tensors}:
        if kind is not None and kind not in devices:
            raise ValueError(
                f"The tensor transport {transport} takes tensors on {', '.join(devices)}, but one"
                f" is on {kind}."
            )


MANAGER = RDTManager()
RUNTIME.at_session_end.append(MANAGER.shutdown)


# ------------------------------------------------------------------------------------------------
# what programs call


def set_target_for_ref(ref: ObjectRef[Any], target: list[Any]) -> None:
    """Sets the tensors that the next ``ray.get`` of an object in this process receives into.

    Where the tensors are kept in this process itself, ``ray.get`` gives those and leaves the target
    as it is.

    Args:
        ref: of an object whose tensors travel directly.
        target: one tensor for each of the object's, in the order in which they lie in the value, of
            the same shape and dtype. Replaces a target that was set before.

    Raises:
        ValueError: the object has no such tensors; as far as that is known before it is ready.
            ``ray.get`` raises it if the tensors do not fit.
        TypeError: arguments of wrong types.
    """
    MANAGER.set_target_buffers_for_ref(ref, target)


def set_target_device_for_ref(ref: ObjectRef[Any], target_device: str) -> None:
    """Sets the device that the next ``ray.get`` of an object in this process brings its tensors to.

    Args:
        ref: of an object whose tensors travel directly.
        target_device: such as "cpu" or "cuda:0". Replaces a target that was set before.

    Raises:
        ValueError: as for ``set_target_for_ref``.
        TypeError: arguments of wrong types.
    """
    MANAGER.set_target_device_for_ref(ref, target_device)


def wait_tensor_freed(tensor: Any, timeout: float | None = None) -> None:
    """Blocks until nobody refers to objects of this process that the tensor is part of, so that it
    may be written to again.

    Args:
        tensor: the very tensor that a method with ``tensor_transport`` has returned, or that was
            put. Any other is free.
        timeout: in seconds, at most. None: without limit.

    Raises:
        TimeoutError: somebody still refers to it.
    """
    MANAGER.rdt_store.wait_tensor_freed(tensor, timeout)
