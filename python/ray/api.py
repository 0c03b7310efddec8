"""The interface in the style of Ray for Java (``io.ray.api.Ray``): calls are named by the function
object itself.

    from ray.api import Ray

    Ray.init()
    nine = Ray.task(square, 3).set_name("nine").remote()
    counter = Ray.actor(Counter, 1).set_max_restarts(2).remote()
    total = counter.task(Counter.add, nine).remote().get()

A name that does not exist then fails where it is written, before anything runs. Functions and
classes are plain ones; those that ``@ray.remote`` made are taken, too.

Source: https://docs.ray.io/en/latest/ray-core/walkthrough.html (the Java tabs).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar, overload

from ray import _operations, _session
from ray._raylet import ObjectRef
from ray.actor import ActorClass, ActorHandle
from ray.remote_function import RemoteFunction

T = TypeVar("T")
R = TypeVar("R")
CallerT = TypeVar("CallerT", bound="_Caller")

# Resources that have an option of their own.
_RESOURCE_OPTIONS = {"CPU": "num_cpus", "GPU": "num_gpus", "memory": "memory"}


def _get_of_ref(ref: ObjectRef[R], timeout_ms: int | None = None) -> R:
    """The object's value; blocks until it is there. As ``Ray.get``."""
    return Ray.get(ref, timeout_ms)


ObjectRef.get = _get_of_ref  # type: ignore[attr-defined]


class _Caller:
    """A call under construction: options are set in a chain, ``remote()`` submits it."""

    def __init__(self, args: tuple[Any, ...]) -> None:
        self._args = args
        self._options: dict[str, Any] = {}

    def _set(self: CallerT, **options: Any) -> CallerT:
        self._options.update(options)
        return self

    def set_name(self: CallerT, name: str) -> CallerT:
        """A task's name in errors and logs, or the name by which ``Ray.get_actor`` finds an
        actor."""
        return self._set(name=name)


class _PlacedCaller(_Caller):
    """A call that is placed by what it demands."""

    def set_resource(self: CallerT, name: str, quantity: float) -> CallerT:
        """Demands a resource: "CPU", "GPU", "memory" (bytes) or a custom one."""
        if option := _RESOURCE_OPTIONS.get(name):
            return self._set(**{option: quantity})
        return self._set(resources={**self._options.get("resources", {}), name: quantity})

    def set_resources(self: CallerT, resources: dict[str, float]) -> CallerT:
        """Demands several resources, as ``set_resource``."""
        for name, quantity in resources.items():
            self.set_resource(name, quantity)  # type: ignore[attr-defined]
        return self


class TaskCaller(_PlacedCaller, Generic[R]):
    """A task under construction; see ``Ray.task``."""

    def __init__(self, function: RemoteFunction[..., ObjectRef[R]], args: tuple[Any, ...]) -> None:
        super().__init__(args)
        self._function = function

    def set_max_retries(self, retries: int) -> TaskCaller[R]:
        """How often the task runs again after a crash of its process; -1: without limit."""
        return self._set(max_retries=retries)

    def remote(self) -> ObjectRef[R]:
        """Submits the task. Does not block."""
        result: ObjectRef[R] = self._function.options(**self._options).remote(*self._args)
        return result


class ActorCreator(_PlacedCaller, Generic[T]):
    """An actor under construction; see ``Ray.actor``."""

    def __init__(self, cls: ActorClass[T], args: tuple[Any, ...]) -> None:
        super().__init__(args)
        self._cls = cls

    def set_namespace(self, namespace: str) -> ActorCreator[T]:
        """Where its name counts."""
        return self._set(namespace=namespace)

    def set_lifetime(self, lifetime: str) -> ActorCreator[T]:
        """ "detached": lives on without handles; "non_detached" (the default): ends with the last
        of them."""
        return self._set(lifetime=lifetime)

    def set_max_restarts(self, restarts: int) -> ActorCreator[T]:
        """How often it is restarted; -1: without limit."""
        return self._set(max_restarts=restarts)

    def set_max_task_retries(self, retries: int) -> ActorCreator[T]:
        """How often a call runs again after a restart; -1: without limit."""
        return self._set(max_task_retries=retries)

    def set_max_concurrency(self, calls: int) -> ActorCreator[T]:
        """How many calls run at once."""
        return self._set(max_concurrency=calls)

    def set_max_pending_calls(self, calls: int) -> ActorCreator[T]:
        """How many calls of one process may wait; -1: without limit."""
        return self._set(max_pending_calls=calls)

    def set_concurrency_groups(self, groups: dict[str, int]) -> ActorCreator[T]:
        """Groups of methods and how many calls of each run at once."""
        return self._set(concurrency_groups=groups)

    def remote(self) -> Actor[T]:
        """Creates the actor. Does not block, unless it has a name."""
        return Actor(self._cls.options(**self._options).remote(*self._args))


