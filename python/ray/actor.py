"""Actors: what ``@ray.remote`` makes of a class, and the handles through which actors are called.

Source: https://docs.ray.io/en/latest/ray-core/actors.html, conformance actors/test_actor_basics.py,
actors/test_actor_names.py, actors/test_actor_failures.py.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Generic, NoReturn, TypeVar, Union, overload

from ray import _raylet
from ray._actor_interface import (
    METHOD_OPTIONS_ATTRIBUTE,
    ActorInterface,
    constructor_arity,
    find_methods,
    is_asynchronous,
)
from ray._definition import Definition
from ray._ids import ActorID
from ray._options import (
    METHOD_OPTIONS,
    actor_backpressure,
    actor_demand,
    check_actor_options,
    check_objects_per_yield_stays,
    check_options,
)
from ray._runtime import RUNTIME
from ray._runtime_env.resolution import resolve
from ray._strategy import captured_group, strategy_for
from ray.exceptions import ActorAlreadyExistsError, AsyncioActorExit

if TYPE_CHECKING:
    from ray._raylet import ActorClient, ObjectRef
    from ray.dag import ClassMethodNode, ClassNode

FunctionT = TypeVar("FunctionT", bound=Callable[..., Any])
T = TypeVar("T")

# Calls an asyncio actor runs at once if it does not say.
_ASYNCIO_CONCURRENCY_DEFAULT = 1000


class ActorClassInheritanceException(TypeError):
    """A class derives from an actor class; it must derive from the plain class."""


# ------------------------------------------------------------------------------------------------
# Creating actors


class _Blueprint:
    """What all actors of one class have in common. Threads: any."""

    def __init__(self, cls: type) -> None:
        self.definition = Definition(cls, f"the class {cls.__name__}")
        self.name = cls.__name__
        self.arity = constructor_arity(cls)
        self.methods = find_methods(cls)
        self.is_asyncio = any(is_asynchronous(getattr(cls, name, None)) for name in self.methods)
        self.has_transports = any(
            method.options.get("tensor_transport") for method in self.methods.values()
        )
        self._interfaces: dict[tuple[int, int, bool], ActorInterface] = {}

    def check_transports(self, options: Mapping[str, Any]) -> None:
        """Raises ValueError if methods leave tensors with the actor, and ``options`` forbid it."""
        if options.get("enable_tensor_transport") is False and self.has_transports:
            raise ValueError(
                f"{self.name} has methods with @ray.method(tensor_transport=...), which"
                " enable_tensor_transport=False forbids. Leave out one of them."
            )

    def interface(self, options: Mapping[str, Any]) -> ActorInterface:
        transports = bool(options.get("enable_tensor_transport")) or self.has_transports
        key = (options.get("max_task_retries") or 0, actor_backpressure(options), transports)
        if key not in self._interfaces:
            made = ActorInterface(self.name, self.methods, *key)
            # Handles that come back from elsewhere then share its templates.
            self._interfaces[key] = ActorInterface.from_blob(made.blob)
        return self._interfaces[key]


class ActorCaller(Generic[T]):
    """An actor class with one set of options. ``ActorClass.options`` returns one; programs do not
    make one of a ``blueprint`` and ``options`` themselves."""

    def __init__(self, blueprint: _Blueprint, options: Mapping[str, Any]) -> None:
        self._blueprint = blueprint
        self._options = options

    def remote(self, *args: Any, **kwargs: Any) -> ActorHandle[T]:
        """Creates an actor and returns at once; the constructor runs in a worker process of the
        actor's own.

        Only a named actor makes this call wait, until the name is known to be free.

        Args:
            *args: arguments of the constructor, as for a remote function.
            **kwargs: keyword arguments, in the same way.

        Returns:
            A handle. Unless the actor is detached, it ends when the last handle is gone, after the
            calls already submitted. An exception in the constructor is raised by the actor's calls
            (ActorDiedError).

        Raises:
            TypeError: the arguments do not fit the constructor, or one cannot be serialized.
            ActorAlreadyExistsError: the name is taken in the namespace.
        """
        blueprint, options = self._blueprint, self._options
        blueprint.arity.check(args, kwargs)
        core = RUNTIME.require()
        interface = blueprint.interface(options)
        class_blob, refs = blueprint.definition.pickled()
        creation, lifetime = actor_demand(options)
        captured = captured_group(options, core)
        namespace = options.get("namespace") or core.namespace
        environment = resolve(options.get("runtime_env"))
        try:
            client, lifetime_ref, existing = core.create_actor(
                class_blob=pickle.dumps((class_blob, options.get("concurrency_groups") or {})),
                class_name=blueprint.name,
                args=args,
                kwargs=kwargs or None,
                name=options.get("name") or "",
                namespace=namespace,
                detached=(options.get("lifetime") or _default_lifetime()) == "detached",
                get_if_exists=options.get("get_if_exists", False),
                creation_resources=creation,
                lifetime_resources=lifetime,
                max_restarts=options.get("max_restarts") or 0,
                max_task_retries=options.get("max_task_retries") or 0,
                max_concurrency=options.get("max_concurrency")
                or (_ASYNCIO_CONCURRENCY_DEFAULT if blueprint.is_asyncio else 1),
                concurrency_groups=options.get("concurrency_groups") or {},
                is_asyncio=blueprint.is_asyncio,
                max_pending_calls=-1
                if options.get("max_pending_calls") is None
                else options["max_pending_calls"],
                stream_backpressure=actor_backpressure(options),
                handle_blob=interface.blob,
                contained_refs=refs,
                runtime_env_hash=environment.hash,
                runtime_env=environment.text,
                strategy=strategy_for(options, creation, blueprint.name, captured),
            )
        except _raylet.SystemError as error:
            if error.code != "ALREADY_EXISTS":
                raise
            raise ActorAlreadyExistsError(
                f"The name {options.get('name')!r} is already taken by an actor in namespace"
                f" {namespace!r}. Use another name, get the actor with ray.get_actor, or pass"
                " get_if_exists=True."
            ) from None
        if existing is not None:
            interface = ActorInterface.from_blob(existing)
        return ActorHandle(client, interface, lifetime_ref)

    def bind(self, *args: Any, **kwargs: Any) -> ClassNode:
        """A node of a graph that stands for an actor to be made; see ``ray.dag``.

        Args:
            *args: arguments of the constructor; other nodes in them become their results.
            **kwargs: keyword arguments, in the same way.

        Raises:
            TypeError: an argument cannot be serialized.
        """
        from ray.dag import ClassNode

        return ClassNode(self, args, kwargs, self._options)


def _default_lifetime() -> str:
    return "non_detached" if RUNTIME.job is None else RUNTIME.job.default_actor_lifetime


class ActorClass(ActorCaller[T]):
    """A class whose instances are actors, each in a worker process of its own.

    Made by ``@ray.remote``; ``.remote(...)`` creates an actor. It can be passed to tasks and actors
    like any value, but not subclassed: derive from the plain class and make the derived class an
    actor class.

    >>> import ray
    >>> @ray.remote
    ... class Counter:
    ...     def __init__(self):
    ...         self.value = 0
    ...     def increment(self):
    ...         self.value += 1
    ...         return self.value
    >>> counter = Counter.remote()
    >>> ray.get([counter.increment.remote() for _ in range(3)])
    [1, 2, 3]

    Args:
        name: with ``bases`` and ``attr`` what Python gives the type of a base class when somebody
            derives from it: the constructor is for that, and always raises.
        bases: of the derived class.
        attr: of the derived class.

    Raises:
        ActorClassInheritanceException: one of the bases is an actor class.
        AssertionError: none is; actor classes are made by ``@ray.remote``.

    Threads: any. The class is pickled when its first actor of a session is created.

    Source: https://docs.ray.io/en/latest/ray-core/actors.html, conformance
    actors/test_actor_basics.py.
    """

    def __init__(self, name: str, bases: tuple[Any, ...], attr: dict[str, Any]) -> None:
        for base in bases:
            if isinstance(base, ActorClass):
                base.__mro_entries__(bases)
        raise AssertionError(f"ActorClass is not to be called: decorate {name} with @ray.remote.")

    @classmethod
    def of(cls, plain: type[T], options: Mapping[str, Any]) -> ActorClass[T]:
        """The actor class of a plain class; ``options`` as ``ActorClass.options`` takes them."""
        made = cls.__new__(cls)
        made._wrap(plain, options)
        return made

    def _wrap(self, plain: type[T], options: Mapping[str, Any]) -> None:
        check_actor_options(options)
        super().__init__(_Blueprint(plain), dict(options))
        self._blueprint.check_transports(options)
        self.__doc__ = plain.__doc__
        self.__wrapped__ = plain

    def options(self, **actor_options: Any) -> ActorCaller[T]:
        """The same class with other options, for one or more actors. This object does not change.

        Args:
            **actor_options: num_cpus, num_gpus, memory (bytes), resources (by name),
                accelerator_type, name, namespace, lifetime ("detached": lives on without handles),
                get_if_exists, max_concurrency (calls at once), concurrency_groups (calls at once,
                by group), max_restarts and max_task_retries (-1: without limit), max_pending_calls
                (-1: without limit), scheduling_strategy, label_selector and the other options of
                ``RemoteFunction.options`` that say where it runs, allow_out_of_order_execution,
                enable_task_events, enable_tensor_transport (methods may be called with
                ``tensor_transport``), runtime_env (a dict or RuntimeEnv, joined with that of this
                process). Those not given stay as declared.

        Returns:
            An object whose ``.remote(...)`` creates actors with these options.

        Raises:
            ValueError: an unknown option (the message lists the valid ones) or a value out of
                range.
            TypeError: a value of a wrong type.
        """
        merged = {**self._options, **actor_options}
        check_actor_options(merged)
        self._blueprint.check_transports(merged)
        return ActorCaller(self._blueprint, merged)

    def __call__(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Refuses: actors are not made in the caller's process.

        Raises:
            TypeError: always; the message names ``.remote()``.
        """
        name = self._blueprint.name
        raise TypeError(
            f"Actors cannot be instantiated directly. Instead of '{name}()', use '{name}.remote()'."
        )

    def __mro_entries__(self, bases: tuple[Any, ...]) -> NoReturn:
        raise ActorClassInheritanceException(
            f"{self._blueprint.name} is an actor class and cannot be subclassed. Derive from the"
            " plain class, and make the derived class an actor class with @ray.remote."
        )

    def __repr__(self) -> str:
        return f"ActorClass({self._blueprint.name})"

    def __getstate__(self) -> tuple[type[T], Mapping[str, Any]]:
        return self._blueprint.definition.value, self._options

    def __setstate__(self, state: tuple[type[T], Mapping[str, Any]]) -> None:
        self._wrap(*state)


