"""Keys under which nodes of a graph keep what is neither an argument nor an option.

They are those of ``DAGNode.get_other_args_to_resolve()``.
"""

DAGNODE_TYPE_KEY = "__dag_node_type__"

# Of a method's node: the ClassNode or actor handle it is called on, the call bound before it to the
# same ClassNode, and its number among the calls bound to a live actor.
PARENT_CLASS_NODE_KEY = "parent_class_node"
PREV_CLASS_METHOD_CALL_KEY = "prev_class_method_call"
BIND_INDEX_KEY = "bind_index"

# Of a node that stands for one of the several results of a method's call.
IS_CLASS_METHOD_OUTPUT_KEY = "is_class_method_output"

COLLECTIVE_OPERATION_KEY = "collective_operation"
