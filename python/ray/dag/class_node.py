"""Actors to be made, and calls of actors, in a graph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ray._options import METHOD_OPTIONS, check_options
from ray.actor import ActorCaller, ActorClass, ActorHandle
from ray.dag.constants import (
    IS_CLASS_METHOD_OUTPUT_KEY,
    PARENT_CLASS_NODE_KEY,
    PREV_CLASS_METHOD_CALL_KEY,
)
from ray.dag.dag_node import DAGNode


class ClassNode(DAGNode):
    """An actor to be made, anew in each ``execute``; what ``bind`` of an actor class gives.

    Its attributes are the methods of the class. The calls bound to them are made in the order in
    which they were bound, also those bound earlier that the executed node does not use.

    >>> import ray
    >>> @ray.remote(num_cpus=0)
    ... class Total:
    ...     def __init__(self, start):
    ...         self.total = start
    ...     def add(self, n):
    ...         self.total += n
    ...         return self.total
    >>> total = Total.bind(100)
    >>> ray.get(total.add.bind(5).execute())
    105

    Args:
        cls: the class, plain or as ``@ray.remote`` made it.
        cls_args: positional arguments of its constructor; nodes in them become their results.
        cls_kwargs: keyword arguments, in the same way.
        cls_options: options of the actor.
        other_args_to_resolve: further nodes to execute first.

    Source: https://docs.ray.io/en/latest/ray-core/ray-dag.html, conformance
    actors/test_context_metrics_dag.py::test_class_bind.
    """

    def __init__(
        self,
        cls: type | ActorCaller[Any],
        cls_args: Sequence[Any],
        cls_kwargs: Mapping[str, Any],
        cls_options: Mapping[str, Any],
        other_args_to_resolve: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(cls_args, cls_kwargs, cls_options, other_args_to_resolve)
        self._caller = cls if isinstance(cls, ActorCaller) else ActorClass.of(cls, cls_options)
        self._last_call: ClassMethodNode | None = None

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name in ("bind", "remote"):
            return super().__getattr__(name)
        blueprint = self._caller._blueprint
        if name not in blueprint.methods:
            raise AttributeError(f"type object {blueprint.name!r} has no attribute {name!r}")
        return UnboundMethod(self, name, {})

    def _run(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], others: dict[str, Any], data: Any
    ) -> Any:
        return self._caller.remote(*args, **kwargs)

    def _constructor_arguments(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], others: dict[str, Any]
    ) -> dict[str, Any]:
        return {
            "cls": self._caller._blueprint.definition.value,
            "cls_args": args,
            "cls_kwargs": kwargs,
            "cls_options": self._options,
            "other_args_to_resolve": others,
        }

    def _body(self) -> str:
        return repr(self._caller._blueprint.definition.value)


class UnboundMethod:
    """A method of a ClassNode, to be bound to arguments."""

    def __init__(self, actor: ClassNode, method_name: str, options: Mapping[str, Any]) -> None:
        self._actor = actor
        self._method_name = method_name
        self._options = options

    def bind(self, *args: Any, **kwargs: Any) -> ClassMethodNode:
        """A node for a call with these arguments, after the calls bound so far.

        Raises:
            TypeError: an argument cannot be serialized.
        """
        others = {
            PARENT_CLASS_NODE_KEY: self._actor,
            PREV_CLASS_METHOD_CALL_KEY: self._actor._last_call,
        }
        node = ClassMethodNode(self._method_name, args, kwargs, self._options, others)
        self._actor._last_call = node
        return node

    def options(self, **options: Any) -> UnboundMethod:
        """The same method with options, as ``ActorMethod.options``.

        Raises:
            ValueError: an unknown option, or a value out of range.
            TypeError: a value of a wrong type.
        """
        check_options(options, METHOD_OPTIONS, "actor methods")
        return UnboundMethod(self._actor, self._method_name, options)

    def __getattr__(self, name: str) -> Any:
        if name == "remote":
            raise AttributeError(
                ".remote() cannot be used on ClassMethodNodes. Use .bind() instead to express an"
                " symbolic actor call."
            )
        raise AttributeError(f"'UnboundMethod' object has no attribute {name!r}")


class ClassMethodNode(DAGNode):
    """A call of an actor, or one of the several results of such a call.

    >>> import ray
    >>> @ray.remote
    ... class Adder:
    ...     def __init__(self, start):
    ...         self.start = start
    ...     def add(self, x):
    ...         return self.start + x
    >>> call = Adder.bind(10).add.bind(5)
    >>> call.get_method_name(), ray.get(call.execute())
    ('add', 15)

    Args:
        method_name: which method.
        method_args: positional arguments; nodes in them become their results. For one of several
            results: the node of the call, and the index.
        method_kwargs: keyword arguments, in the same way.
        method_options: options of the call.
        other_args_to_resolve: the ClassNode or actor handle, by PARENT_CLASS_NODE_KEY, and whatever
            else is to be executed first.

    Source: https://docs.ray.io/en/latest/ray-core/ray-dag.html, conformance
    actors/test_context_metrics_dag.py::test_class_bind.
    """

    def __init__(
        self,
        method_name: str,
        method_args: Sequence[Any],
        method_kwargs: Mapping[str, Any],
        method_options: Mapping[str, Any],
        other_args_to_resolve: Mapping[str, Any],
    ) -> None:
        super().__init__(method_args, method_kwargs, method_options, other_args_to_resolve)
        self._method_name = method_name

    def get_method_name(self) -> str:
        """Name of the method; "return_idx_1" and so on for one of several results."""
        return self._method_name

    @property
    def is_class_method_output(self) -> bool:
        """Whether this is one of the several results of a call."""
        return bool(self._others.get(IS_CLASS_METHOD_OUTPUT_KEY))

    @property
    def is_class_method_call(self) -> bool:
        """Whether this is a call."""
        return not self.is_class_method_output

    @property
    def class_method_call(self) -> ClassMethodNode | None:
        """The call that this is one of the results of; None if this is the call itself."""
        return self._args[0] if self.is_class_method_output else None

    @property
    def output_idx(self) -> int | None:
        """Which of the results this is; None if this is the call itself."""
        return self._args[1] if self.is_class_method_output else None

    @property
    def num_returns(self) -> int:
        """How many results the call has."""
        call = self.class_method_call or self
        returns: int = call._options.get("num_returns", 1)
        return returns

    def _run(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], others: dict[str, Any], data: Any
    ) -> Any:
        if self.is_class_method_output:
            results, index = args
            return results[index]
        method = getattr(others[PARENT_CLASS_NODE_KEY], self._method_name)
        if self._options:
            method = method.options(**self._options)
        return method.remote(*args, **kwargs)

    def _constructor_arguments(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], others: dict[str, Any]
    ) -> dict[str, Any]:
        return {
            "method_name": self._method_name,
            "method_args": args,
            "method_kwargs": kwargs,
            "method_options": self._options,
            "other_args_to_resolve": others,
        }

    def _body(self) -> str:
        return f"{self._method_name}()"

    __repr__ = DAGNode.__str__


def bind_method(
    actor: ActorHandle[Any],
    method_name: str,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    options: Mapping[str, Any],
) -> ClassMethodNode | tuple[ClassMethodNode, ...]:
    """What ``handle.method.bind`` gives.

    Returns:
        The node of the call; with ``num_returns=n > 1`` a tuple of a node for each result.
    """
    node = ClassMethodNode(method_name, args, kwargs, options, {PARENT_CLASS_NODE_KEY: actor})
    if not isinstance(node.num_returns, int) or node.num_returns < 2:
        return node
    others = {PARENT_CLASS_NODE_KEY: actor, IS_CLASS_METHOD_OUTPUT_KEY: True}
    return tuple(
        ClassMethodNode(f"return_idx_{index}", (node, index), {}, {}, others)
        for index in range(node.num_returns)
    )