# ------------------------------------------------------------------------------------------------
# Calling actors


class ActorHandle(Generic[T]):
    """A reference to an actor. ``handle.method.remote(...)`` calls it.

    Calls of one process run in the order of their submission. Handles can be passed to tasks and
    actors, and compare and hash by the actor. Prints as ``Actor(Name, <32 hex digits>)``. Programs
    do not make one of ``client``, ``interface`` and ``lifetime_ref`` themselves.

    Threads: any.

    Source: https://docs.ray.io/en/latest/ray-core/actors.html, conformance
    actors/test_actor_basics.py.
    """

    def __init__(
        self, client: ActorClient, interface: ActorInterface, lifetime_ref: ObjectRef[Any] | None
    ) -> None:
        self._ray_client = client
        self._ray_interface = interface
        # While references to this object exist anywhere, the actor lives. None: this handle does
        # not count.
        self._ray_lifetime_ref = lifetime_ref

    def __getattr__(self, name: str) -> ActorMethod:
        # Runs once a method: the result then is an attribute of the instance. It holds no reference
        # to the handle, which would be a cycle, and the actor would live until the garbage
        # collector comes.
        interface: ActorInterface = self.__dict__["_ray_interface"]
        if name not in interface.methods:
            raise AttributeError(f"'ActorHandle' object has no attribute '{name}'")
        method = ActorMethod(self._ray_client, name, interface, {}, self._ray_lifetime_ref)
        self.__dict__[name] = method
        return method

    @property
    def _actor_id(self) -> ActorID:
        return ActorID(self._ray_client.actor_id)

    _ray_actor_id = _actor_id

    def __dir__(self) -> list[str]:
        return sorted(self._ray_interface.methods)

    def __repr__(self) -> str:
        return f"Actor({self._ray_interface.class_name}, {self._ray_client.actor_id.hex()})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ActorHandle):
            return NotImplemented
        return self._ray_client.actor_id == other._ray_client.actor_id

    def __hash__(self) -> int:
        return hash(self._ray_client.actor_id)

    def __reduce__(self) -> tuple[Any, ...]:
        return rebuild_handle, (
            self._ray_client.actor_id,
            self._ray_interface.blob,
            self._ray_lifetime_ref,
        )


