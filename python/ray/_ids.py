"""The ids of jobs, actors, tasks, nodes and so on. Immutable bytes with Ray's layout: an id ends
with the id of what it belongs to (a task's with its actor's, which ends with its job's).

Source: the sizes that Ray 2.60 prints; names as in ``ray``'s public interface.
"""

from __future__ import annotations

import builtins
import os
from typing import Any, ClassVar, TypeVar

Id = TypeVar("Id", bound="BaseID")

_NIL_BYTE = b"\xff"


def _digest(size: int, *parts: bytes) -> bytes:
    """The same bytes for the same parts, as good as unique."""
    import hashlib  # Loads OpenSSL; few programs make such ids.

    return hashlib.blake2b(b"".join(parts), digest_size=size).digest()


class BaseID:
    """What all ids can do. Compares and hashes by type and bytes.

    Args:
        binary: ``SIZE`` bytes.

    Raises:
        ValueError: another number of bytes.
        TypeError: no bytes.

    >>> import ray
    >>> ray.JobID.from_int(1).hex()
    '01000000'
    """

    SIZE: ClassVar[int] = 28
    __slots__ = ("_binary",)

    def __init__(self, binary: bytes) -> None:
        if not isinstance(binary, bytes):
            raise TypeError(f"An id is made of bytes, not of {type(binary).__name__}.")
        if len(binary) != self.SIZE:
            raise ValueError(f"{type(self).__name__} takes {self.SIZE} bytes, not {len(binary)}")
        self._binary = binary

    @classmethod
    def from_binary(cls: type[Id], id_bytes: bytes) -> Id:
        """The id of these bytes, as the constructor makes it.

        Args:
            id_bytes: ``SIZE`` bytes.
        """
        return cls(id_bytes)

    @classmethod
    def from_hex(cls: type[Id], hex_id: str) -> Id:
        """The inverse of ``hex``.

        Args:
            hex_id: two hex digits a byte.

        Raises:
            ValueError: not the hex form of such an id.
        """
        try:
            return cls(bytes.fromhex(hex_id))
        except ValueError:
            raise ValueError(f"{hex_id!r} is no hex form of a {cls.__name__}") from None

    @classmethod
    def from_random(cls: type[Id]) -> Id:
        """A new id."""
        return cls(os.urandom(cls.SIZE))

    @classmethod
    def nil(cls: type[Id]) -> Id:
        """The id of nothing."""
        return cls(_NIL_BYTE * cls.SIZE)

    @classmethod
    def size(cls) -> int:
        """Bytes of an id of this type."""
        return cls.SIZE

    def binary(self) -> bytes:
        """The bytes."""
        return self._binary

    def hex(self) -> str:
        """Two hex digits a byte."""
        return self._binary.hex()

    def is_nil(self) -> bool:
        """Whether this is the id of nothing."""
        return self._binary == _NIL_BYTE * len(self._binary)

    def redis_shard_hash(self) -> int:
        """A number that is the same for equal ids, in every process."""
        return int.from_bytes(_digest(8, self._binary), "little")

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and other._binary == self._binary  # type: ignore[attr-defined]

    def __hash__(self) -> int:
        return hash(self._binary)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.hex()})"

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._binary,)


class UniqueID(BaseID):
    """An id without structure.

    >>> import ray
    >>> ray.UniqueID.nil().is_nil()
    True
    """

    __slots__ = ()


class NodeID(UniqueID):
    """Of a node.

    >>> import ray
    >>> ray.NodeID.from_hex(ray.get_runtime_context().get_node_id()).size()
    28
    """

    __slots__ = ()


class WorkerID(UniqueID):
    """Of a worker or driver process.

    >>> import ray
    >>> len(ray.WorkerID.from_random().hex())
    56
    """

    __slots__ = ()


class FunctionID(UniqueID):
    """Of a remote function.

    >>> import ray
    >>> len(ray.FunctionID.from_random().binary())
    28
    """

    __slots__ = ()


class ActorClassID(UniqueID):
    """Of an actor class.

    >>> import ray
    >>> len(ray.ActorClassID.from_random().binary())
    28
    """

    __slots__ = ()


class JobID(BaseID):
    """Of a driver's job.

    >>> import ray
    >>> ray.JobID.from_int(7).int()
    7
    """

    SIZE = 4
    __slots__ = ()

    @classmethod
    def from_int(cls, value: builtins.int) -> JobID:
        """The id of job number ``value``, from 0 to 2**32 - 1."""
        return cls(value.to_bytes(cls.SIZE, "little"))

    def int(self) -> builtins.int:
        """The job's number."""
        return int.from_bytes(self._binary, "little")


