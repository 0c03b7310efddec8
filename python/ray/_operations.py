"""The verbs of the API: remote, get, put, wait, cancel, kill, get_actor.

All of them may be called from any thread. Those that block release the GIL and answer Ctrl-C at
once.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from types import FunctionType
from typing import TYPE_CHECKING, Any, ParamSpec, Protocol, TypeVar, overload

from ray import _raylet
from ray._generators import ObjectRefGenerator
from ray._raylet import ObjectRef
from ray._runtime import RUNTIME

if TYPE_CHECKING:
    # At run time loaded by what needs them, and with them `inspect`, `ast` and `dis`: `import ray`
    # and `ray.init` do without.
    from ray.actor import ActorClass, ActorHandle
    from ray.remote_function import RemoteFunction

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")
WaitableT = TypeVar("WaitableT", bound="ObjectRef[Any] | ObjectRefGenerator[Any]")


class RemoteDecorator(Protocol):
    """What ``ray.remote`` with options returns."""

    @overload
    def __call__(self, definition: type[T], /) -> ActorClass[T]: ...  # type: ignore[overload-overlap]
    @overload
    def __call__(self, definition: Callable[P, Iterator[Any]], /) -> RemoteFunction[P, Any]: ...
    @overload
    def __call__(self, definition: Callable[P, R], /) -> RemoteFunction[P, ObjectRef[R]]: ...


# A class is a function, too: the first signature that fits is meant. Of generator functions nothing
# is said, since type checkers take functions without annotations for such.
@overload
def remote(definition: type[T], /) -> ActorClass[T]: ...  # type: ignore[overload-overlap]
@overload
def remote(definition: Callable[P, Iterator[Any]], /) -> RemoteFunction[P, Any]: ...
@overload
def remote(definition: Callable[P, R], /) -> RemoteFunction[P, ObjectRef[R]]: ...
@overload
def remote(
    *, num_returns: int | str | None, **options: Any
) -> Callable[[Callable[P, Any]], RemoteFunction[P, Any]]: ...
@overload
def remote(**options: Any) -> RemoteDecorator: ...
def remote(*args: Any, **kwargs: Any) -> Any:
    """Makes a function a remote function, or a class an actor class.

    Used as ``@ray.remote``, as ``@ray.remote(num_cpus=2)``, or as a function: ``ray.remote(f)``.

    >>> import ray
    >>> @ray.remote(num_cpus=1)
    ... def double(x):
    ...     return 2 * x
    >>> ray.get(double.remote(4))
    8

    Args:
        *args: the function or class, when used without options.
        **kwargs: options; see ``RemoteFunction.options`` and ``ActorClass.options``.

    Returns:
        A RemoteFunction or an ActorClass; with options alone, the decorator that makes one.

    Raises:
        TypeError: applied to something else than a function or class, or an option of a wrong type.
        ValueError: an unknown option or a bad value; an ``async def`` function.

    Source: https://docs.ray.io/en/latest/ray-core/api/doc/ray.remote.html, conformance
        core/test_core_tasks.py.
    """
    if len(args) == 1 and not kwargs:
        return _make_remote(args[0], {})
    if args or not kwargs:
        raise TypeError(
            "ray.remote must be used without parentheses, as '@ray.remote', or with options by"
            " keyword, as '@ray.remote(num_cpus=2)'."
        )
    return functools.partial(_make_remote, options=kwargs)


def _make_remote(definition: Any, options: dict[str, Any]) -> Any:
    if isinstance(definition, type):
        from ray.actor import ActorClass

        return ActorClass.of(definition, options)
    if isinstance(definition, FunctionType):
        from ray.remote_function import RemoteFunction

        return RemoteFunction(definition, options)
    raise TypeError(
        "The @ray.remote decorator must be applied to either a function or a class, not to"
        f" {type(definition).__name__}."
    )


@overload
def get(
    object_refs: ObjectRef[R], *, timeout: float | None = None, _use_object_store: bool = False
) -> R: ...
@overload
def get(
    object_refs: Sequence[ObjectRef[R]],
    *,
    timeout: float | None = None,
    _use_object_store: bool = False,
) -> list[R]: ...
def get(object_refs: Any, *, timeout: float | None = None, _use_object_store: bool = False) -> Any:
    """The values of objects. Blocks until they are there.

    >>> import ray
    >>> first, second = ray.put("a"), ray.put("b")
    >>> ray.get(first), ray.get([first, second])
    ('a', ['a', 'b'])

    Args:
        object_refs: a reference, or a list of them.
        timeout: how long to wait at most, in seconds. None: without limit. 0: only what is ready
            now.
        _use_object_store: bring tensors that are with another actor (``ray.experimental.rdt``)
            through the object store, instead of by their transport.

    Returns:
        The value, or a list of values in the order of the references. Arrays are read-only and may
        lie in shared memory; copy them to write. The caller owns the rest.

    Raises:
        GetTimeoutError: not all of them are ready in time.
        RayTaskError: a task failed; the error is also an instance of the exception's own class.
        ObjectLostError: a value is gone.
        ValueError: neither a reference nor a list.
        TypeError: the list has something else than references.

    Source: https://docs.ray.io/en/latest/ray-core/api/doc/ray.get.html, conformance
        core/test_core_objects.py.
    """
    core = RUNTIME.core or RUNTIME.require()
    if _use_object_store:
        from ray.experimental.rdt.direct_objects import through_object_store  # Few need it.

        with through_object_store():
            return get(object_refs, timeout=timeout)
    if type(object_refs) is ObjectRef:
        return core.get_one(object_refs, timeout)
    if isinstance(object_refs, list):
        return core.get(object_refs, timeout)
    if isinstance(object_refs, ObjectRefGenerator):
        return object_refs  # As Ray does: its items are what can be got.
    raise ValueError(
        f"ray.get takes an ObjectRef or a list of ObjectRefs, not {type(object_refs).__name__}:"
        f" {object_refs!r}."
    )


def put(
    value: R, *, _owner: ActorHandle[Any] | None = None, _tensor_transport: str | None = None
) -> ObjectRef[R]:
    """Stores a value and gives a reference to it.

    Blocks only while the object store is full.

    >>> import ray
    >>> ray.get(ray.put({"some": "value"}))
    {'some': 'value'}

    Args:
        value: anything that can be pickled; functions and local classes too. A snapshot is stored:
            later changes of ``value`` are not seen. Contiguous arrays come back read-only,
            bytearray and memoryview as bytes.
        _owner: None. Ray has taken it out: who puts an object owns it.
        _tensor_transport: a name: tensors in the value stay in this process, see
            ``ray.experimental.rdt``. None: a snapshot of them is stored, too.

    Returns:
        A reference. The object lives as long as references to it do, anywhere.

    Raises:
        TypeError: the value cannot be serialized (the message says which part), or is itself a
            reference.
        ValueError: ``_owner`` is not None, or the transport is unknown.
        ObjectStoreFullError: the store stayed full.

    Source: https://docs.ray.io/en/latest/ray-core/api/doc/ray.put.html, conformance
        core/test_core_objects.py.
    """
    if type(value) is ObjectRef:
        raise TypeError(
            "ray.put of an ObjectRef is not allowed: it would be a reference to a reference. Put a"
            " list that holds it if that is meant."
        )
    if _owner is not None:
        raise ValueError(
            "The experimental `_owner` argument to `ray.put` has been removed in Ray 2.56. Let the"
            " actor that is to own the object put it."
        )
    if _tensor_transport is not None:
        from ray.experimental.rdt.rdt_manager import MANAGER  # Few programs need it.

        return MANAGER.put(value, _tensor_transport)
    return (RUNTIME.core or RUNTIME.require()).put(value)


def wait(
    ray_waitables: list[WaitableT],
    *,
    num_returns: int = 1,
    timeout: float | None = None,
    fetch_local: bool = True,
) -> tuple[list[WaitableT], list[WaitableT]]:
    """Waits until some of the objects are ready. A failed task is ready, too.

    >>> import ray
    >>> refs = [ray.put(i) for i in range(3)]
    >>> ready, not_ready = ray.wait(refs, num_returns=2)
    >>> len(ready), len(not_ready)
    (2, 1)

    Args:
        ray_waitables: references, each at most once.
        num_returns: how many must be ready, at least 1 and at most their number.
        timeout: how long to wait at most, in seconds. None: without limit. 0: does not block.
        fetch_local: whether the value must have reached this node to count as ready.

    Returns:
        ``(ready, not_ready)``, both in the order of the input; at most ``num_returns`` are ready,
        fewer after a timeout.

    Raises:
        TypeError: not a list of references.
        ValueError: duplicates, ``num_returns`` out of range, or a negative timeout.

    Source: https://docs.ray.io/en/latest/ray-core/api/doc/ray.wait.html, conformance
        core/test_core_wait_cancel.py.
    """
    if not isinstance(ray_waitables, list):
        raise TypeError(f"ray.wait takes a list of ObjectRefs, not {type(ray_waitables).__name__}.")
    if timeout is not None and timeout < 0:
        raise ValueError(f"The 'timeout' argument must not be negative, but is {timeout}.")
    core = RUNTIME.core or RUNTIME.require()
    if not ray_waitables:
        return [], []
    waitables: list[Any] = ray_waitables
    try:
        found: tuple[list[Any], list[Any]] = core.wait(waitables, num_returns, timeout, fetch_local)
        return found
    except TypeError:
        # The native side knows references only; it has looked at all of them before it waits.
        if not any(isinstance(item, ObjectRefGenerator) for item in waitables):
            raise
    return _wait_with_generators(core, waitables, num_returns, timeout, fetch_local)


def _wait_with_generators(
    core: _raylet.Core,
    waitables: list[Any],
    num_returns: int,
    timeout: float | None,
    fetch_local: bool,
) -> tuple[list[Any], list[Any]]:
    """A generator is ready when its next item, or its end, is."""
    refs = [w._peek() if isinstance(w, ObjectRefGenerator) else w for w in waitables]
    given = dict(zip(refs, waitables))
    ready, not_ready = core.wait(refs, num_returns, timeout, fetch_local)
    return [given[ref] for ref in ready], [given[ref] for ref in not_ready]


def cancel(ray_waitable: ObjectRef[Any], *, force: bool = False, recursive: bool = True) -> None:
    """Cancels the task that makes an object. Does not block; nothing happens if the task has
    finished.

    A task that waits never starts. A running one sees KeyboardInterrupt (in an asyncio actor:
    CancelledError). ``ray.get`` then raises TaskCancelledError. Cancelled tasks are not retried.

    >>> import time
    >>> import ray
    >>> @ray.remote
    ... def sleep():
    ...     time.sleep(60)
    >>> ref = sleep.remote()
    >>> ray.cancel(ref)
    >>> try:
    ...     ray.get(ref)
    ... except ray.exceptions.TaskCancelledError:
    ...     print("cancelled")
    cancelled

    Args:
        ray_waitable: a reference to what the task returns.
        force: end the worker process of a running task instead.
        recursive: cancel the tasks it has submitted, too.

    Raises:
        TypeError: not a reference.
        ValueError: ``force`` for a call of an actor.

    Source: https://docs.ray.io/en/latest/ray-core/api/doc/ray.cancel.html, conformance
        core/test_core_wait_cancel.py.
    """
    if isinstance(ray_waitable, ObjectRefGenerator):
        ray_waitable = ray_waitable.completed()
    if type(ray_waitable) is not ObjectRef:
        raise TypeError(
            "ray.cancel() only supports object refs; for actors there is ray.kill(). Got:"
            f" {type(ray_waitable).__name__}."
        )
    RUNTIME.require().cancel(ray_waitable, force, recursive)


def kill(actor: ActorHandle[Any], *, no_restart: bool = True) -> None:
    """Ends an actor at once: its running and waiting calls fail, ``atexit`` handlers do not run.

    >>> import ray
    >>> @ray.remote
    ... class Idle:
    ...     pass
    >>> idle = Idle.remote()
    >>> ray.kill(idle)

    Args:
        actor: a handle.
        no_restart: whether this is final. False: the actor is restarted if it has restarts left.

    Raises:
        ValueError: not an actor's handle.

    Source: https://docs.ray.io/en/latest/ray-core/api/doc/ray.kill.html, conformance
        actors/test_actor_failures.py.
    """
    from ray.actor import ActorHandle

    if not isinstance(actor, ActorHandle):
        raise ValueError(
            "ray.kill() is only supported for actors; for tasks there is ray.cancel(). Got:"
            f" {type(actor).__name__}."
        )
    RUNTIME.require().kill_actor(actor._actor_id.binary(), no_restart)


def get_actor(name: str, namespace: str | None = None) -> ActorHandle[Any]:
    """A handle to a named actor. Blocks for one request to the GCS.

    >>> import ray
    >>> @ray.remote
    ... class Greeter:
    ...     def greet(self):
    ...         return "hello"
    >>> greeter = Greeter.options(name="greeter").remote()
    >>> ray.get(ray.get_actor("greeter").greet.remote())
    'hello'

    Args:
        name: the name it was created with.
        namespace: where; None means the namespace of this job.

    Returns:
        A handle, which does not keep the actor alive.

    Raises:
        ValueError: there is no such actor, or a name is empty.
        TypeError: a name is not a string.

    Source: https://docs.ray.io/en/latest/ray-core/api/doc/ray.get_actor.html, conformance
        actors/test_actor_names.py.
    """
    if not isinstance(name, str):
        raise TypeError(f"The name of an actor must be a string, not {type(name).__name__}.")
    if not name:
        raise ValueError("Please supply a non-empty value to get_actor")
    check_namespace(namespace)
    core = RUNTIME.require()
    namespace = namespace or core.namespace
    try:
        actor_id, handle_blob = core.get_named_actor(name, namespace)
    except _raylet.SystemError as error:
        if error.code != "NOT_FOUND":
            raise
        raise ValueError(
            f"Failed to look up actor with name '{name}' in namespace '{namespace}'. Either it was"
            " not created, or has died, or lives in another namespace."
        ) from None
    from ray.actor import rebuild_handle

    return rebuild_handle(actor_id, handle_blob, None)


def check_namespace(namespace: str | None) -> None:
    """Raises TypeError or ValueError unless ``namespace`` is None or a non-empty string."""
    if namespace is not None and not isinstance(namespace, str):
        raise TypeError(f"A namespace must be a string or None, not {type(namespace).__name__}.")
    if namespace == "":
        raise ValueError('"" is not a valid namespace. Pass None to use the namespace of this job.')
