"""Values to bytes and back: the Python half of what the native side cannot pickle alone (see
``_hooks.py``).

References and actor handles pickle themselves (their ``__reduce__``), so they also survive a pickle
that a user makes.
"""

from __future__ import annotations

import io
import os
import pickle
import traceback
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ray import _raylet, exceptions
from ray._generators import DynamicObjectRefGenerator, ObjectRefGenerator
from ray._runtime import RUNTIME

if TYPE_CHECKING:
    from ray._raylet import ObjectRef

_PACKAGE_FOLDER = os.path.dirname(os.path.abspath(__file__)) + os.sep


class UnserializableError(TypeError):
    """What a value raises that cannot be serialized; ``reason`` says why, without saying what."""

    def __init__(self, what: str, reason: str) -> None:
        super().__init__(what, reason)
        self.reason = reason

    def __str__(self) -> str:
        return "Could not serialize {}: {}".format(*self.args)


class PassedOnError(Exception):
    """Raised while a value is unpickled, by what unpickles it: ``cause`` is to be raised as it
    is."""

    def __init__(self, cause: BaseException) -> None:
        super().__init__(cause)
        self.cause = cause


def _pickle(value: Any, buffer_callback: Callable[[Any], Any] | None) -> bytes:
    from ray._value_pickler import ValuePickler  # Loads cloudpickle, which few values need.

    with io.BytesIO() as file:
        ValuePickler(file, protocol=5, buffer_callback=buffer_callback).dump(value)
        return file.getvalue()


def pickle_failure(value: Any) -> Exception | None:
    """Why ``value`` cannot be pickled; None if it can."""
    try:
        _pickle(value, None)
    except Exception as error:
        return error
    return None


def serialized_size(value: Any) -> int:
    """How many bytes ``value`` takes as a pickle with its buffers, which are not copied."""
    buffers: list[Any] = []
    return len(_pickle(value, buffers.append)) + sum(buffer.raw().nbytes for buffer in buffers)


def _is_picklable(value: Any) -> bool:
    return pickle_failure(value) is None


def _explain(error: BaseException, value: Any, root: str) -> str:
    """Why ``value`` cannot be pickled, and which part of it is at fault."""
    from ray._culprit import find_culprit

    culprit = find_culprit(value, root, _is_picklable)
    return str(error) if culprit is None else f"{error} (at fault: {culprit})"


def pickle_definition(definition: Any, name: str) -> tuple[bytes, list[ObjectRef[Any]]]:
    """A function or class as bytes, with the references that are inside (in closures and globals).

    Raises:
        TypeError: naming what the definition captures that cannot be serialized.
    """
    _raylet.begin_collecting_refs()
    try:
        blob = _pickle(definition, None)
    except Exception as error:
        raise UnserializableError(name, _explain(error, definition, name)) from error
    finally:
        refs = _raylet.end_collecting_refs()
    return blob, refs


class PythonHooks:
    """Implements ``_hooks.Hooks``; each method's contract is there."""

    def dumps(self, value: Any, buffer_callback: Callable[[Any], Any]) -> bytes:
        if isinstance(value, (bytearray, memoryview)):
            value = bytes(value)
        try:
            return _pickle(value, buffer_callback)
        except Exception as error:
            what = f"the value {_short(value)}"
            raise UnserializableError(what, _explain(error, value, "value")) from error

    def loads(self, data: memoryview, buffers: list[memoryview]) -> Any:
        try:
            return pickle.loads(data, buffers=buffers)
        except PassedOnError as passed:
            raise passed.cause from passed.cause.__cause__
        except Exception as error:
            raise exceptions.RaySystemError(error, traceback.format_exc()) from error

    def describe_argument_error(
        self,
        name: str,
        position: int | None,
        keyword: str | None,
        value: Any,
        error: BaseException,
    ) -> BaseException:
        which = f"argument {keyword!r}" if keyword else f"positional argument {position}"
        reason = error.reason if isinstance(error, UnserializableError) else str(error)
        described = UnserializableError(f"the {which} of {name}(), {_short(value)}", reason)
        described.__cause__ = error.__cause__ or error
        return described

    def task_error(
        self, error: BaseException, task_name: str, actor_repr: str | None
    ) -> exceptions.RayTaskError:
        if os.environ.get("RAY_DEBUG_POST_MORTEM") == "1":
            from ray.util import rpdb  # Few programs need a debugger.

            rpdb.post_mortem(error)
        cause = error.cause if isinstance(error, exceptions.RayTaskError) else error
        text = _format_traceback(error)
        if not _is_picklable(cause):
            name = type(cause).__qualname__
            cause = exceptions.RayError(f"Exception {name} isn't serializable.\n{text}")
        return _new_task_error(task_name, text, cause, actor_repr)

    def dependency_error(self, task_name: str, cause: Exception) -> Exception:
        root = cause.cause if isinstance(cause, exceptions.RayTaskError) else cause
        text = (
            "  At least one of the input arguments for this task could not be computed:\n"
            f"{_full_name(type(cause))}: {cause}"
        )
        return _new_task_error(task_name, text, root, None)

    def to_raise(self, stored: Exception) -> BaseException:
        if isinstance(stored, exceptions.RayTaskError):
            return stored.as_instanceof_cause()
        return stored

    def system_error(self, code: str, message: str, details: dict[str, Any]) -> Exception:
        return _SYSTEM_ERRORS[code](message, details)

    def is_retryable(self, error: BaseException, exception_types: bytes) -> bool:
        return not exception_types or isinstance(error, pickle.loads(exception_types))

    def stream_reader(self, stream: _raylet.ObjectStream) -> ObjectRefGenerator[Any]:
        return ObjectRefGenerator(stream)

    def dynamic_generator(self, refs: list[Any]) -> DynamicObjectRefGenerator[Any]:
        return DynamicObjectRefGenerator(refs)

    def check_returns(self, value: Any, num_returns: int, task_name: str) -> list[Any]:
        values = list(value) if hasattr(value, "__next__") else value
        if len(values) != num_returns:
            raise ValueError(
                f"Task {task_name} returned {len(values)} objects, but num_returns={num_returns}."
            )
        return list(values)


