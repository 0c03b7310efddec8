"""Remote functions: what ``@ray.remote`` makes of a function."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar, overload

from ray._definition import Definition
from ray._generators import is_generator, native_num_returns
from ray._options import (
    TASK_OPTIONS,
    check_objects_per_yield_stays,
    check_options,
    freeze_options,
    objects_per_yield,
    resource_demand,
    stream_backpressure,
)
from ray._raylet import TaskTemplate
from ray._runtime import RUNTIME
from ray._runtime_env.resolution import resolve
from ray._serialization import pickle_definition
from ray._signature import Arity
from ray._strategy import captured_group, strategy_for

if TYPE_CHECKING:
    from ray._raylet import Core
    from ray.dag import FunctionNode

# The parameters of the function, and what remote() returns: ObjectRef[int] if the function an int.
P = ParamSpec("P")
R = TypeVar("R")

_MAX_RETRIES_DEFAULT = 3

# Option sets of one function that are remembered: programs that call f.options(...) in a loop use
# few of them.
_CALLERS_MAX = 64


class TaskCaller(Generic[P, R]):
    """A function with one set of options: what can be decided before a call is decided here.

    ``RemoteFunction.options`` returns one; a RemoteFunction is one for its own options. Programs do
    not make one of ``definition``, ``arity`` and ``options`` themselves.
    """

    def __init__(self, definition: Definition, arity: Arity, options: Mapping[str, Any]) -> None:
        self._definition = definition
        self._arity = arity
        self._options = options
        self._template: TaskTemplate
        self._epoch = -1  # The session that the template was made in.
        # Where each call may belong to another placement group: by group, of _captured_epoch.
        self._captured: dict[bytes | None, TaskTemplate] = {}
        self._captured_epoch = -1

    # The second signature is for references in the places of their values.
    @overload
    def remote(self, *args: P.args, **kwargs: P.kwargs) -> R: ...
    @overload
    def remote(self, *args: Any, **kwargs: Any) -> R: ...
    def remote(self, *args: Any, **kwargs: Any) -> Any:
        """Submits a task and returns at once.

        Args:
            *args: arguments of the function. An ObjectRef given directly becomes its value before
                the task starts; one inside a container stays a reference.
            **kwargs: keyword arguments, in the same way.

        Returns:
            An ObjectRef, or a list of n of them for ``num_returns=n > 1``, or None for
            ``num_returns=0``. The caller owns the objects.

        Raises:
            TypeError: the arguments do not fit the function's signature, or one cannot be
                serialized (the message names it).
        """
        arity = self._arity
        if kwargs or not arity.positional_min <= len(args) <= arity.positional_max:
            arity.check(args, kwargs)
        core = RUNTIME.core
        if core is None or self._epoch != RUNTIME.epoch:
            core = RUNTIME.require()
            template = self._prepare(core)
        else:
            template = self._template
        return core.submit_task(template, args, kwargs or None)

    def bind(self, *args: Any, **kwargs: Any) -> FunctionNode:
        """A node of a graph that stands for a call with these arguments; see ``ray.dag``.

        Args:
            *args: arguments of the function; other nodes in them become their results.
            **kwargs: keyword arguments, in the same way.

        Raises:
            TypeError: an argument cannot be serialized.
        """
        from ray.dag import FunctionNode

        return FunctionNode(self, args, kwargs, self._options)

    def _prepare(self, core: Core) -> TaskTemplate:
        """The template for a call; kept for later ones, which then do not come here."""
        epoch = RUNTIME.epoch
        if not RUNTIME.captures_children:
            self._template = self._make_template(None)
            self._epoch = epoch
            return self._template
        if self._captured_epoch != epoch:
            self._captured, self._captured_epoch = {}, epoch
        group = captured_group(self._options, core)
        template = self._captured.get(group)
        if template is None:
            template = self._captured[group] = self._make_template(group)
        return template

    def _make_template(self, captured: bytes | None) -> TaskTemplate:
        function, options = self._definition.value, self._options
        blob, refs = self._definition.pickled()
        retries, retry_on = options.get("max_retries"), options.get("retry_exceptions")
        resources = resource_demand(options, default_cpus=1)
        environment = resolve(options.get("runtime_env"))
        return TaskTemplate(
            name=options.get("name") or function.__name__,
            function=blob,
            num_returns=native_num_returns(
                options.get("num_returns"), is_generator(function), function.__name__
            ),
            resources=resources,
            max_retries=_MAX_RETRIES_DEFAULT if retries is None else retries,
            retry_exceptions=bool(retry_on),
            exception_types=pickle_exception_types(retry_on),
            contained_refs=refs,
            stream_backpressure=stream_backpressure(options),
            objects_per_yield=objects_per_yield(options),
            max_calls=options.get("max_calls") or 0,
            runtime_env_hash=environment.hash,
            runtime_env=environment.text,
            strategy=strategy_for(options, resources, function.__name__, captured),
        )


class RemoteFunction(TaskCaller[P, R]):
    """A function whose calls run as tasks in worker processes.

    Made by ``@ray.remote``; call it with ``.remote(...)``. It can be passed to tasks and actors
    like any value.

    >>> import ray
    >>> @ray.remote
    ... def add(a, b):
    ...     return a + b
    >>> ray.get(add.options(name="sum").remote(1, b=2))
    3

    Args:
        function: the plain function.
        options: as ``RemoteFunction.options`` takes them.

    Raises:
        ValueError: an ``async def`` function, an unknown option or a bad value.
        TypeError: an option of a wrong type.

    Threads: any. The function is pickled at the first call in a session, in the calling thread.

    Source: https://docs.ray.io/en/latest/ray-core/tasks.html, conformance core/test_core_tasks.py.
    """

    def __init__(self, function: Callable[P, Any], options: Mapping[str, Any]) -> None:
        check_options(options, TASK_OPTIONS, "remote functions")
        if inspect.iscoroutinefunction(function):
            raise ValueError(
                "'async def' should not be used for remote tasks. Use a plain function that calls"
                " asyncio.run(...), or a method of an actor."
            )
        definition = Definition(function, f"the function {function.__name__}")
        super().__init__(definition, Arity.of_function(function), dict(options))
        self._callers: dict[Any, TaskCaller[P, R]] = {}
        self.__doc__ = function.__doc__
        self.__wrapped__ = function

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Refuses: a remote function does not run in its caller.

        Raises:
            TypeError: always; the message names ``.remote()``.
        """
        name = self._definition.value.__name__
        raise TypeError(
            f"Remote functions cannot be called directly. Instead of running '{name}()', try"
            f" '{name}.remote()'."
        )

    @overload
    def options(
        self, *, num_returns: int | str | None, **task_options: Any
    ) -> TaskCaller[P, Any]: ...
    @overload
    def options(self, **task_options: Any) -> TaskCaller[P, R]: ...
    def options(self, **task_options: Any) -> TaskCaller[P, Any]:
        """The same function with other options, for one or more calls. This object does not change.

        Args:
            **task_options: num_cpus, num_gpus, memory (bytes), resources (by name),
                accelerator_type, num_returns, max_retries (-1: without limit), retry_exceptions
                (bool, or a list of exception types), name, scheduling_strategy ("DEFAULT",
                "SPREAD", or one of ray.util.scheduling_strategies), label_selector (rules for the
                node's labels, by key), fallback_strategy (other rules if no node meets those),
                enable_task_events, runtime_env (a dict or RuntimeEnv, joined with that of this
                process); also placement_group, placement_group_bundle_index and
                placement_group_capture_child_tasks, the older way to name a bundle. Those not given
                stay as declared.

        Returns:
            An object whose ``.remote(...)`` submits tasks with these options.

        Raises:
            ValueError: an unknown option (the message lists the valid ones) or a value out of
                range.
            TypeError: a value of a wrong type.
        """
        check_objects_per_yield_stays(task_options, self._options, "task", "ray.remote")
        check_options(task_options, TASK_OPTIONS, "remote functions")
        key = freeze_options(task_options)
        caller = self._callers.get(key)
        if caller is None:
            caller = TaskCaller(self._definition, self._arity, {**self._options, **task_options})
            if len(self._callers) >= _CALLERS_MAX:
                self._callers.clear()  # A program that makes options anew again and again.
            self._callers[key] = caller
        return caller

    def __getstate__(self) -> tuple[Callable[P, Any], Mapping[str, Any]]:
        return self._definition.value, self._options

    def __setstate__(self, state: tuple[Callable[P, Any], Mapping[str, Any]]) -> None:
        self.__init__(*state)  # type: ignore[misc]


def pickle_exception_types(retry_exceptions: bool | list[Any] | tuple[Any, ...] | None) -> bytes:
    """The ``exception_types`` of a TaskTemplate, b"" for all of them, of the option
    ``retry_exceptions``."""
    if not retry_exceptions or isinstance(retry_exceptions, bool):
        return b""
    return pickle_definition(tuple(retry_exceptions), "the option retry_exceptions")[0]
