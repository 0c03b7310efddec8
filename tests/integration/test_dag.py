"""Graphs of calls: what is executed, in which order, with which input."""

import asyncio
import copy
import sys
import threading
import types

import pytest

import ray
from ray import cloudpickle
from ray.dag import DAGInputData, DAGNode, InputNode, MultiOutputNode, plot

pytestmark = pytest.mark.usefixtures("cluster")


@ray.remote(num_cpus=0)
def add(a, b=0):
    return a + b


@ray.remote(num_cpus=0)
def resolve(nested):
    """The value of the reference in any attribute, item or element."""
    refs = list(vars(nested).values()) if hasattr(nested, "__dict__") else list(nested)
    return [ray.get(ref) if isinstance(ref, ray.ObjectRef) else ref for ref in refs]


@ray.remote(num_cpus=0)
class Count:
    def __init__(self, start=0):
        self.total = start

    def add(self, n=1):
        self.total += n
        return self.total

    @ray.method(num_returns=2)
    def pair(self):
        return self.total, "two"


def test_node_used_twice_runs_once():
    count = Count.remote()
    once = count.add.bind()
    assert ray.get(add.bind(once, once).execute()) == 2
    assert ray.get(count.add.remote()) == 2


def test_nothing_runs_before_execute():
    count = Count.remote()
    count.add.bind(5)
    assert ray.get(count.add.remote()) == 1


@pytest.mark.parametrize(
    "nest",
    [
        lambda node: [1, node],
        lambda node: (1, node),
        lambda node: {1: "x", node: "y"},
        lambda node: types.SimpleNamespace(a=1, b=node),
    ],
    ids=["list", "tuple", "key", "object"],
)
def test_nodes_inside_of_values_become_references(nest):
    assert ray.get(resolve.bind(nest(add.bind(2, 3))).execute()) == [1, 5]


def test_values_without_nodes_are_sent_as_they_are():
    marker = ray.put("marker")
    nested = types.SimpleNamespace(ref=marker, call=len)
    assert ray.get(resolve.bind(nested).execute()) == ["marker", len]


def test_arguments_that_cannot_be_sent_are_refused_at_once():
    with pytest.raises(TypeError, match="pickle"):
        add.bind(threading.Lock())


def test_deep_graph_needs_no_deep_stack():
    node = add.bind(0, 1)
    for _ in range(sys.getrecursionlimit()):
        node = add.bind(node, 0)
    assert ray.get(node.execute()) == 1


def test_options_apply_to_the_call():
    node = add.options(num_returns=1, name="special").bind(1)
    assert node.get_options() == {"num_cpus": 0, "num_returns": 1, "name": "special"}
    with pytest.raises(TypeError, match="too many positional arguments"):
        add.bind(1, 2, 3).execute()


def test_input_parts_by_position_name_and_access():
    with InputNode() as x:
        by_item = add.bind(x[0], x["right"])
        by_attribute = add.bind(x.left, x.right)
    assert ray.get(by_item.execute(1, right=2)) == 3
    assert ray.get(by_item.execute({0: 3, "right": 4})) == 7
    assert ray.get(by_attribute.execute(left=5, right=6)) == 11
    assert ray.get(by_attribute.execute(types.SimpleNamespace(left=7, right=8))) == 15


def test_missing_parts_of_the_input_are_reported():
    with InputNode() as x:
        by_position, by_name = add.bind(x[0]), add.bind(x.name)
    with pytest.raises(IndexError):
        by_position.execute()
    with pytest.raises(KeyError, match="name"):
        by_name.execute(1, 2)
    with pytest.raises(AttributeError, match="name"):
        by_name.execute(3)


def test_several_arguments_as_a_whole_are_input_data():
    with InputNode() as x:
        graph = MultiOutputNode([x])
    (data,) = graph.execute(1, 2, three=3)
    assert isinstance(data, DAGInputData)
    assert (data[0], data[1], data["three"]) == (1, 2, 3)


def test_input_node_is_for_with():
    with pytest.raises(AssertionError, match="with InputNode"):
        add.bind(InputNode(), 1).execute(1)
    with pytest.raises(ValueError, match="should not take any args"):
        InputNode(1)
    with pytest.raises(AssertionError, match="only use int index or str"):
        InputNode()[1:2]


def test_input_types_are_told():
    assert InputNode(input_type=int).get_result_type() == "int"
    typed = InputNode(input_type={0: int, "name": str})
    assert typed.get_result_type() is None
    assert (typed[0].get_result_type(), typed.name.get_result_type()) == ("int", "str")
    assert typed.other.get_result_type() is None
    assert (typed[0].key, typed.name.key) == (0, "name")


def test_bound_class_makes_an_actor_each_time():
    node = Count.bind(10).add.bind()
    assert [ray.get(node.execute()) for _ in range(2)] == [11, 11]
    handle = Count.bind(3).execute()
    assert ray.get(handle.add.remote()) == 4


def test_calls_of_a_bound_class_run_in_the_order_of_binding():
    count = Count.bind()
    first = count.add.bind()
    count.add.bind(10)
    last = count.add.bind(100)
    assert ray.get(MultiOutputNode([last, first]).execute()) == [111, 1]


def test_constructor_and_method_arguments_may_be_nodes():
    count = Count.options(name="dag_count").bind(add.bind(1, 2))
    assert ray.get(count.add.options(name="q").bind(add.bind(2, 3)).execute()) == 8


