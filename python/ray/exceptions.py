"""The exceptions of the public API.

Everything the runtime raises for what the world does (crashes, losses, timeouts, cancellation) is a
``RayError``. What a task raises comes back as a ``RayTaskError`` that is also an instance of the
exception's own class.

Source: https://docs.ray.io/en/latest/ray-core/api/exceptions.html and
tests of conformance: core/test_core_errors.py, actors/test_actor_failures.py.
"""

from __future__ import annotations

import pickle
import types
from typing import Any


class RayError(Exception):
    """Base class of every exception of the runtime.

    All of them can be pickled whatever their constructors take: class, ``args`` and attributes
    travel.
    """

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, (type(self), self.args, self.__dict__)

    def to_bytes(self) -> bytes:
        """The exception as bytes, for ``from_bytes``.

        >>> RayError.from_bytes(WorkerCrashedError().to_bytes())
        WorkerCrashedError()
        """
        from ray import cloudpickle

        data: bytes = cloudpickle.dumps(self)
        return data

    @staticmethod
    def from_bytes(b: bytes) -> RayError:
        """The exception that ``to_bytes`` was called on.

        Args:
            b: what that returned. Unpickled, so it must come from somebody who is trusted.

        Raises:
            ValueError: other bytes.
        """
        try:
            error = pickle.loads(b)
        except Exception as reason:  # Whatever the bytes make the unpickler do.
            raise ValueError(f"These bytes are not an exception of ray: {reason}") from reason
        if not isinstance(error, RayError):
            raise ValueError(
                f"These bytes are not an exception of ray, but a {type(error).__name__}."
            )
        return error

    @staticmethod
    def from_ray_exception(ray_exception: Any) -> RayError:
        """The exception in a message between languages.

        Args:
            ray_exception: has ``language`` (0 for Python), ``serialized_exception`` (what
                ``to_bytes`` gave, in Python) and ``formatted_exception_string``.

        Returns:
            The exception itself if it is one of Python, else a CrossLanguageError with its text.

        Raises:
            ValueError: the bytes are not an exception.
        """
        if ray_exception.language == 0:
            return RayError.from_bytes(ray_exception.serialized_exception)
        return CrossLanguageError(ray_exception.formatted_exception_string)


def _restore(cls: type[RayError], args: tuple[Any, ...], state: dict[str, Any]) -> RayError:
    error = cls.__new__(cls, *args)
    error.args = args
    error.__dict__.update(state)
    return error


# ------------------------------------------------------------------------------------------------
# Errors of tasks


class RayTaskError(RayError):
    """A task or an actor's method raised an exception.

    ``ray.get`` raises ``as_instanceof_cause()``, which is both a RayTaskError and an instance of
    the class of ``cause``, so that ``except ValueError`` works across processes. An exception that
    cannot be pickled arrives as a plain RayTaskError with its traceback.

    Args:
        function_name: name of the task, or Class.method.
        traceback_str: the remote traceback, as the traceback module formats it, without its
            "Traceback" line.
        cause: the exception itself.
        proctitle: how the failed process calls itself; "ray::" and the function's name by default.
        pid: process id of the failed worker.
        ip: address of its node.
        actor_repr: ``repr`` of the actor's instance, for a method.
        actor_id: the actor's id in hex, for a method.
    """

    def __init__(
        self,
        function_name: str,
        traceback_str: str,
        cause: BaseException,
        proctitle: str | None = None,
        pid: int | None = None,
        ip: str | None = None,
        actor_repr: str | None = None,
        actor_id: str | None = None,
    ) -> None:
        self.function_name = function_name
        self.traceback_str = traceback_str
        self.cause = cause
        self.proctitle = proctitle or f"ray::{function_name}"
        self.pid = pid
        self.ip = ip
        self.actor_repr = actor_repr
        self.actor_id = actor_id

    def __str__(self) -> str:
        return f"{self._origin()}\n{self.traceback_str}".rstrip()

    def __reduce__(self) -> tuple[Any, ...]:
        # The cause is pickled on its own, so that its text survives if its class cannot rebuild it.
        from ray import cloudpickle

        state = {name: value for name, value in self.__dict__.items() if name != "cause"}
        return _restore_task_error, (state, cloudpickle.dumps(self.cause), str(self))

    def _origin(self) -> str:
        """Where it happened: ``ray::f() (pid=1, ip=10.0.0.1)``."""
        facts = {
            "pid": self.pid,
            "ip": self.ip,
            "actor_id": self.actor_id,
            "repr": self.actor_repr,
        }
        known = ", ".join(f"{name}={value}" for name, value in facts.items() if value is not None)
        return f"ray::{self.function_name}() ({known})"

    def as_instanceof_cause(self) -> RayError:
        """The exception to raise: an instance of RayTaskError and of the class of ``cause``.

        Returns:
            A new exception; ``self`` if ``cause`` adds nothing (its class is a base of
            RayTaskError) or if no class can derive from both.
        """
        cause_class = type(self.cause)
        if issubclass(RayTaskError, cause_class) or isinstance(self.cause, RayTaskError):
            return self
        return self.make_dual_exception_instance()

    def make_dual_exception_instance(self) -> RayError:
        """As ``as_instanceof_cause``, for a cause that is known to be of a foreign class."""
        try:
            return _new_dual(self)
        except Exception:
            # A class that refuses subclasses or has an incompatible memory layout: the plain error
            # still says all.
            return self


