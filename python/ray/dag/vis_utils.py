"""Graphs as pictures."""

from __future__ import annotations

from typing import Any

from ray.dag.dag_node import DAGNode


def plot(dag: DAGNode, to_file: str | None = None) -> Any:
    """Draws a graph: a box for each node, with arrows from a node to those that need it.

    Needs the package ``pydot`` and Graphviz.

    >>> import ray
    >>> from ray.dag import InputNode, plot
    >>> @ray.remote
    ... def double(x):
    ...     return 2 * x
    >>> with InputNode() as x:
    ...     graph = double.bind(x)
    >>> picture = plot(graph, "graph.png")  # doctest: +SKIP

    Args:
        dag: the last node of the graph.
        to_file: path of the picture to write; the ending says the format. None: nothing is written.

    Returns:
        The picture, a ``pydot.Dot``, which notebooks show.

    Raises:
        ImportError: pydot is not installed.
        ValueError: ``to_file`` has no ending.
    """
    try:
        import pydot  # type: ignore[import-not-found,import-untyped,unused-ignore]
    except ImportError:
        raise ImportError(
            "pydot is required to plot DAG, install it with `pip install pydot`."
        ) from None
    picture = pydot.Dot(rankdir="LR")
    names: dict[DAGNode, str] = {}
    for node in dag._in_order():
        names[node] = f"node{len(names)}"
        picture.add_node(pydot.Node(names[node], label=node._body(), shape="box"))
        for child in dict.fromkeys(node._nested.nodes):
            picture.add_edge(pydot.Edge(names[child], names[node]))
    if to_file is not None:
        stem, dot, ending = to_file.rpartition(".")
        if not stem or not dot:
            raise ValueError(f"{to_file!r} has no ending that says the format, as '.png' does.")
        picture.write(to_file, format=ending)
    return picture