def test_bound_class_has_the_methods_of_the_class():
    count = Count.bind()
    with pytest.raises(AttributeError, match="'Count' has no attribute 'nope'"):
        _ = count.nope
    with pytest.raises(ValueError, match="nonsense"):
        count.add.options(nonsense=1)
    with pytest.raises(AttributeError, match="Use .bind"):
        count.add.remote(1)


def test_method_with_several_results_gives_a_node_for_each():
    count = Count.remote(7)
    first, second = count.pair.bind()
    assert (first.output_idx, second.output_idx, first.num_returns) == (0, 1, 2)
    assert first.is_class_method_output and not first.is_class_method_call
    assert first.class_method_call.get_method_name() == "pair"
    assert ray.get(MultiOutputNode([second, first]).execute()) == ["two", 7]
    with pytest.raises(TypeError, match="too many positional arguments"):
        count.pair.bind(1)


def test_node_tells_what_it_is_bound_to():
    node = add.bind(1, b=2)
    assert (node.get_args(), node.get_kwargs()) == ((1,), {"b": 2})
    assert node.get_other_args_to_resolve() == {}
    assert "args=[\n        1,\n    ]" in str(node)
    assert "b: 2" in str(node)


def test_what_is_bound_cannot_be_called_or_bound_again():
    with pytest.raises(AttributeError, match="use .execute"):
        add.bind(1).remote()
    with pytest.raises(AttributeError, match="bound already"):
        Count.bind().bind()


def test_traversal_meets_every_node_once_and_leaves_first():
    leaf = add.bind(1, 2)
    root = add.bind(leaf, leaf)
    met = []
    root.traverse_and_apply(met.append)
    assert met == [leaf, root]


def test_apply_recursive_replaces_from_the_leaves_up():
    leaf = add.bind(1, 2)
    root = add.bind([leaf], 3)
    uuids = {}

    def evaluate(node):
        uuids[node.get_stable_uuid()] = node
        first, second = node.get_args()
        return (first[0] if isinstance(first, list) else first) * second

    assert root.apply_recursive(evaluate) == 6
    assert set(uuids) == {leaf.get_stable_uuid(), root.get_stable_uuid()}
    assert root not in uuids.values()


def test_apply_functional_replaces_chosen_nodes_of_a_value():
    one, two = add.bind(1), add.bind(2)
    value = root_value = {"nodes": [one, two]}
    value = one.apply_functional(value, lambda node: node is one, lambda node: "one")
    assert value == {"nodes": ["one", two]}
    assert root_value == {"nodes": [one, two]}


def test_references_of_the_last_execution_are_kept_on_request():
    inner = add.bind(1, 2)
    outer = add.bind(inner, 3)
    assert asyncio.run(outer.get_object_refs_from_last_execute()) == {}
    ref = outer.execute(_ray_cache_refs=True)
    refs = asyncio.run(outer.get_object_refs_from_last_execute())
    assert refs.keys() == {inner.get_stable_uuid(), outer.get_stable_uuid()}
    assert refs[outer.get_stable_uuid()] == ref
    outer.clear_cache()
    assert asyncio.run(outer.get_object_refs_from_last_execute()) == {}


def test_graphs_survive_pickling_and_copying():
    with InputNode(input_type=int) as x:
        count = Count.bind(x)
        graph = MultiOutputNode([count.add.bind(1), add.bind(x, x)])
    for again in (cloudpickle.loads(cloudpickle.dumps(graph)), copy.copy(graph)):
        assert again.get_stable_uuid() == graph.get_stable_uuid()
        assert ray.get(again.execute(5)) == [6, 10]


def test_plot_draws_every_node_with_its_arrows(monkeypatch):
    drawn = []

    class Dot:
        def __init__(self, **style):
            pass

        def write(self, path, format):
            drawn.append((path, format))

        add_node = add_edge = drawn.append

    pydot = types.SimpleNamespace(
        Dot=Dot, Node=lambda name, **style: name, Edge=lambda start, end: (start, end)
    )
    monkeypatch.setitem(sys.modules, "pydot", pydot)
    leaf = add.bind(1)
    plot(add.bind(leaf, leaf), to_file="graph.svg")
    assert drawn == ["node0", "node1", ("node0", "node1"), ("graph.svg", "svg")]
    with pytest.raises(ValueError, match="no ending"):
        plot(leaf, to_file="graph")


def test_plot_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "pydot", None)
    with pytest.raises(ImportError, match="pip install pydot"):
        plot(add.bind(1))


def test_every_node_is_a_dag_node():
    with InputNode() as x:
        nodes = [x, x[0], add.bind(1), Count.bind(), Count.bind().add.bind(), MultiOutputNode(x)]
    assert all(isinstance(node, DAGNode) for node in nodes)
    assert all(str(node).startswith(f"({type(node).__name__}, ") for node in nodes)


def test_hint_for_compiled_graphs_changes_nothing_here():
    node = add.bind(1, 2)
    assert node.with_tensor_transport("nccl", device="cuda") is node
    assert ray.get(node.execute()) == 3
    with pytest.raises(ValueError, match="Invalid transport 'pigeon'"):
        node.with_tensor_transport("pigeon")
    with pytest.raises(ValueError, match="Invalid device 'abacus'"):
        node.with_tensor_transport(device="abacus")
