"""The tensors that this process holds for others."""

from __future__ import annotations

import threading
from typing import Any, NamedTuple

from ray.experimental.rdt.tensor_transport_manager import TensorTransportMetadata


class KeptObject(NamedTuple):
    """The tensors of one object."""

    tensors: list[Any]
    transport: str
    metadata: TensorTransportMetadata
    number: int  # no other object of this process has it, nor the same object when made again


class RDTStore:
    """Tensors by the hex id of the object that they are part of. Threads: any; only
    ``wait_tensor_freed`` blocks."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._objects: dict[str, KeptObject] = {}

    def add_object(self, obj_id: str, kept: KeptObject) -> None:
        """Keeps the tensors of an object.

        Args:
            obj_id: an object that is not kept here yet.
            kept: its tensors.
        """
        with self._changed:
            self._objects[obj_id] = kept

    def has_object(self, obj_id: str) -> bool:
        """Whether tensors of the object are kept here."""
        return obj_id in self._objects

    def get_object(self, obj_id: str) -> KeptObject | None:
        """The tensors of an object; None: not kept here."""
        return self._objects.get(obj_id)

    def pop_object(self, obj_id: str, number: int | None = None) -> KeptObject | None:
        """Lets the tensors of an object go and returns them; None: not kept here.

        Args:
            obj_id: the object.
            number: only if they have this number. None: in any case.
        """
        with self._changed:
            kept = self._objects.get(obj_id)
            if kept is None or number not in (None, kept.number):
                return None
            del self._objects[obj_id]
            self._changed.notify_all()
            return kept

    def has_tensor(self, tensor: Any) -> bool:
        """Whether that very tensor is part of an object that is kept here."""
        return any(
            kept is tensor for object_ in list(self._objects.values()) for kept in object_.tensors
        )

    def get_num_objects(self) -> int:
        """How many objects are kept here."""
        return len(self._objects)

    def ids(self) -> list[str]:
        """The objects that are kept here."""
        return list(self._objects)

    def wait_tensor_freed(self, tensor: Any, timeout: float | None) -> None:
        """As ``ray.experimental.wait_tensor_freed``."""
        with self._changed:
            if not self._changed.wait_for(lambda: not self.has_tensor(tensor), timeout):
                raise TimeoutError(
                    f"The tensor is still part of an object that is referred to, after {timeout} s."
                )
