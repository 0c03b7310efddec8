"""The nodes that stand for the input of a graph."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ray.dag.dag_node import DAGNode
from ray.dag.input_data import DAGInputData

IN_CONTEXT_MANAGER = "__in_context_manager__"

_INPUT_NODE = "dag_input_node"
_KEY = "key"
_ACCESSOR = "accessor_method"
_RESULT_TYPE = "result_type_string"


class InputNode(DAGNode):
    """Stands for what ``execute`` is called with.

    Used whole, it is the single argument of ``execute``. ``x[0]``, ``x["name"]`` and ``x.name`` are
    parts of it: an argument by position or name, or an item or attribute of the single argument.

    >>> import ray
    >>> @ray.remote
    ... def scale(value, factor):
    ...     return value * factor
    >>> with InputNode() as x:
    ...     graph = scale.bind(x[0], x.factor)
    >>> ray.get(graph.execute(4, factor=10))
    40

    Args:
        input_type: the type of the input, or a mapping from keys to the types of its parts; only
            documents.
        _other_args_to_resolve: of a copy.

    Raises:
        ValueError: ``*args`` or ``**kwargs``, any other argument, was given.

    Source: https://docs.ray.io/en/latest/ray-core/ray-dag.html, conformance
    actors/test_context_metrics_dag.py::test_graph_with_several_inputs.
    """

    def __init__(
        self,
        *args: Any,
        input_type: type | Mapping[int | str, type] | None = None,
        _other_args_to_resolve: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        if args or kwargs:
            raise ValueError("InputNode should not take any args or kwargs.")
        self.input_type = input_type
        super().__init__((), {}, {}, _other_args_to_resolve)

    def get_result_type(self) -> str | None:
        """Name of the input's type, if it was given."""
        return self.input_type.__name__ if isinstance(self.input_type, type) else None

    def set_context(self, key: str, val: Any) -> None:
        """Sets the entry ``key`` of ``get_other_args_to_resolve()`` to ``val``."""
        self._others[key] = val

    def __enter__(self) -> InputNode:
        """The node itself; only in such a block may it be used to build a graph."""
        self.set_context(IN_CONTEXT_MANAGER, True)
        return self

    def __exit__(self, *args: Any) -> None:
        """Ends the block; the node stays usable."""

    def __getitem__(self, key: int | str) -> InputAttributeNode:
        """The part of the input with this index or name.

        Raises:
            AssertionError: neither an int nor a str.
        """
        if not isinstance(key, (int, str)):
            raise AssertionError(
                "Please only use int index or str as first-level key to access fields of dag"
                f" input, not {key!r}."
            )
        return self._part(key, "__getitem__")

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # Python's own questions: copy, pickle, inspect ...
            raise AttributeError(f"'InputNode' object has no attribute {name!r}")
        return self._part(name, "__getattr__")

    def _part(self, key: int | str, accessor: str) -> InputAttributeNode:
        types = self.input_type if isinstance(self.input_type, Mapping) else {}
        type_name = types[key].__name__ if key in types else None
        return InputAttributeNode(self, key, accessor, type_name)

    def _run(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], others: dict[str, Any], data: Any
    ) -> Any:
        if not others.get(IN_CONTEXT_MANAGER):
            raise AssertionError(
                "An InputNode must be made by 'with InputNode() as x:' and the graph be built in"
                " that block, to be executed."
            )
        return data

    def _constructor_arguments(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], others: dict[str, Any]
    ) -> dict[str, Any]:
        return {"input_type": self.input_type, "_other_args_to_resolve": others}

    def _body(self) -> str:
        return "__InputNode__"


class InputAttributeNode(DAGNode):
    """Stands for a part of a graph's input; see InputNode.

    >>> with InputNode() as x:
    ...     x["factor"].key
    'factor'

    Args:
        dag_input_node: the whole input.
        key: index or name of the part.
        accessor_method: "__getitem__" or "__getattr__": how the part is asked of a single argument.
        input_type: name of the part's type, if it is known.
    """

    def __init__(
        self,
        dag_input_node: InputNode,
        key: int | str,
        accessor_method: str,
        input_type: str | None = None,
    ) -> None:
        others = {
            _INPUT_NODE: dag_input_node,
            _KEY: key,
            _ACCESSOR: accessor_method,
            _RESULT_TYPE: input_type,
        }
        super().__init__((), {}, {}, others)

    @property
    def key(self) -> int | str:
        """Index or name of the part."""
        key: int | str = self._others[_KEY]
        return key

    def get_result_type(self) -> str | None:
        """Name of the part's type, if it is known."""
        name: str | None = self._others[_RESULT_TYPE]
        return name

    def _run(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], others: dict[str, Any], data: Any
    ) -> Any:
        whole, key = others[_INPUT_NODE], others[_KEY]
        if isinstance(whole, DAGInputData) or others[_ACCESSOR] == "__getitem__":
            return whole[key]
        return getattr(whole, key)

    def _constructor_arguments(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], others: dict[str, Any]
    ) -> dict[str, Any]:
        return {
            "dag_input_node": others[_INPUT_NODE],
            "key": others[_KEY],
            "accessor_method": others[_ACCESSOR],
            "input_type": others[_RESULT_TYPE],
        }

    def _body(self) -> str:
        return f'["{self.key}"]'
