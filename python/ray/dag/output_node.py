"""Several results of a graph as one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ray.dag.dag_node import DAGNode


class MultiOutputNode(DAGNode):
    """Ends a graph that has several results; ``execute`` gives a list of them.

    >>> import ray
    >>> from ray.dag import InputNode
    >>> @ray.remote
    ... def power(base, exponent):
    ...     return base**exponent
    >>> with InputNode() as x:
    ...     graph = MultiOutputNode([power.bind(x, 2), power.bind(x, 3)])
    >>> ray.get(graph.execute(10))
    [100, 1000]

    Args:
        args: a list or tuple of nodes, or a single one.
        other_args_to_resolve: further nodes to execute first.

    Raises:
        ValueError: neither a node nor a list or tuple.

    Source: https://docs.ray.io/en/latest/ray-core/ray-dag.html, conformance
    actors/test_context_metrics_dag.py::test_graph_with_several_outputs.
    """

    def __init__(
        self,
        args: DAGNode | list[Any] | tuple[Any, ...],
        other_args_to_resolve: Mapping[str, Any] | None = None,
    ) -> None:
        if isinstance(args, DAGNode):
            args = (args,)
        if not isinstance(args, (list, tuple)):
            raise ValueError(f"Invalid input type for `args`, {type(args)}.")
        super().__init__(args, {}, {}, other_args_to_resolve)

    def _run(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], others: dict[str, Any], data: Any
    ) -> Any:
        return list(args)

    def _constructor_arguments(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], others: dict[str, Any]
    ) -> dict[str, Any]:
        return {"args": args, "other_args_to_resolve": others}

    def _body(self) -> str:
        return "__MultiOutputNode__"
