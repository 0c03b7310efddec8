"""What all nodes of a graph of calls have in common: what they are bound to, traversal, execution.

Source: https://docs.ray.io/en/latest/ray-core/ray-dag.html, conformance
actors/test_context_metrics_dag.py.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from ray._raylet import ObjectRef
from ray.dag._nested_nodes import NestedNodes
from ray.dag.base import DAGNodeBase
from ray.dag.format_utils import get_dag_node_str
from ray.dag.input_data import DAGInputData

T = TypeVar("T")


class DAGNode(DAGNodeBase):
    """A call that is described and not made yet; its arguments may be other nodes, however deep
    inside. ``execute`` makes it.

    Nodes come from ``bind``: of remote functions, actor classes, and methods of either a bound
    class or a living actor. A node does not change. It can be pickled, but a graph is meant to be
    executed where it was made.

    >>> import ray
    >>> @ray.remote
    ... def add(a, b):
    ...     return a + b
    >>> node = add.bind(add.bind(1, 2), 10)
    >>> ray.get(node.execute())
    13

    Args:
        args: positional arguments of the call.
        kwargs: keyword arguments of the call.
        options: options of the task, actor or method.
        other_args_to_resolve: what else the node depends on; may hold nodes, too.

    Raises:
        TypeError: an argument cannot be serialized.
    """

    def __init__(
        self,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        options: Mapping[str, Any],
        other_args_to_resolve: Mapping[str, Any] | None,
    ) -> None:
        self._args = tuple(args)
        self._kwargs = dict(kwargs)
        self._options = dict(options)
        self._others = dict(other_args_to_resolve or {})
        self._uuid = uuid.uuid4().hex
        self._nested = NestedNodes((self._args, self._kwargs, self._others))
        self._last_refs: dict[str, ObjectRef[Any]] = {}

    # -- what it is bound to

    def get_args(self) -> tuple[Any, ...]:
        """The positional arguments it is bound to."""
        return self._args

    def get_kwargs(self) -> dict[str, Any]:
        """A copy of the keyword arguments it is bound to."""
        return dict(self._kwargs)

    def get_options(self) -> dict[str, Any]:
        """A copy of the options its call is made with."""
        return dict(self._options)

    def get_other_args_to_resolve(self) -> dict[str, Any]:
        """A copy of what it depends on besides arguments, by the keys of ``ray.dag.constants``."""
        return dict(self._others)

    def get_stable_uuid(self) -> str:
        """32 hex digits that this node shares only with its copies."""
        return self._uuid

    # -- execution

    def execute(self, *args: Any, _ray_cache_refs: bool = False, **kwargs: Any) -> Any:
        """Makes all calls that this node needs, each once, and its own call last.

        Returns at once, as ``remote`` does, with nothing computed yet.

        Args:
            *args: the input, for the graph's InputNode: a single positional argument is the input
                itself; several, or keyword arguments, are found by index and name.
            _ray_cache_refs: remember the references of all calls for
                ``get_object_refs_from_last_execute``.
            **kwargs: further parts of the input, by name.

        Returns:
            What the call returns at once: an ObjectRef (a list of them with ``num_returns``), an
            ActorHandle for a ClassNode, a list for a MultiOutputNode.

        Raises:
            TypeError: arguments do not fit a signature.
            AssertionError: an InputNode was not made by ``with InputNode() as ...``.
            IndexError, KeyError, AttributeError: the input lacks a part.
        """
        graph_input = args[0] if len(args) == 1 and not kwargs else DAGInputData(*args, **kwargs)
        results: dict[DAGNode, Any] = {}
        for node in self._in_order():
            bound_args, bound_kwargs, others = node._nested.replace(results.__getitem__)
            results[node] = node._run(bound_args, bound_kwargs, others, graph_input)
        if _ray_cache_refs:
            self._last_refs = {
                node._uuid: result
                for node, result in results.items()
                if isinstance(result, ObjectRef)
            }
        return results[self]

    async def get_object_refs_from_last_execute(self) -> dict[str, ObjectRef[Any]]:
        """The references that the last ``execute(_ray_cache_refs=True)`` of this node made, by
        ``get_stable_uuid()`` of the node they belong to. Empty if there was none."""
        return dict(self._last_refs)

    def clear_cache(self) -> None:
        """Forgets the references of the last execution."""
        self._last_refs = {}

    def _run(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], others: dict[str, Any], data: Any
    ) -> Any:
        """Makes this node's own call. The arguments have results in the places of nodes; ``data``
        is the input of the whole graph."""
        raise NotImplementedError

    def with_tensor_transport(
        self,
        transport: str = "auto",
        device: str = "default",
        _static_shape: bool = False,
        _direct_return: bool = False,
    ) -> DAGNode:
        """How a compiled graph is to move the tensors of this node's result; ``execute`` makes
        calls as they are, and follows ``@ray.method(tensor_transport=...)`` instead.

        Args:
            transport: "auto", "nccl", "shm" or "accelerator".
            device: where they are to be: "default" (as at the sender), "cpu", "gpu" or "cuda".
            _static_shape: whether shapes and dtypes stay the same.
            _direct_return: whether the result is a tensor, with nothing around it.

        Returns:
            This node.

        Raises:
            ValueError: another transport or device.
        """
        for name, value, allowed in (
            ("transport", transport, ("auto", "nccl", "shm", "accelerator")),
            ("device", device, ("default", "cpu", "gpu", "cuda")),
        ):
            if value not in allowed:
                raise ValueError(f"Invalid {name} {value!r}: it must be one of {allowed}.")
        return self

    # -- traversal

    def traverse_and_apply(self, fn: Callable[[DAGNode], Any]) -> None:
        """Calls ``fn`` with each node that this one needs, once and after the nodes that it needs
        itself; with this node last."""
        for node in self._in_order():
            fn(node)

    def apply_recursive(self, fn: Callable[[DAGNode], T]) -> T:
        """Transforms the graph from its leaves up.

        Args:
            fn: called once a node with a copy of it whose nodes are replaced by what ``fn``
                returned for them. The copy has the uuid of the original.

        Returns:
            What ``fn`` returned for this node.
        """
        results: dict[DAGNode, Any] = {}
        for node in self._in_order():
            args, kwargs, others = node._nested.replace(results.__getitem__)
            results[node] = fn(node._copy(args, kwargs, others))
        return results[self]  # type: ignore[no-any-return]

    def apply_functional(
        self,
        source_input_list: Any,
        predicate_fn: Callable[[DAGNode], bool],
        apply_fn: Callable[[DAGNode], Any],
    ) -> Any:
        """A copy of any value, ``source_input_list``, with ``apply_fn(node)`` for those nodes
        directly inside it that ``predicate_fn`` holds for."""
        return NestedNodes(source_input_list).replace(
            lambda node: apply_fn(node) if predicate_fn(node) else node
        )

    def _in_order(self) -> list[DAGNode]:
        """This node and all it needs, each once, what is needed first. Not recursive: graphs may be
        deeper than Python's stack."""
        order: dict[DAGNode, None] = {}
        stack: list[tuple[DAGNode, bool]] = [(self, False)]
        while stack:
            node, children_done = stack.pop()
            if node in order:
                continue
            if children_done:
                order[node] = None
            else:
                stack.append((node, True))
                stack.extend((child, False) for child in reversed(node._nested.nodes))
        return list(order)

    def _copy(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], others: dict[str, Any]
    ) -> DAGNode:
        return _make(type(self), self._constructor_arguments(args, kwargs, others), self._uuid)

    def _constructor_arguments(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], others: dict[str, Any]
    ) -> dict[str, Any]:
        """What the constructor of this class makes such a node of, bound to other arguments."""
        raise NotImplementedError

    def __reduce__(self) -> tuple[Any, ...]:
        arguments = self._constructor_arguments(self._args, self._kwargs, self._others)
        return _make, (type(self), arguments, self._uuid)

    # -- for people

    def _body(self) -> str:
        """What is called, in a line."""
        return f"<{type(self).__name__}>"

    def __str__(self) -> str:
        return get_dag_node_str(self, self._body())

    def __getattr__(self, name: str) -> Any:
        if name == "remote":
            raise AttributeError(
                f".remote() cannot be used on {type(self)}. To execute the task graph for this"
                " node, use .execute()."
            )
        if name == "bind":
            raise AttributeError(
                f".bind() cannot be used again on {type(self)}: it is bound already."
            )
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")


def _make(cls: type[DAGNode], arguments: dict[str, Any], stable_uuid: str) -> DAGNode:
    node = cls(**arguments)
    node._uuid = stable_uuid
    return node
