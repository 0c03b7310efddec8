"""Scheduling strategies and label rules on one node, through the public API."""

import time

import pytest

import ray
from ray._runtime import RUNTIME
from ray.util.scheduling_strategies import (
    DoesNotExist,
    Exists,
    In,
    NodeAffinitySchedulingStrategy,
    NodeLabelSchedulingStrategy,
    NotIn,
)

pytestmark = pytest.mark.timeout(60)


@pytest.fixture(scope="module")
def node(start_module_cluster):
    start_module_cluster(num_cpus=2, labels={"zone": "a", "disk": "ssd"})
    return ray.get_runtime_context().get_node_id()


@ray.remote(num_cpus=0)
def where():
    return ray.get_runtime_context().get_node_id()


@ray.remote(num_cpus=0)
class Settler:
    def where(self):
        return ray.get_runtime_context().get_node_id()


def run(**options):
    return ray.get(where.options(**options).remote(), timeout=30)


def settle(**options):
    return ray.get(Settler.options(**options).remote().where.remote(), timeout=30)


def stays_pending(**options):
    ref = where.options(**options).remote()
    pending = ray.wait([ref], timeout=0.3)[0] == []
    ray.cancel(ref)
    return pending


def test_default_and_spread(node):
    for strategy in (None, "DEFAULT", "SPREAD"):
        assert run(scheduling_strategy=strategy) == node
        assert settle(scheduling_strategy=strategy) == node


def test_node_affinity(node):
    for node_id in (node, bytes.fromhex(node)):
        for soft in (False, True):
            strategy = NodeAffinitySchedulingStrategy(node_id, soft=soft)
            assert run(scheduling_strategy=strategy) == node
            assert settle(scheduling_strategy=strategy) == node


@pytest.mark.parametrize("bad", ["f" * 56, "zz", ""])
def test_node_affinity_wants_the_id_of_a_node(node, bad):
    strategy = NodeAffinitySchedulingStrategy(bad, soft=False)
    with pytest.raises(ValueError, match="Invalid node_id"):
        where.options(scheduling_strategy=strategy).remote()
    with pytest.raises(ValueError, match="Invalid node_id"):
        Settler.options(scheduling_strategy=strategy).remote()


def test_bad_affinity_arguments():
    with pytest.raises(TypeError, match="node_id"):
        NodeAffinitySchedulingStrategy(5, soft=False)
    with pytest.raises(ValueError, match="_spill_on_unavailable"):
        NodeAffinitySchedulingStrategy("a" * 56, soft=False, _spill_on_unavailable=True)
    with pytest.raises(ValueError, match="_fail_on_unavailable"):
        NodeAffinitySchedulingStrategy("a" * 56, soft=True, _fail_on_unavailable=True)


def test_hard_affinity_fails_where_it_can_never_run(node):
    elsewhere = NodeAffinitySchedulingStrategy("ab" * 28, soft=False)
    with pytest.raises(ray.exceptions.TaskUnschedulableError, match="not in the cluster"):
        run(scheduling_strategy=elsewhere)
    with pytest.raises(ray.exceptions.ActorUnschedulableError):
        settle(scheduling_strategy=elsewhere)
    here = NodeAffinitySchedulingStrategy(node, soft=False)
    with pytest.raises(ray.exceptions.TaskUnschedulableError, match="can never hold"):
        run(resources={"unknown": 1}, scheduling_strategy=here)
    with pytest.raises(ray.exceptions.ActorUnschedulableError):
        settle(resources={"unknown": 1}, scheduling_strategy=here)


def test_soft_affinity_runs_elsewhere(node):
    strategy = NodeAffinitySchedulingStrategy("ab" * 28, soft=True)
    assert run(scheduling_strategy=strategy) == node
    assert settle(scheduling_strategy=strategy) == node


def test_hard_affinity_to_a_busy_node_waits(node):
    @ray.remote(num_cpus=2)
    def hold():
        time.sleep(0.3)

    busy = hold.remote()
    here = NodeAffinitySchedulingStrategy(node, soft=False)
    assert run(num_cpus=2, scheduling_strategy=here) == node
    ray.get(busy)


def test_affinity_that_may_not_wait(node):
    @ray.remote(num_cpus=2)
    def hold(seconds):
        time.sleep(seconds)

    at_once = NodeAffinitySchedulingStrategy(node, soft=False, _fail_on_unavailable=True)
    # What has just ended may still be held for the next task of its kind.
    ray.get(hold.remote(0))
    assert run(num_cpus=1, scheduling_strategy=at_once) == node
    ray.get(hold.remote(0))
    assert settle(num_cpus=1, scheduling_strategy=at_once) == node
    busy = hold.remote(3)
    time.sleep(0.3)
    with pytest.raises(ray.exceptions.TaskUnschedulableError, match="free now"):
        run(num_cpus=1, scheduling_strategy=at_once)
    with pytest.raises(ray.exceptions.ActorUnschedulableError):
        settle(num_cpus=1, scheduling_strategy=at_once)
    assert ray.wait([busy], timeout=0)[0] == []
    assert run(num_cpus=0, scheduling_strategy=at_once) == node
    ray.cancel(busy, force=True)


