"""Graphs of calls that are built first and executed later, as often as one likes.

``bind`` in the place of ``remote`` describes a call; ``execute`` makes all calls that a node needs.

>>> import ray
>>> from ray.dag import InputNode
>>> @ray.remote
... def add(a, b):
...     return a + b
>>> with InputNode() as x:
...     graph = add.bind(add.bind(x, 1), x)
>>> ray.get(graph.execute(5))
11

Source: https://docs.ray.io/en/latest/ray-core/ray-dag.html.
"""

from ray.dag.class_node import ClassMethodNode, ClassNode
from ray.dag.constants import (
    BIND_INDEX_KEY,
    COLLECTIVE_OPERATION_KEY,
    DAGNODE_TYPE_KEY,
    IS_CLASS_METHOD_OUTPUT_KEY,
    PARENT_CLASS_NODE_KEY,
    PREV_CLASS_METHOD_CALL_KEY,
)
from ray.dag.dag_node import DAGNode
from ray.dag.function_node import FunctionNode
from ray.dag.input_data import DAGInputData
from ray.dag.input_node import InputAttributeNode, InputNode
from ray.dag.output_node import MultiOutputNode
from ray.dag.vis_utils import plot

__all__ = [
    "BIND_INDEX_KEY",
    "COLLECTIVE_OPERATION_KEY",
    "DAGNODE_TYPE_KEY",
    "IS_CLASS_METHOD_OUTPUT_KEY",
    "PARENT_CLASS_NODE_KEY",
    "PREV_CLASS_METHOD_CALL_KEY",
    "ClassMethodNode",
    "ClassNode",
    "DAGInputData",
    "DAGNode",
    "FunctionNode",
    "InputAttributeNode",
    "InputNode",
    "MultiOutputNode",
    "plot",
]