class ActorID(BaseID):
    """Of an actor; ends with its job's id.

    >>> import ray
    >>> job = ray.JobID.from_int(7)
    >>> ray.ActorID.of(job, ray.TaskID.for_driver_task(job), 1).job_id
    JobID(07000000)
    """

    SIZE = 16
    __slots__ = ()

    @classmethod
    def of(cls, job_id: JobID, parent_task_id: TaskID, parent_task_counter: int) -> ActorID:
        """The id that an actor would have.

        Args:
            job_id: the job it belongs to.
            parent_task_id: the task that creates it.
            parent_task_counter: which of that task's actors it is.
        """
        counter = parent_task_counter.to_bytes(8, "little")
        unique = _digest(cls.SIZE - JobID.SIZE, parent_task_id.binary(), counter)
        return cls(unique + job_id.binary())

    @property
    def job_id(self) -> JobID:
        """Of the job that created it."""
        return JobID(self._binary[-JobID.SIZE :])

    @classmethod
    def _nil_of(cls, job_id: JobID) -> ActorID:
        return cls(_NIL_BYTE * (cls.SIZE - JobID.SIZE) + job_id.binary())


class PlacementGroupID(BaseID):
    """Of a placement group; ends with its job's id.

    >>> import ray
    >>> ray.PlacementGroupID.of(ray.JobID.from_int(7)).hex()[-8:]
    '07000000'
    """

    SIZE = 18
    __slots__ = ()

    @classmethod
    def of(cls, job_id: JobID) -> PlacementGroupID:
        """A new id of the job ``job_id``."""
        return cls(os.urandom(cls.SIZE - JobID.SIZE) + job_id.binary())


class TaskID(BaseID):
    """Of a task or actor call; ends with the actor's id, or with that of no actor of its job.

    >>> import ray
    >>> ray.TaskID.for_driver_task(ray.JobID.from_int(7)).job_id()
    JobID(07000000)
    """

    SIZE = 24
    __slots__ = ()

    @classmethod
    def for_driver_task(cls, job_id: JobID) -> TaskID:
        """What stands for the driver of the job ``job_id``."""
        return cls._of(_NIL_BYTE * (cls.SIZE - ActorID.SIZE), ActorID._nil_of(job_id))

    @classmethod
    def for_fake_task(cls, job_id: JobID) -> TaskID:
        """A new id of the job ``job_id``, of no task."""
        return cls._of(os.urandom(cls.SIZE - ActorID.SIZE), ActorID._nil_of(job_id))

    @classmethod
    def for_actor_creation_task(cls, actor_id: ActorID) -> TaskID:
        """Of the task that creates the actor ``actor_id``."""
        return cls._of(bytes(cls.SIZE - ActorID.SIZE), actor_id)

    @classmethod
    def for_normal_task(
        cls, job_id: JobID, parent_task_id: TaskID, parent_task_counter: int
    ) -> TaskID:
        """The id that a task would have.

        Args:
            job_id: the job it belongs to.
            parent_task_id: the task that submits it.
            parent_task_counter: which of that task's tasks it is.
        """
        return cls.for_actor_task(
            job_id, parent_task_id, parent_task_counter, ActorID._nil_of(job_id)
        )

    @classmethod
    def for_actor_task(
        cls, job_id: JobID, parent_task_id: TaskID, parent_task_counter: int, actor_id: ActorID
    ) -> TaskID:
        """The id that a call of an actor would have.

        Args:
            job_id: the job it belongs to.
            parent_task_id: the task that makes the call.
            parent_task_counter: which of that task's calls it is.
            actor_id: the actor that is called.
        """
        counter = parent_task_counter.to_bytes(8, "little")
        parts = job_id.binary(), parent_task_id.binary(), counter
        return cls._of(_digest(cls.SIZE - ActorID.SIZE, *parts), actor_id)

    @classmethod
    def _of(cls, unique: bytes, actor_id: ActorID) -> TaskID:
        return cls(unique + actor_id.binary())

    def actor_id(self) -> ActorID:
        """Of the actor that runs it; of no actor for a task."""
        return ActorID(self._binary[-ActorID.SIZE :])

    def job_id(self) -> JobID:
        """Of the job it belongs to."""
        return self.actor_id().job_id
