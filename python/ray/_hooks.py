"""What the native side calls in Python. One object with these methods is given to
``_raylet.set_hooks`` at import.

Everything here runs with the GIL held, off the fast path: values that the C pickler handles alone
(numbers, strings, bytes, None and plain containers of these) never come here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from ray._raylet import ObjectRef, ObjectStream


class Hooks(Protocol):
    """The contract between ``_raylet`` and Python."""

    def dumps(self, value: Any, buffer_callback: Callable[[Any], Any]) -> bytes:
        """Pickles with protocol 5. Raises TypeError that says what inside the value cannot be
        serialized and why."""

    def loads(self, data: memoryview, buffers: list[memoryview]) -> Any:
        """The inverse of dumps; buffers are read-only."""

    def describe_argument_error(
        self, name: str, position: int | None, keyword: str | None, value: Any, error: BaseException
    ) -> BaseException:
        """The TypeError for the argument of ``name`` (a function or Class.method) that could not be
        serialized."""

    def task_error(self, error: BaseException, task_name: str, actor_repr: str | None) -> Exception:
        """What a task's exception becomes for its caller: a picklable RayTaskError (or the RayError
        itself)."""

    def dependency_error(self, task_name: str, cause: Exception) -> Exception:
        """The error of a task that never ran because an argument's task failed with ``cause``."""

    def to_raise(self, stored: Exception) -> BaseException:
        """What ``get`` raises for a stored error: ``RayTaskError.as_instanceof_cause()`` or the
        error itself."""

    def system_error(self, code: str, message: str, details: dict[str, Any]) -> Exception:
        """The public exception for a failure the runtime found. Codes: WORKER_CRASHED, ACTOR_DIED,
        ACTOR_UNAVAILABLE, OWNER_DIED, OBJECT_LOST, OBJECT_FREED, OBJECT_STORE_FULL, OUT_OF_DISK,
        OUT_OF_MEMORY, TASK_CANCELLED, GET_TIMEOUT, NODE_DIED, PENDING_CALLS_LIMIT,
        RECONSTRUCTION_FAILED, RAYLET_DIED, NOT_CONNECTED, TASK_UNSCHEDULABLE, ACTOR_UNSCHEDULABLE,
        DEADLOCK, RUNTIME_ENV_SETUP, TASK_GROUP_REMOVED, ACTOR_GROUP_REMOVED.
        ``details`` may have actor_id (hex), object_id (hex), task_name, class_name, pid, ip,
        creation_error (an exception), preempted."""

    def is_retryable(self, error: BaseException, exception_types: bytes) -> bool:
        """Whether retry_exceptions covers ``error``; ``exception_types`` as in TaskTemplate."""

    def stream_reader(self, stream: ObjectStream) -> Any:
        """What submitting a generator task returns: an ObjectRefGenerator."""

    def dynamic_generator(self, refs: list[ObjectRef[Any]]) -> Any:
        """The value of a task with num_returns="dynamic"."""

    def check_returns(self, value: Any, num_returns: int, task_name: str) -> list[Any]:
        """The n values of a task with num_returns = n > 1. ValueError / TypeError as Ray raises."""