@pytest.mark.parametrize("value", ["ANYWHERE", ""])
def test_unknown_strategy_names(value):
    with pytest.raises(ValueError, match="scheduling_strategy"):
        where.options(scheduling_strategy=value)
    with pytest.raises(ValueError, match="scheduling_strategy"):
        ray.remote(scheduling_strategy=value)(lambda: None)
    with pytest.raises(TypeError, match="scheduling_strategy"):
        where.options(scheduling_strategy=5)


@pytest.mark.parametrize(
    ("rules", "suits"),
    [
        ({"zone": In("a")}, True),
        ({"zone": In("b", "a"), "disk": Exists()}, True),
        ({"zone": NotIn("b"), "rack": DoesNotExist()}, True),
        ({"rack": NotIn("1")}, True),
        ({"zone": In("b")}, False),
        ({"zone": In("a"), "disk": NotIn("ssd")}, False),
        ({"rack": Exists()}, False),
        ({"disk": DoesNotExist()}, False),
    ],
)
def test_hard_label_rules(node, rules, suits):
    strategy = NodeLabelSchedulingStrategy(hard=rules)
    if suits:
        assert run(scheduling_strategy=strategy) == node
        assert settle(scheduling_strategy=strategy) == node
    else:
        assert stays_pending(scheduling_strategy=strategy)


def test_soft_label_rules_are_a_wish(node):
    wish = NodeLabelSchedulingStrategy(hard={"zone": Exists()}, soft={"disk": In("hdd")})
    assert run(scheduling_strategy=wish) == node
    assert run(scheduling_strategy=NodeLabelSchedulingStrategy({}, soft={"x": Exists()})) == node


@pytest.mark.parametrize("hard", [{}, None, {"zone": "a"}, {1: In("a")}, 5])
def test_bad_label_rules(hard):
    with pytest.raises(ValueError):
        NodeLabelSchedulingStrategy(hard=hard)


@pytest.mark.parametrize("operator", [In, NotIn])
def test_operators_want_strings(operator):
    with pytest.raises(ValueError, match="non-empty"):
        operator()
    with pytest.raises(ValueError, match="must be str"):
        operator("a", 5)


@pytest.mark.parametrize(
    ("selector", "suits"),
    [
        ({"zone": "a"}, True),
        ({"zone": "in(a,q)", "disk": "ssd"}, True),
        ({"zone": "!b", "rack": "!in(1,2)"}, True),
        ({"zone": "b"}, False),
        ({"zone": "!a"}, False),
        ({"rack": ""}, False),
    ],
)
def test_label_selector(node, selector, suits):
    if suits:
        assert run(label_selector=selector) == node
        assert settle(label_selector=selector) == node
        assert run(label_selector=selector, scheduling_strategy="SPREAD") == node
    else:
        assert stays_pending(label_selector=selector)


def test_every_node_has_its_id_as_a_label(node):
    assert run(label_selector={"ray.io/node-id": node}) == node
    assert ray.nodes()[0]["Labels"] == {"ray.io/node-id": node, "zone": "a", "disk": "ssd"}
    assert ray.get_runtime_context().get_node_labels()["zone"] == "a"


@pytest.mark.parametrize(
    "rule", ["in(a", "in()", "in( a , q )", "a b", "!", "a" * 64, "-a", "in(a,)"]
)
def test_malformed_label_selectors(rule):
    with pytest.raises(ValueError, match="label selector"):
        where.options(label_selector={"zone": rule})


def test_label_selectors_map_strings_to_strings():
    for selector in ({"zone": 5}, {5: "a"}, "zone", ["zone"]):
        with pytest.raises(TypeError):
            where.options(label_selector=selector)
    with pytest.raises(ValueError, match="key"):
        where.options(label_selector={"": "a"})


def test_fallback_strategy(node):
    here = [{"label_selector": {"zone": "c"}}, {"label_selector": {"zone": "a"}}]
    assert run(label_selector={"zone": "b"}, fallback_strategy=here) == node
    assert settle(label_selector={"zone": "b"}, fallback_strategy=here) == node
    nowhere = [{"label_selector": {"zone": "c"}}]
    assert stays_pending(label_selector={"zone": "b"}, fallback_strategy=nowhere)
    with pytest.raises(ValueError, match="Unsupported option"):
        where.options(fallback_strategy=[{"zone": "a"}])
    with pytest.raises(TypeError):
        where.options(fallback_strategy="zone")


def test_a_task_that_no_label_suits_is_explained(node):
    ref = where.options(label_selector={"zone": "b"}).remote()
    assert ray.wait([ref], timeout=0.1)[0] == []
    assert "zone in [b]" in RUNTIME.require().why_pending(ref)
    ray.cancel(ref)


@pytest.mark.parametrize("labels", [{"": "a"}, {"zone": "a b"}, {"ray.io/node-id": "x"}])
def test_bad_node_labels(labels):
    ray.shutdown()
    with pytest.raises(ValueError, match="label"):
        ray.init(address="local", labels=labels)
    with pytest.raises(TypeError, match="labels"):
        ray.init(address="local", labels={"zone": 5})