def _restore_task_error(state: dict[str, Any], cause_blob: bytes, text: str) -> RayError:
    try:
        cause = pickle.loads(cause_blob)
    except Exception:  # Whatever the cause's class does when it is rebuilt.
        return UnserializableException(f"ray.exceptions.RayTaskError: {text}")
    error = RayTaskError.__new__(
        RayTaskError, state["function_name"], state["traceback_str"], cause
    )
    error.__dict__.update(state, cause=cause)
    return error


def _dual_class(cause_class: type[BaseException]) -> type[RayTaskError]:
    def to_text(self: Any) -> str:
        return str(self._task_error)

    def reduce(self: Any) -> tuple[Any, ...]:
        return _new_dual, (self._task_error,)

    return types.new_class(
        f"RayTaskError({cause_class.__name__})",
        (RayTaskError, cause_class),
        exec_body=lambda body: body.update(
            {"__module__": __name__, "__str__": to_text, "__reduce__": reduce}
        ),
    )


def _new_dual(task_error: RayTaskError) -> RayTaskError:
    """The dual-typed error: the cause's attributes, the task error's text.

    The cause's constructor does not run again: it may need arguments nobody knows, and its
    attributes are copied.
    """
    cause = task_error.cause
    dual = _allocate(_dual_class(type(cause)), cause)
    dual.__dict__.update(task_error.__dict__)
    dual.__dict__.update(getattr(cause, "__dict__", {}))
    _copy_members(cause, dual)
    dual.args = (cause,)
    dual.cause = cause
    dual._task_error = task_error  # type: ignore[attr-defined]
    return dual


def _allocate(dual_class: type[RayTaskError], cause: BaseException) -> RayTaskError:
    """An uninitialised instance. Only built-in classes have a ``__new__`` that must run: the first
    of them."""
    for base in type(cause).__mro__:
        if base.__module__ == "builtins":
            return base.__new__(dual_class, *cause.args)
    raise AssertionError("every exception derives from BaseException")


def _copy_members(source: BaseException, target: BaseException) -> None:
    """Copies what does not live in ``__dict__``: errno and filename of OSError, ``__slots__`` of
    user classes, ..."""
    for base in type(source).__mro__:
        if base in (BaseException, Exception):
            continue
        for name, descriptor in vars(base).items():
            if isinstance(descriptor, types.MemberDescriptorType):
                try:
                    setattr(target, name, getattr(source, name))
                except (AttributeError, TypeError):  # Never set in the source, or read-only.
                    continue


class TaskCancelledError(RayError):
    """The task was cancelled with ``ray.cancel`` (or its parent was, recursively).

    Args:
        task_id: id of the task, if known.
        error_message: what to say instead of the standard sentence.
    """

    def __init__(self, task_id: Any = None, error_message: str | None = None) -> None:
        self.task_id = task_id
        self.error_message = error_message

    def __str__(self) -> str:
        if self.error_message:
            return self.error_message
        if self.task_id is None:
            return "This task or its dependency was cancelled."
        return f"Task {self.task_id} was cancelled."


