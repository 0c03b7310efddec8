"""Nodes as text."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from ray.dag.base import DAGNodeBase

if TYPE_CHECKING:
    from ray.dag.dag_node import DAGNode

_INDENT = "    "


def get_dag_node_str(dag_node: DAGNode, body_line: str) -> str:
    """A node and what it is bound to, as several lines.

    Args:
        dag_node: the node.
        body_line: what it calls.

    >>> from ray.dag import InputNode
    >>> print(get_dag_node_str(InputNode(), "input").partition(",")[0])
    (InputNode
    """
    parts = [
        f"body={body_line}",
        "args=" + _list(dag_node.get_args()),
        "kwargs=" + _mapping(dag_node.get_kwargs()),
        "options=" + _mapping(dag_node.get_options()),
        "other_args_to_resolve=" + _mapping(dag_node.get_other_args_to_resolve()),
    ]
    lines = textwrap.indent("\n".join(parts), _INDENT)
    return f"({type(dag_node).__name__}, {dag_node.get_stable_uuid()})(\n{lines}\n)"


def _list(values: Iterable[Any]) -> str:
    lines = "".join(f"{_text(value)},\n" for value in values)
    return f"[\n{textwrap.indent(lines, _INDENT)}]" if lines else "[]"


def _mapping(values: Mapping[str, Any]) -> str:
    lines = "".join(f"{name}: {_text(value)}\n" for name, value in values.items())
    return f"{{\n{textwrap.indent(lines, _INDENT)}}}" if lines else "{}"


def _text(value: Any) -> str:
    return str(value) if isinstance(value, DAGNodeBase) else repr(value)
