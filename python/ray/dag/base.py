"""The root of the classes of nodes."""


class DAGNodeBase:
    """What every node of a graph derives from, for ``isinstance`` where ``ray.dag`` itself is too
    much to load.

    >>> from ray.dag import DAGNode
    >>> issubclass(DAGNode, DAGNodeBase)
    True

    Source: https://docs.ray.io/en/latest/ray-core/ray-dag.html.
    """