class WorkerCrashedError(RayError):
    """The process that ran the task ended before the task did: a crash, a signal, ``sys.exit`` or
    ``os._exit``."""

    def __str__(self) -> str:
        said = super().__str__()
        return said or "The worker died unexpectedly while it ran this task."


class RaySystemError(RayError):
    """The runtime itself failed or cannot do what was asked.

    Args:
        client_exc: the failure, or a sentence that describes it.
        traceback_str: where it happened, if that is of use.
    """

    def __init__(self, client_exc: Any, traceback_str: str | None = None) -> None:
        self.client_exc = client_exc
        self.traceback_str = traceback_str

    def __str__(self) -> str:
        text = f"System error: {self.client_exc}"
        return f"{text}\ntraceback: {self.traceback_str}" if self.traceback_str else text


class UserCodeException(RayError):
    """User code that the runtime called (not a task) raised an exception."""


class UnserializableException(RayError):
    """A task's exception was pickled by the worker but cannot be rebuilt here.

    Args:
        original_stack_trace: text of the original exception.
    """

    def __init__(self, original_stack_trace: str) -> None:
        self._original_stack_trace = original_stack_trace

    def __str__(self) -> str:
        return (
            "The exception of the task cannot be rebuilt in this process (its class must give back"
            " what its constructor needs, see __reduce__). The original"
            f" exception:\n{self._original_stack_trace}"
        )


class CrossLanguageError(RayError):
    """An exception that was raised by a task in another language."""

    def __str__(self) -> str:
        return "An exception was raised by a task in another language:\n" + super().__str__()


# ------------------------------------------------------------------------------------------------
# Errors of actors


class RayActorError(RayError):
    """The actor cannot run the call: it is dead, or cannot be reached now.

    Args:
        actor_id: the actor's id in hex.
        error_msg: what happened, in whole sentences.
        actor_init_failed: whether its constructor raised.
        preempted: whether its node was taken away on purpose.
    """

    BASE_ERROR_MSG = "The actor experienced an error before finishing this task."

    def __init__(
        self,
        actor_id: str | None = None,
        error_msg: str | None = None,
        actor_init_failed: bool = False,
        preempted: bool = False,
    ) -> None:
        error_msg = error_msg or self.BASE_ERROR_MSG
        self.actor_id = actor_id
        self.error_msg = error_msg
        self._actor_init_failed = actor_init_failed
        self._preempted = preempted

    def __str__(self) -> str:
        return self.error_msg

    @property
    def actor_init_failed(self) -> bool:
        """Whether the actor's constructor raised an exception."""
        return self._actor_init_failed

    @property
    def preempted(self) -> bool:
        """Whether the actor's node was preempted."""
        return self._preempted


class ActorDiedError(RayActorError):
    """The actor is dead and will not come back.

    Args:
        cause: the RayTaskError of its constructor, or a sentence that says why it died.
        actor_id: the actor's id in hex.
        preempted: whether its node was taken away on purpose.
    """

    BASE_ERROR_MSG = "The actor died unexpectedly before finishing this task."

    def __init__(
        self,
        cause: RayTaskError | str | None = None,
        actor_id: str | None = None,
        preempted: bool = False,
    ) -> None:
        init_failed = isinstance(cause, RayTaskError)
        message = cause if isinstance(cause, str) else None
        if isinstance(cause, RayTaskError):
            actor_id = actor_id or cause.actor_id
            message = f"The actor died because of an error raised in its creation task, {cause}"
        super().__init__(actor_id, message, init_failed, preempted)

    @staticmethod
    def from_task_error(task_error: RayTaskError) -> ActorDiedError:
        """The error of an actor whose constructor raised ``task_error``."""
        return ActorDiedError(task_error)


class ActorUnavailableError(RayActorError):
    """The actor cannot be reached now (its process died and restarts, or the network is cut). It
    may come back.

    Whether the call ran is unknown; it is not repeated unless ``max_task_retries`` allows it.

    Args:
        error_message: what happened.
        actor_id: the actor's id, 16 bytes or hex.
    """

    def __init__(self, error_message: str, actor_id: bytes | str | None = None) -> None:
        text = actor_id.hex() if isinstance(actor_id, bytes) else actor_id
        super().__init__(
            text,
            f"The actor {text} is unavailable: {error_message} The task may or may not have been"
            " executed on the actor.",
        )