def _short(value: Any) -> str:
    """``repr`` that is at most a line and never raises: it appears in the message of another
    error."""
    try:
        text = repr(value)
    except Exception:
        text = object.__repr__(value)
    return text if len(text) <= 200 else text[:197] + "..."


def _full_name(cls: type) -> str:
    """As ``traceback`` prints it, but a dual-typed error by its plain name: its text says the
    rest."""
    if issubclass(cls, exceptions.RayTaskError):
        cls = exceptions.RayTaskError
    return f"{cls.__module__}.{cls.__qualname__}"


def _new_task_error(
    task_name: str, text: str, cause: BaseException, actor_repr: str | None
) -> exceptions.RayTaskError:
    core = RUNTIME.core
    actor_id: bytes = core.current_task()["actor_id"] if core is not None else b""
    return exceptions.RayTaskError(
        task_name,
        text,
        cause,
        pid=os.getpid(),
        ip=core.node_ip if core is not None else None,
        actor_repr=actor_repr,
        actor_id=actor_id.hex() or None,
    )


def _format_traceback(error: BaseException) -> str:
    """The traceback without this package's own frames and without its first line."""
    report = traceback.TracebackException.from_exception(error)
    _drop_own_frames(report)
    text = "".join(report.format())
    return text.removeprefix("Traceback (most recent call last):\n").rstrip("\n")


def _drop_own_frames(report: traceback.TracebackException | None) -> None:
    if report is None:
        return
    own = [frame for frame in report.stack if frame.filename.startswith(_PACKAGE_FOLDER)]
    for frame in own:
        report.stack.remove(frame)
    _drop_own_frames(report.__cause__)
    _drop_own_frames(report.__context__)


_SystemError = Callable[[str, dict[str, Any]], Exception]


def _plain(cls: Callable[[str], Exception]) -> _SystemError:
    return lambda message, details: cls(message)


def _without_text(cls: Callable[[], Exception]) -> _SystemError:
    return lambda message, details: cls()


def _lost(cls: Callable[[str], exceptions.ObjectLostError]) -> _SystemError:
    def make(message: str, details: dict[str, Any]) -> Exception:
        error = cls(details.get("object_id", ""))
        error.detail = message
        return error

    return make


def _reconstruction_failed(message: str, details: dict[str, Any]) -> Exception:
    return exceptions.ObjectReconstructionFailedError(
        details.get("object_id", ""), reason_message=message
    )


def _actor_died(message: str, details: dict[str, Any]) -> Exception:
    creation_error = details.get("creation_error")
    actor_id, preempted = details.get("actor_id"), bool(details.get("preempted"))
    if isinstance(creation_error, exceptions.RayTaskError):
        return exceptions.ActorDiedError(creation_error, actor_id, preempted)
    facts = "".join(
        f"\n\t{name}: {details[name]}"
        for name in ("class_name", "actor_id", "pid", "ip")
        if details.get(name)
    )
    text = f"{exceptions.ActorDiedError.BASE_ERROR_MSG}{facts}\n{message}"
    return exceptions.ActorDiedError(text, actor_id, preempted)


def _actor_unavailable(message: str, details: dict[str, Any]) -> Exception:
    return exceptions.ActorUnavailableError(message, details.get("actor_id"))


def _task_cancelled(message: str, details: dict[str, Any]) -> Exception:
    return exceptions.TaskCancelledError(details.get("task_id"), message)


_SYSTEM_ERRORS: dict[str, _SystemError] = {
    "ACTOR_DIED": _actor_died,
    "ACTOR_GROUP_REMOVED": _without_text(exceptions.ActorPlacementGroupRemoved),
    "ACTOR_UNAVAILABLE": _actor_unavailable,
    "ACTOR_UNSCHEDULABLE": _plain(exceptions.ActorUnschedulableError),
    "DEADLOCK": _plain(exceptions.DeadlockError),
    "GET_TIMEOUT": _plain(exceptions.GetTimeoutError),
    "NODE_DIED": _plain(exceptions.NodeDiedError),
    "NOT_CONNECTED": _plain(exceptions.RaySystemError),
    "OBJECT_FREED": _lost(exceptions.ObjectFreedError),
    "OBJECT_LOST": _lost(exceptions.ObjectLostError),
    "OBJECT_STORE_FULL": _plain(exceptions.ObjectStoreFullError),
    "OUT_OF_DISK": _plain(exceptions.OutOfDiskError),
    "OUT_OF_MEMORY": _plain(exceptions.OutOfMemoryError),
    "OWNER_DIED": _lost(exceptions.OwnerDiedError),
    "PENDING_CALLS_LIMIT": _plain(exceptions.PendingCallsLimitExceeded),
    "RAYLET_DIED": _plain(exceptions.LocalRayletDiedError),
    "RECONSTRUCTION_FAILED": _reconstruction_failed,
    "RUNTIME_ENV_SETUP": _plain(exceptions.RuntimeEnvSetupError),
    "TASK_CANCELLED": _task_cancelled,
    "TASK_GROUP_REMOVED": _without_text(exceptions.TaskPlacementGroupRemoved),
    "TASK_UNSCHEDULABLE": _plain(exceptions.TaskUnschedulableError),
    "WORKER_CRASHED": _plain(exceptions.WorkerCrashedError),
}
