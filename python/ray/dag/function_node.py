"""A call of a remote function in a graph."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ray.dag.dag_node import DAGNode
from ray.remote_function import RemoteFunction, TaskCaller


class FunctionNode(DAGNode):
    """A task to be submitted; what ``bind`` of a remote function gives.

    >>> import ray
    >>> @ray.remote
    ... def double(x):
    ...     return 2 * x
    >>> ray.get(double.bind(double.bind(3)).execute())
    12

    Args:
        func_body: the function, plain or as ``@ray.remote`` made it.
        func_args: positional arguments; nodes in them become their results.
        func_kwargs: keyword arguments, in the same way.
        func_options: options of the task.
        other_args_to_resolve: further nodes to execute first.

    Source: https://docs.ray.io/en/latest/ray-core/ray-dag.html, conformance
    actors/test_context_metrics_dag.py::test_function_graph.
    """

    def __init__(
        self,
        func_body: Callable[..., Any] | TaskCaller[..., Any],
        func_args: Sequence[Any],
        func_kwargs: Mapping[str, Any],
        func_options: Mapping[str, Any],
        other_args_to_resolve: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(func_args, func_kwargs, func_options, other_args_to_resolve)
        if not isinstance(func_body, TaskCaller):
            func_body = RemoteFunction(func_body, func_options)
        self._caller = func_body

    def _run(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], others: dict[str, Any], data: Any
    ) -> Any:
        return self._caller.remote(*args, **kwargs)

    def _constructor_arguments(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], others: dict[str, Any]
    ) -> dict[str, Any]:
        return {
            "func_body": self._caller._definition.value,
            "func_args": args,
            "func_kwargs": kwargs,
            "func_options": self._options,
            "other_args_to_resolve": others,
        }

    def _body(self) -> str:
        return repr(self._caller._definition.value)