class ActorAlreadyExistsError(ValueError, RayError):
    """There is an actor of this name in the namespace already.

    Args:
        error_message: which name and namespace.
    """

    def __init__(self, error_message: str) -> None:
        self.error_message = error_message


class ActorHandleNotFoundError(ValueError, RayError):
    """A handle is used in a session that does not know its actor.

    Args:
        error_message: which actor.
    """

    def __init__(self, error_message: str) -> None:
        self.error_message = error_message


class ActorUnschedulableError(RayError):
    """No node will ever be able to hold the actor, as its options demand it.

    Args:
        error_message: why.
    """

    def __init__(self, error_message: str) -> None:
        self.error_message = error_message

    def __str__(self) -> str:
        return f"The actor is not schedulable: {self.error_message}"


class ActorPlacementGroupRemoved(RayError):
    """The placement group the actor was to live in was removed."""

    def __str__(self) -> str:
        return "The placement group corresponding to this Actor has been removed."


class AsyncioActorExit(RayError):
    """Ends an asyncio actor from inside one of its methods."""


class PendingCallsLimitExceeded(RayError):
    """More calls wait for the actor than its ``max_pending_calls`` allows; the call was not
    submitted."""


# ------------------------------------------------------------------------------------------------
# Errors of objects


class ObjectLostError(RayError):
    """The object's value is gone and cannot be made again.

    Args:
        object_ref_hex: the object's id in hex.
        owner_address: serialized address of the object's owner, if known.
        call_site: where the reference was made, if recorded.
    """

    def __init__(self, object_ref_hex: str, owner_address: Any = None, call_site: str = "") -> None:
        self.object_ref_hex = object_ref_hex
        self.owner_address = owner_address
        self.call_site = call_site
        self.detail = ""  # What the runtime adds to the reason.

    def __str__(self) -> str:
        where = f"The reference was created at: {self.call_site}" if self.call_site else ""
        parts = [
            f"Failed to retrieve object {self.object_ref_hex}.",
            self._reason(),
            self.detail,
            where,
        ]
        return " ".join(part for part in parts if part)

    def _reason(self) -> str:
        return "Every copy of it is lost: the nodes or processes that held it are gone."


class ObjectFetchTimedOutError(ObjectLostError):
    """The object exists but could not be fetched in time."""

    def _reason(self) -> str:
        return "Fetching it timed out."


class ReferenceCountingAssertionError(ObjectLostError, AssertionError):
    """The object was released although a reference is left: a bug, or a reference kept as bytes."""

    def _reason(self) -> str:
        return (
            "It was released although this reference still exists. A reference that was serialized"
            " by hand does not keep its object alive."
        )


class ObjectFreedError(ObjectLostError):
    """The object was freed on purpose."""

    def _reason(self) -> str:
        return "It was freed by a call of free()."


class OwnerDiedError(ObjectLostError):
    """The process that owned the object (it submitted the task or called put) has died."""

    def _reason(self) -> str:
        return (
            "Its owner, the process that created the first reference to it, has died, and with it"
            " what is known about the object."
        )


class ObjectReconstructionFailedError(ObjectLostError):
    """The object is lost and the task that made it may not or cannot run again.

    Args:
        object_ref_hex: the object's id in hex.
        reason: why it was not made again, a key of REASON_MESSAGES, if it is one of these.
        reason_message: why, in words.
        owner_address: serialized address of the object's owner, if known.
        call_site: where the reference was made, if recorded.
    """

    REASON_MESSAGES: dict[str, str] = {
        "MAX_ATTEMPTS_EXCEEDED": "The task that made it has used up its retries (max_retries).",
        "LINEAGE_EVICTED": "What is needed to run its task again is no longer kept.",
        "PUT": "It was created by ray.put, so no task can make it again.",
        "BORROWED": "This process does not own it.",
        "DEPENDENCY": "An argument of the task that made it is lost.",
    }

    def __init__(
        self,
        object_ref_hex: str,
        reason: str | None = None,
        reason_message: str | None = None,
        owner_address: Any = None,
        call_site: str = "",
    ) -> None:
        super().__init__(object_ref_hex, owner_address, call_site)
        self.reason = reason
        self.reason_message = reason_message or self.REASON_MESSAGES.get(reason or "", "")

    def _reason(self) -> str:
        return f"It could not be made again. {self.reason_message}".rstrip()


