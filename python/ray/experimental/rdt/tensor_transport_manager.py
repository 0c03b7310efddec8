"""What a tensor transport implements: how tensors get from the process that made them to another.

Source: https://docs.ray.io/en/master/ray-core/direct-transport/custom-tensor-transport.html, and
what the classes of Ray 2.60 have as members.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ray.actor import ActorHandle


@dataclass
class CommunicatorMetadata:
    """What both sides of a transfer have to know of each other. Transports derive their own from
    it; one-sided ones often need nothing."""


@dataclass
class TensorTransportMetadata:
    """What travels with an object in the place of its tensors. Transports derive their own from it,
    with whatever the receiver needs to bring the tensors. Must be picklable.

    Args:
        tensor_meta: shape and dtype of each tensor, in order.
        tensor_device: where they are: "cpu", "cuda". All tensors of an object are on devices of one
            kind.
    """

    tensor_meta: list[tuple[Any, Any]]
    tensor_device: str | None = None


@dataclass
class FetchRequest:
    """A transfer that was begun. Transports that do not block in ``fetch_multiple_tensors`` derive
    their own from it; what it holds should be released when it is dropped, as nobody may wait for
    it.

    Args:
        obj_id: the object, in hex.
        tensors: what has been received.
    """

    obj_id: str
    tensors: list[Any]


class TensorTransportManager(ABC):
    """The interface of a tensor transport; ``ray.experimental.register_tensor_transport`` makes one
    known. Each process that sends or receives has one instance, made without arguments when it is
    first needed.

    An object's id is a string of hex digits. Methods may be called from any thread, several at
    once.
    """

    @abstractmethod
    def tensor_transport_backend(self) -> str:
        """The name of the transport, as it was registered."""

    @staticmethod
    @abstractmethod
    def is_one_sided() -> bool:
        """Whether the receiver alone moves the tensors, so that the source need not take part. Only
        such transports are supported so far."""

    @staticmethod
    @abstractmethod
    def can_abort_transport() -> bool:
        """Whether ``abort_transport`` may be called while a transfer runs."""

    @abstractmethod
    def actor_has_tensor_transport(self, actor: ActorHandle[Any]) -> bool:
        """Whether an actor can use the transport. Called in the process that first calls a method
        of it with this transport; it may ask the actor.

        Args:
            actor: a handle.
        """

    @abstractmethod
    def extract_tensor_transport_metadata(
        self, obj_id: str, rdt_object: list[Any]
    ) -> TensorTransportMetadata:
        """Makes tensors ready to be fetched. Called at the source, as soon as the method that made
        them has returned.

        Args:
            obj_id: the object they are part of.
            rdt_object: the tensors, each once. They are kept until ``garbage_collect``.

        Returns:
            What a receiver is given.
        """

    @abstractmethod
    def get_communicator_metadata(
        self, src_actor: ActorHandle[Any], dst_actor: ActorHandle[Any], backend: str | None = None
    ) -> CommunicatorMetadata:
        """What source and receiver have to know of each other; called before a transfer.

        Args:
            src_actor: the actor that has the tensors; None for a driver.
            dst_actor: the actor that receives them; None for a driver or task.
            backend: the name of the transport.
        """

    @abstractmethod
    def recv_multiple_tensors(
        self,
        obj_id: str,
        tensor_transport_metadata: TensorTransportMetadata,
        communicator_metadata: CommunicatorMetadata,
        target_buffers: list[Any] | None = None,
    ) -> list[Any]:
        """Brings the tensors of an object. Called at the receiver; blocks until they are here.

        Args:
            obj_id: the object.
            tensor_transport_metadata: what ``extract_tensor_transport_metadata`` gave.
            communicator_metadata: what ``get_communicator_metadata`` gave.
            target_buffers: tensors to receive into, one for each; None: allocate new ones.

        Returns:
            The tensors, in their order. They belong to the caller.

        Raises:
            Exception: any; ``ray.get`` raises it as it is, unless the source is dead.
        """

    @abstractmethod
    def send_multiple_tensors(
        self,
        tensors: list[Any],
        tensor_transport_metadata: TensorTransportMetadata,
        communicator_metadata: CommunicatorMetadata,
    ) -> None:
        """Sends tensors to the receiver. Never called for a one-sided transport.

        Args:
            tensors: the tensors of an object.
            tensor_transport_metadata: what ``extract_tensor_transport_metadata`` gave.
            communicator_metadata: what ``get_communicator_metadata`` gave.
        """

    @abstractmethod
    def garbage_collect(
        self, obj_id: str, tensor_transport_meta: TensorTransportMetadata, tensors: list[Any]
    ) -> None:
        """Releases what ``extract_tensor_transport_metadata`` took. Called once, at the source,
        when no reference to the object is left anywhere.

        Args:
            obj_id: the object.
            tensor_transport_meta: what ``extract_tensor_transport_metadata`` gave.
            tensors: its tensors.
        """

    @abstractmethod
    def abort_transport(self, obj_id: str, communicator_metadata: CommunicatorMetadata) -> None:
        """Ends a transfer under way, at the receiver: its source has died. Only called if
        ``can_abort_transport``.

        Args:
            obj_id: the object.
            communicator_metadata: what ``get_communicator_metadata`` gave.
        """

    def fetch_multiple_tensors(
        self,
        obj_id: str,
        tensor_transport_metadata: TensorTransportMetadata,
        communicator_metadata: CommunicatorMetadata,
        target_buffers: list[Any] | None = None,
    ) -> FetchRequest:
        """Begins a transfer. A transport that need not block overrides this and
        ``wait_fetch_complete``; by default the tensors are received here.

        Args:
            obj_id: as of ``recv_multiple_tensors``.
            tensor_transport_metadata: likewise.
            communicator_metadata: likewise.
            target_buffers: likewise.

        Returns:
            What ``wait_fetch_complete`` is to be given.
        """
        tensors = self.recv_multiple_tensors(
            obj_id, tensor_transport_metadata, communicator_metadata, target_buffers
        )
        return FetchRequest(obj_id, tensors)

    def wait_fetch_complete(self, fetch_request: FetchRequest, timeout: float = -1) -> list[Any]:
        """Waits for a transfer that was begun.

        Args:
            fetch_request: what ``fetch_multiple_tensors`` gave.
            timeout: in seconds, at most; -1: without limit; 0: does not wait.

        Returns:
            The tensors, in their order.

        Raises:
            TimeoutError: they are not here in time. It may be called again.
        """
        return fetch_request.tensors
