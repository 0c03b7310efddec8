"""What callers know of an actor class: its methods, and how each may be called."""

from __future__ import annotations

import functools
import inspect
import pickle
from collections.abc import Mapping
from typing import Any, NamedTuple

from ray._generators import is_generator, native_num_returns
from ray._options import freeze_options, objects_per_yield, stream_backpressure
from ray._raylet import TaskTemplate
from ray._signature import Arity
from ray.remote_function import pickle_exception_types

# The attribute in which ray.method keeps its options on a function.
METHOD_OPTIONS_ATTRIBUTE = "__ray_method_options__"

# Templates of one class that are remembered for method.options(...).
_TEMPLATES_MAX = 256


class MethodSpec(NamedTuple):
    """What callers know of one method: how it may be called, and the options given by
    ``ray.method``."""

    arity: Arity
    options: dict[str, Any]
    is_generator: bool = False


def call_key(method: str, transport: str) -> str:
    """What an actor's process is told to call.

    Args:
        method: by name.
        transport: keeps the tensors of the result in that process; "": none does.
    """
    return f"{method}@{transport}" if transport else method


class ActorInterface:
    """What a handle knows of its class. Travels as the ``handle_blob`` wherever handles go.

    Args:
        class_name: as users call it.
        methods: by name.
        max_task_retries: of calls that do not say theirs; -1: without limit.
        stream_backpressure: items of all its generators that may wait to be read; 0: no limit.
        tensor_transport: whether calls may leave tensors with the actor.

    Threads: any.
    """

    def __init__(
        self,
        class_name: str,
        methods: dict[str, MethodSpec],
        max_task_retries: int,
        stream_backpressure: int,
        tensor_transport: bool,
    ) -> None:
        self.class_name = class_name
        self.methods = methods
        state = class_name, methods, max_task_retries, stream_backpressure, tensor_transport
        self.blob = pickle.dumps(state, protocol=5)
        self._tensor_transport = tensor_transport
        self._max_task_retries = max_task_retries
        self._stream_backpressure = stream_backpressure
        self._templates: dict[Any, TaskTemplate] = {}

    @staticmethod
    @functools.lru_cache(maxsize=256)
    def from_blob(blob: bytes) -> ActorInterface:
        """The interface that made ``blob``; the same object for equal bytes, so that its templates
        are shared."""
        return ActorInterface(*pickle.loads(blob))

    def transport(self, method: str, options: Mapping[str, Any]) -> str:
        """By which tensor transport calls of ``method`` leave the tensors of their results where
        they are, in capitals; "": they do not.

        Args:
            method: by name.
            options: those that are not the method's own.

        Raises:
            ValueError: ``options`` name one, and the actor was not created for that.
        """
        name = options.get("tensor_transport")
        if name is not None and not self._tensor_transport:
            raise ValueError(
                f"{self.class_name}.{method} cannot be called with tensor_transport={name!r}: its"
                " actor was not created with @ray.remote(enable_tensor_transport=True)."
            )
        if name is None:
            name = self.methods[method].options.get("tensor_transport")
        return "" if name is None or name.upper() == "OBJECT_STORE" else name.upper()

    def template(self, method: str, options: Mapping[str, Any]) -> TaskTemplate:
        """The constant part of calls of ``method``, with these options over those it was declared
        with."""
        key = (method, freeze_options(options))
        template = self._templates.get(key)
        if template is None:
            template = self._make_template(method, {**self.methods[method].options, **options})
            if len(self._templates) < _TEMPLATES_MAX:
                self._templates[key] = template
        return template

    def _make_template(self, method: str, options: Mapping[str, Any]) -> TaskTemplate:
        retries, retry_on = options.get("max_task_retries"), options.get("retry_exceptions")
        full_name = f"{self.class_name}.{method}"
        transport = self.transport(method, options)
        num_returns = native_num_returns(
            options.get("num_returns"), self.methods[method].is_generator, full_name
        )
        if transport and num_returns != 1:
            raise ValueError(
                f"{full_name} has tensor_transport={transport!r} and must return one value"
                " (num_returns=1): return a list or a dict of what belongs together."
            )
        return TaskTemplate(
            name=options.get("name") or full_name,
            function=call_key(method, transport).encode(),
            num_returns=num_returns,
            resources={},
            max_retries=self._max_task_retries if retries is None else retries,
            retry_exceptions=bool(retry_on),
            exception_types=pickle_exception_types(retry_on),
            concurrency_group=options.get("concurrency_group") or "",
            stream_backpressure=stream_backpressure(options, self._stream_backpressure),
            objects_per_yield=objects_per_yield(options),
        )


def find_methods(cls: type) -> dict[str, MethodSpec]:
    """The methods of a class by name: inherited, static, class and special ones too, but not those
    of ``object``."""
    methods = {name: MethodSpec(arity, {}) for name, arity in _EVERY_ACTORS_METHODS.items()}
    for name in dir(cls):
        attribute = inspect.getattr_static(cls, name)
        if inspect.getattr_static(object, name, None) is attribute:
            continue
        if isinstance(attribute, staticmethod):
            arity = Arity.of_function(attribute.__func__)
        elif isinstance(attribute, classmethod):
            arity = Arity.of_method(attribute.__func__)
        elif inspect.isroutine(attribute):
            arity = Arity.of_method(attribute)
        else:
            continue
        function = getattr(attribute, "__func__", attribute)
        options = getattr(function, METHOD_OPTIONS_ATTRIBUTE, {})
        methods[name] = MethodSpec(arity, options, is_generator(function))
    return methods


# Methods that the worker answers for every class; see _worker_main.
_EVERY_ACTORS_METHODS = {
    "__ray_ready__": Arity.of_function(lambda: None),
    "__ray_call__": Arity.of_function(lambda function, /, *args, **kwargs: None),
    "__ray_terminate__": Arity.of_function(lambda: None),
}


def constructor_arity(cls: type) -> Arity:
    """What a class may be created with."""
    if cls.__init__ is not object.__init__:  # type: ignore[misc]
        return Arity.of_method(cls.__init__)  # type: ignore[misc]
    if cls.__new__ is not object.__new__:  # type: ignore[comparison-overlap]
        return Arity.of_method(cls.__new__)
    return Arity([])


def is_asynchronous(function: Any) -> bool:
    """Whether calls of it run on the event loop of an asyncio actor."""
    return inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function)
