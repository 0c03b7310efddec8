"""Values whose tensors stay where they were made: how they are taken apart, travel and are put
together.

What travels in the place of such a value is a DirectObject: the value with numbers in the places of
its tensors, what the transport needs to bring them, and a reference to the tensors themselves. That
reference is an object of the source which has no value until somebody asks for it. So the tensors
live as long as anybody refers to the value, by the same counts as everything else; and whoever asks
for that object gets them through the object store.
"""

from __future__ import annotations

import contextlib
import functools
import io
import pickle
import threading
import types
from collections.abc import Callable, Coroutine, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from ray import _raylet
from ray._runtime import RUNTIME
from ray._serialization import PassedOnError
from ray._value_pickler import ValuePickler
from ray.runtime_context import CURRENT_CALL

if TYPE_CHECKING:
    from ray._raylet import ObjectRef
    from ray.experimental.rdt.tensor_transport_manager import TensorTransportMetadata


class Source(NamedTuple):
    """The actor that has the tensors."""

    actor_id: bytes
    handle_blob: bytes
    num_restarts: int  # of the incarnation that has them

    @classmethod
    def here(cls) -> Source | None:
        """The actor that this process is; None: none."""
        actor = RUNTIME.actor
        if actor is None:
            return None
        return cls(actor["actor_id"], actor["handle_blob"], actor["num_restarts"])


class Description(NamedTuple):
    """What a receiver has to know of an object to bring its tensors."""

    obj_id: str  # hex
    transport: str
    metadata: TensorTransportMetadata
    tensors_ref: ObjectRef[list[Any]]
    source: Source | None  # None: not an actor


class SplitValue(NamedTuple):
    """A value without its tensors."""

    pickled: bytes
    buffers: list[pickle.PickleBuffer]
    refs: list[ObjectRef[Any]]  # those inside ``pickled``
    tensors: list[Any]  # each once


class DirectObject:
    """Is pickled in the place of a value that was taken apart, and becomes that value again when it
    is unpickled."""

    def __init__(self, description: Description, value: SplitValue) -> None:
        self._description = description
        self._value = value

    def __reduce__(self) -> tuple[Any, ...]:
        # As a buffer: what has buffers is unpickled once only, also if that fails. The references
        # are named so that they are seen to be inside.
        value = self._value
        pickled = pickle.PickleBuffer(value.pickled)
        return receive, (self._description, pickled, value.buffers, value.refs)


class _Splitter(ValuePickler):
    """Pickles a value and puts numbers in the places of its tensors."""

    def __init__(self, file: io.BytesIO, tensor_types: tuple[type, ...], **options: Any) -> None:
        super().__init__(file, protocol=5, **options)
        self._tensor_types = tensor_types
        self._numbers: dict[int, int] = {}  # by id() of the tensor
        self.tensors: list[Any] = []

    def persistent_id(self, value: Any) -> int | None:
        # Not instances of subclasses, which a transport would not bring back as such.
        if type(value) not in self._tensor_types:
            return None
        if id(value) not in self._numbers:
            self._numbers[id(value)] = len(self.tensors)
            self.tensors.append(value)
        return self._numbers[id(value)]


class _Joiner(pickle.Unpickler):
    """The inverse."""

    def __init__(self, pickled: Any, buffers: list[Any], tensors: list[Any]) -> None:
        super().__init__(io.BytesIO(pickled), buffers=buffers)
        self._tensors = tensors

    def persistent_load(self, pid: Any) -> Any:
        return self._tensors[pid]


def split(value: Any, tensor_types: tuple[type, ...]) -> SplitValue:
    """Takes the tensors out of a value.

    Args:
        value: anything that can be pickled.
        tensor_types: instances of exactly these classes are tensors.

    Raises:
        Exception: the rest of it cannot be pickled.
    """
    buffers: list[pickle.PickleBuffer] = []
    _raylet.begin_collecting_refs()
    try:
        with io.BytesIO() as file:
            splitter = _Splitter(file, tensor_types, buffer_callback=buffers.append)
            splitter.dump(value)
            pickled = file.getvalue()
    finally:
        refs = _raylet.end_collecting_refs()
    return SplitValue(pickled, buffers, refs, splitter.tensors)


# ------------------------------------------------------------------------------------------------
# at the source


def keep_tensors(value: Any, transport: str, obj_id: str) -> Any:
    """What is to be pickled in the place of ``value``, as the object ``obj_id``. The tensors inside
    are kept in this process. A value without tensors stays as it is.

    Raises:
        ValueError: a tensor is on a device that the transport does not serve.
        RayDirectTransportError: this process does not know the transport, or it refuses.
    """
    from ray.experimental.rdt.rdt_manager import MANAGER
    from ray.experimental.rdt.transports import TRANSPORTS

    parts = split(value, TRANSPORTS.require(transport).tensor_types())
    if not parts.tensors:
        return value
    metadata, tensors_ref = MANAGER.keep(obj_id, transport, parts.tensors)
    description = Description(obj_id, transport, metadata, tensors_ref, Source.here())
    return DirectObject(description, parts)


def returning_directly(method: Callable[..., Any], transport: str) -> Callable[..., Any]:
    """The method of this actor, with the tensors of its results kept here."""

    @functools.wraps(method)
    def call(*args: Any, **kwargs: Any) -> Any:
        obj_id = _result_id()
        value = method(*args, **kwargs)
        if isinstance(value, types.CoroutineType):  # The actor's event loop awaits it.
            return _keep_when_done(value, transport, obj_id)
        return keep_tensors(value, transport, obj_id)

    return call


async def _keep_when_done(result: Coroutine[Any, Any, Any], transport: str, obj_id: str) -> Any:
    return keep_tensors(await result, transport, obj_id)


def _result_id() -> str:
    """Of what the running call returns: the task's id, then the number 1."""
    call = CURRENT_CALL.get()
    task_id: bytes = (
        call.task_id if call is not None else RUNTIME.require().current_task()["task_id"]
    )
    return (task_id + (1).to_bytes(4, "little")).hex()


# ------------------------------------------------------------------------------------------------
# at the receiver


class _Way(threading.local):
    """How this thread wants tensors now."""

    through_store = False
    describe = False


_WAY = _Way()


@contextlib.contextmanager
def through_object_store() -> Iterator[None]:
    """What this thread unpickles meanwhile gets its tensors through the object store."""
    _WAY.through_store, before = True, _WAY.through_store
    try:
        yield
    finally:
        _WAY.through_store = before


@contextlib.contextmanager
def describing() -> Iterator[None]:
    """What this thread unpickles meanwhile gets no tensors, but is a Description."""
    _WAY.describe, before = True, _WAY.describe
    try:
        yield
    finally:
        _WAY.describe = before


def receive(
    description: Description, pickled: Any, buffers: list[Any], refs: list[ObjectRef[Any]]
) -> Any:
    """What a pickled DirectObject becomes: the value with its tensors, brought here by the
    transport.

    Raises:
        PassedOnError: of why they cannot be brought.
    """
    if _WAY.describe:
        return description
    from ray.experimental.rdt.rdt_manager import MANAGER

    try:
        tensors = MANAGER.bring(description, _WAY.through_store)
    except Exception as error:
        raise PassedOnError(error) from error
    return _Joiner(pickled, buffers, tensors).load()