class ActorTaskCaller(_Caller, Generic[R]):
    """A call of an actor under construction; see ``Actor.task``."""

    def __init__(self, method: Any, args: tuple[Any, ...]) -> None:
        super().__init__(args)
        self._method = method

    def set_concurrency_group(self, group: str) -> ActorTaskCaller[R]:
        """In which group of the actor the call runs."""
        return self._set(concurrency_group=group)

    def remote(self) -> ObjectRef[R]:
        """Submits the call. Does not block."""
        result: ObjectRef[R] = self._method.options(**self._options).remote(*self._args)
        return result


class Actor(Generic[T]):
    """A handle to an actor. Can be passed to tasks and actors; ``handle`` is the usual handle
    inside."""

    def __init__(self, handle: ActorHandle[T]) -> None:
        self.handle = handle

    def task(self, method: Callable[..., R], *args: Any) -> ActorTaskCaller[R]:
        """A call of ``method``, a function of the actor's class (``Counter.add``), to be submitted
        by ``remote()``.

        Raises:
            AttributeError: the actor has no such method.
        """
        return ActorTaskCaller(getattr(self.handle, method.__name__), args)

    def kill(self, no_restart: bool = True) -> None:
        """Ends the actor at once; see ``ray.kill``."""
        _operations.kill(self.handle, no_restart=no_restart)

    def get_id(self) -> str:
        """The actor's id: 32 hex digits."""
        return self.handle._actor_id.hex()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Actor) and self.handle == other.handle

    def __hash__(self) -> int:
        return hash(self.handle)

    def __repr__(self) -> str:
        return repr(self.handle)


class WaitResult(Generic[R]):
    """What ``Ray.wait`` found; both lists in the order of the input."""

    def __init__(self, ready: list[ObjectRef[R]], unready: list[ObjectRef[R]]) -> None:
        self._ready = ready
        self._unready = unready

    def get_ready(self) -> list[ObjectRef[R]]:
        """References to objects that are ready."""
        return self._ready

    def get_unready(self) -> list[ObjectRef[R]]:
        """The other references."""
        return self._unready


class Ray:
    """The static methods. What each does and raises is said at the function of the same name in
    ``ray``."""

    @staticmethod
    def init(**options: Any) -> None:
        """Starts a session, as ``ray.init``; nothing happens if there is one."""
        _session.init(ignore_reinit_error=True, **options)

    @staticmethod
    def shutdown() -> None:
        """Ends the session, as ``ray.shutdown``."""
        _session.shutdown()

    @staticmethod
    def is_initialized() -> bool:
        """Whether this process is in a session."""
        return _session.is_initialized()

    @staticmethod
    def task(
        function: Callable[..., R] | RemoteFunction[..., ObjectRef[R]], *args: Any
    ) -> TaskCaller[R]:
        """A task that runs ``function(*args)``, to be submitted by ``remote()``."""
        return TaskCaller(_remote_function(function), args)

    @staticmethod
    def actor(cls: type[T] | ActorClass[T], *args: Any) -> ActorCreator[T]:
        """An actor made by ``cls(*args)``, to be created by ``remote()``."""
        return ActorCreator(_actor_class(cls), args)  # type: ignore[arg-type]

    @staticmethod
    def get_actor(name: str, namespace: str | None = None) -> Actor[Any] | None:
        """The named actor; None if there is none."""
        try:
            return Actor(_operations.get_actor(name, namespace))
        except ValueError:
            return None

    @staticmethod
    def put(value: R) -> ObjectRef[R]:
        """Stores a value, as ``ray.put``."""
        return _operations.put(value)

    @overload
    @staticmethod
    def get(refs: ObjectRef[R], timeout_ms: int | None = None) -> R: ...
    @overload
    @staticmethod
    def get(refs: Sequence[ObjectRef[R]], timeout_ms: int | None = None) -> list[R]: ...
    @staticmethod
    def get(refs: Any, timeout_ms: int | None = None) -> Any:
        """The value of one reference, or those of a list, as ``ray.get``. ``timeout_ms`` is in
        milliseconds."""
        return _operations.get(refs, timeout=_seconds(timeout_ms))

    @staticmethod
    def wait(
        refs: list[ObjectRef[R]],
        num_returns: int | None = None,
        timeout_ms: int | None = None,
        fetch_local: bool = True,
    ) -> WaitResult[R]:
        """Waits until ``num_returns`` objects (all, by default) are ready, as ``ray.wait``."""
        ready, unready = _operations.wait(
            refs,
            num_returns=len(refs) if num_returns is None else num_returns,
            timeout=_seconds(timeout_ms),
            fetch_local=fetch_local,
        )
        return WaitResult(ready, unready)


def _seconds(timeout_ms: int | None) -> float | None:
    return None if timeout_ms is None else timeout_ms / 1000


# Remembered, so that a function that is called often is pickled once.
@functools.lru_cache(maxsize=1024)
def _remote_function(function: Any) -> RemoteFunction[..., Any]:
    return function if isinstance(function, RemoteFunction) else RemoteFunction(function, {})


@functools.lru_cache(maxsize=1024)
def _actor_class(cls: Any) -> ActorClass[Any]:
    return cls if isinstance(cls, ActorClass) else ActorClass.of(cls, {})