# For annotations: a handle, whose attributes type checkers also look up in the class.
ActorProxy = Union[ActorHandle[T], type[T]]  # noqa: UP007 (this form can be subscripted)


def rebuild_handle(
    actor_id: bytes, handle_blob: bytes, lifetime_ref: ObjectRef[Any] | None
) -> ActorHandle[Any]:
    """What a pickled handle becomes: a handle to the same actor, in this process.

    Args:
        actor_id: 16 bytes.
        handle_blob: the ActorInterface of its class, as ``ActorInterface.blob``.
        lifetime_ref: keeps the actor alive; None: this handle does not.
    """
    client = RUNTIME.require().actor_client(actor_id)
    return ActorHandle(client, ActorInterface.from_blob(handle_blob), lifetime_ref)


class ActorMethod:
    """A method of an actor, with one set of options: ``handle.method`` or
    ``handle.method.options(...)``. Programs do not make one of ``client``, ``method_name``,
    ``interface``, ``options`` and ``lifetime_ref`` themselves."""

    __slots__ = (
        "_arity",
        "_client",
        "_interface",
        "_lifetime_ref",
        "_name",
        "_options",
        "_submit",
        "_template",
    )

    def __init__(
        self,
        client: ActorClient,
        method_name: str,
        interface: ActorInterface,
        options: Mapping[str, Any],
        lifetime_ref: ObjectRef[Any] | None,
    ) -> None:
        self._client = client
        self._submit: Callable[..., Any] = client.submit
        if transport := interface.transport(method_name, options):
            from ray.experimental.rdt.submission import submitter  # Few programs need it.

            self._submit = submitter(client, interface, transport)
        self._interface = interface
        self._name = method_name
        self._options = options  # Those that are not the method's own.
        self._template = interface.template(method_name, options)
        self._arity = interface.methods[method_name].arity
        self._lifetime_ref = lifetime_ref  # The actor lives until the call is submitted.

    def remote(self, *args: Any, **kwargs: Any) -> Any:
        """Submits a call and returns at once.

        Args:
            *args: arguments of the method, as for a remote function.
            **kwargs: keyword arguments, in the same way.

        Returns:
            An ObjectRef, or a list of n of them for ``num_returns=n > 1``, or None for
            ``num_returns=0``.

        Raises:
            TypeError: the arguments do not fit the method's signature, or one cannot be serialized.
            PendingCallsLimitExceeded: more than ``max_pending_calls`` calls of this process wait.
        """
        arity = self._arity
        if kwargs or not arity.positional_min <= len(args) <= arity.positional_max:
            arity.check(args, kwargs)
        if RUNTIME.core is None:
            RUNTIME.refuse_after_fork()
        return self._submit(self._template, args, kwargs or None)

    def options(self, **method_options: Any) -> ActorMethod:
        """The same method with other options.

        Args:
            **method_options: num_returns, concurrency_group, name, max_task_retries (-1: without
                limit), retry_exceptions, enable_task_events, tensor_transport (a name: tensors in
                the result stay in the actor's process, see ``ray.experimental.rdt``).

        Raises:
            ValueError: an unknown option (the message lists the valid ones) or a value out of
                range.
            TypeError: a value of a wrong type.
        """
        check_objects_per_yield_stays(method_options, None, "actor method", "ray.method")
        check_options(method_options, METHOD_OPTIONS, "actor methods")
        return ActorMethod(
            self._client, self._name, self._interface, method_options, self._lifetime_ref
        )

    def bind(self, *args: Any, **kwargs: Any) -> ClassMethodNode | tuple[ClassMethodNode, ...]:
        """A node of a graph that stands for a call with these arguments; see ``ray.dag``.

        Args:
            *args: arguments of the method; nodes in them become their results.
            **kwargs: keyword arguments, in the same way.

        Returns:
            A node; with ``num_returns=n > 1`` a tuple of a node for each result.

        Raises:
            TypeError: the arguments do not fit the method's signature, or one cannot be serialized.
        """
        from ray.dag.class_node import bind_method

        self._arity.check(args, kwargs)
        actor: ActorHandle[Any] = ActorHandle(self._client, self._interface, self._lifetime_ref)
        options = {**self._interface.methods[self._name].options, **self._options}
        return bind_method(actor, self._name, args, kwargs, options)

    def __call__(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Refuses: methods do not run in the caller.

        Raises:
            TypeError: always; the message names ``.remote()``.
        """
        raise TypeError(
            f"Actor methods cannot be called directly. Instead of running 'object.{self._name}()',"
            f" try 'object.{self._name}.remote()'."
        )


# ------------------------------------------------------------------------------------------------
# In the class and inside the actor


@overload
def method(function: FunctionT, /) -> FunctionT: ...
@overload
def method(**kwargs: Any) -> Callable[[FunctionT], FunctionT]: ...
def method(*args: Any, **kwargs: Any) -> Any:
    """Declares options of a method of an actor class.

    >>> import ray
    >>> class Divider:
    ...     @ray.method(num_returns=2)
    ...     def divmod(self, a, b):
    ...         return divmod(a, b)

    Args:
        *args: the method, when used without options.
        **kwargs: num_returns, concurrency_group, max_task_retries (-1: without limit),
            retry_exceptions, enable_task_events, tensor_transport (a name: tensors in the result
            stay in the actor's process, see ``ray.experimental.rdt``).

    Raises:
        ValueError: an unknown option (the message lists the valid ones) or a value out of range.
        TypeError: a value of a wrong type.

    Source: https://docs.ray.io/en/latest/ray-core/api/doc/ray.method.html, conformance
    actors/test_actor_basics.py::test_ray_method_decorator_num_returns.
    """
    check_options(kwargs, METHOD_OPTIONS, "@ray.method")

    def annotate(function: Callable[..., Any]) -> Callable[..., Any]:
        setattr(function, METHOD_OPTIONS_ATTRIBUTE, kwargs)
        return function

    return annotate(args[0]) if args else annotate


def exit_actor() -> NoReturn:
    """Ends the actor that this method runs in, on purpose: it is not restarted, whatever
    ``max_restarts`` says.

    ``atexit`` handlers run. The call that exits, calls that wait and later ones raise
    ActorDiedError at their callers.

    >>> import ray
    >>> @ray.remote
    ... class Guest:
    ...     def leave(self):
    ...         ray.actor.exit_actor()
    >>> try:
    ...     ray.get(Guest.remote().leave.remote())
    ... except ray.exceptions.ActorDiedError:
    ...     print("gone")
    gone

    Raises:
        TypeError: outside an actor.
        AsyncioActorExit, SystemExit: what ends an asynchronous, or other, actor: not to be caught.

    Source: https://docs.ray.io/en/latest/ray-core/api/doc/ray.actor.exit_actor.html, conformance
    actors/test_actor_failures.py::test_exit_actor.
    """
    core, actor = RUNTIME.core, RUNTIME.actor
    if core is None or actor is None:
        raise TypeError(
            "exit_actor() was called in a non-actor process. Call it in a method of an actor, to"
            " end the actor."
        )
    core.exit_actor("The actor is dead because it called exit_actor().")
    if actor["is_asyncio"]:
        # SystemExit would tear the event loop down under the other calls.
        raise AsyncioActorExit("exit_actor()")
    raise SystemExit(0)