class ObjectStoreFullError(RayError):
    """The object store stayed full, although the caller waited for room."""

    def __str__(self) -> str:
        said = super().__str__()
        return said or "The object store is full: no room was freed in time."


class OutOfDiskError(RayError):
    """The local disk is full, so that objects cannot be spilled."""

    def __str__(self) -> str:
        said = super().__str__()
        return said or "The local disk is full; objects cannot be spilled to it."


class PlasmaObjectNotAvailable(RayError):
    """The object is not in the local store within the time given."""


class GetTimeoutError(RayError, TimeoutError):
    """``ray.get`` was given a timeout and the objects were not ready by then."""


class ObjectRefStreamEndOfStreamError(RayError):
    """A stream of references has no further item."""


class OufOfBandObjectRefSerializationException(RayError):
    """A reference was serialized outside the runtime's control, and that is forbidden here."""


# ------------------------------------------------------------------------------------------------
# Errors of nodes and of the runtime


class NodeDiedError(RayError):
    """The node that ran the task has died.

    Args:
        message: which node, and why.
    """

    def __init__(self, message: str) -> None:
        self.message = message


class LocalRayletDiedError(RayError):
    """The raylet of this node, on which everything here depends, has died."""

    def __str__(self) -> str:
        said = super().__str__()
        return (
            said
            or "The local raylet has died; its log says why (raylet.log in the session's logs)."
        )


class OutOfMemoryError(RayError):
    """The worker was ended because the node was running out of memory.

    Args:
        message: the figures.
    """

    def __init__(self, message: str) -> None:
        self.message = message


class DeadlockError(RaySystemError):
    """A ``ray.get`` without a timeout waits for itself: for a call that waits, over others, for the
    one that it is in. The message names the calls. Not in Ray, where such programs hang.
    """


class RuntimeEnvSetupError(RayError):
    """The runtime environment of a task or actor could not be made.

    Args:
        error_message: what went wrong, with the output of the installer.
    """

    def __init__(self, error_message: str | None = None) -> None:
        self.error_message = error_message

    def __str__(self) -> str:
        said = "Failed to set up runtime environment."
        return f"{said}\n{self.error_message}" if self.error_message else said


class TaskPlacementGroupRemoved(RayError):
    """The placement group the task was to run in was removed."""

    def __str__(self) -> str:
        return "The placement group corresponding to this task has been removed."


class TaskUnschedulableError(RayError):
    """No node will ever be able to run the task, as its options demand it.

    Args:
        error_message: why.
    """

    def __init__(self, error_message: str) -> None:
        self.error_message = error_message

    def __str__(self) -> str:
        return f"The task is not schedulable: {self.error_message}"


class AuthenticationError(RayError):
    """The cluster did not accept the token of this process.

    Args:
        message: what it said.
    """

    def __init__(self, message: str) -> None:
        self.message = message


class RpcError(RayError):
    """A request to a service of the cluster failed.

    Args:
        message: what the service or the network said.
        rpc_code: the gRPC status code.
    """

    def __init__(self, message: str, rpc_code: int | None = None) -> None:
        self.message = message
        self.rpc_code = rpc_code

    def __str__(self) -> str:
        return self.message


class StreamingGeneratorReplayInconsistentError(RaySystemError):
    """A generator that ran again after a failure yielded another number of items than the first
    time."""


class RayChannelError(RaySystemError):
    """A channel of a compiled graph failed."""


class RayChannelTimeoutError(RayChannelError, TimeoutError):
    """A channel of a compiled graph was not written or read in time."""


class RayCgraphCapacityExceeded(RaySystemError):
    """Too many executions of a compiled graph are in flight."""


class RayDirectTransportError(RaySystemError):
    """Moving a device object directly between processes failed."""


RAY_EXCEPTION_TYPES: list[type[RayError]] = [
    value
    for value in list(globals().values())
    if isinstance(value, type) and issubclass(value, RayError)
]
