"""Values of the option scheduling_strategy: what they are equal to, and what options prepare."""

import pytest

from ray._options import ACTOR_OPTIONS, TASK_OPTIONS, check_options, freeze_options
from ray._strategy import strategy_for
from ray.util.scheduling_strategies import (
    DoesNotExist,
    Exists,
    In,
    NodeAffinitySchedulingStrategy,
    NodeLabelSchedulingStrategy,
    NotIn,
    PlacementGroupSchedulingStrategy,
)


def made():
    return [
        PlacementGroupSchedulingStrategy("group", 1),
        PlacementGroupSchedulingStrategy("group", 1, True),
        NodeAffinitySchedulingStrategy("ab", soft=True),
        NodeAffinitySchedulingStrategy("ab", soft=False),
        NodeLabelSchedulingStrategy({"a": In("x")}),
        NodeLabelSchedulingStrategy({"a": NotIn("x")}),
        NodeLabelSchedulingStrategy({}, soft={"a": Exists()}),
        NodeLabelSchedulingStrategy({"a": DoesNotExist()}),
    ]


def test_equal_strategies_are_one_key():
    first, second = made(), made()
    assert first == second
    assert len(set(first) | set(second)) == len(first)
    for left, right in zip(first, second, strict=True):
        assert freeze_options({"scheduling_strategy": left}) == freeze_options(
            {"scheduling_strategy": right}
        )


def test_options_with_nested_values_are_keys():
    options = {"label_selector": {"a": "b"}, "fallback_strategy": [{"label_selector": {"a": "c"}}]}
    assert hash(freeze_options(options)) == hash(freeze_options(dict(options)))


def test_without_options_there_is_nothing_to_say():
    assert strategy_for({"num_cpus": 2}, {"CPU": 2}, "f", None) == {}
    assert strategy_for({"scheduling_strategy": "DEFAULT"}, {}, "f", None) == {}


def test_what_the_native_side_gets():
    assert strategy_for({"scheduling_strategy": "SPREAD"}, {}, "f", None) == {"spread": True}
    labels = NodeLabelSchedulingStrategy({"a": In("x")}, soft={"b": Exists()})
    options = {
        "scheduling_strategy": labels,
        "label_selector": {"c": "!y"},
        "fallback_strategy": [{"label_selector": {"c": "z"}}],
    }
    assert strategy_for(options, {}, "f", None) == {
        "required_labels": [("a", "in", ["x"]), ("c", "not_in", ["y"])],
        "preferred_labels": [("b", "exists", [])],
        "fallback_labels": [[("c", "in", ["z"])]],
    }


def test_a_bundle_index_wants_a_group():
    with pytest.raises(ValueError, match="must be -1"):
        strategy_for({"placement_group_bundle_index": 1}, {}, "f", None)


@pytest.mark.parametrize("table", [TASK_OPTIONS, ACTOR_OPTIONS])
@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"scheduling_strategy": "ANYWHERE"}, ValueError),
        ({"scheduling_strategy": 5}, TypeError),
        ({"placement_group": "gang"}, ValueError),
        ({"placement_group": 5}, TypeError),
        ({"placement_group_bundle_index": "0"}, TypeError),
        ({"label_selector": {"a": "in("}}, ValueError),
        ({"label_selector": "a"}, TypeError),
        ({"fallback_strategy": [{"num_cpus": 1}]}, ValueError),
        ({"fallback_strategy": ["a"]}, TypeError),
    ],
)
def test_bad_values(table, options, error):
    with pytest.raises(error):
        check_options(options, table, "remote functions")


@pytest.mark.parametrize("table", [TASK_OPTIONS, ACTOR_OPTIONS])
def test_good_values(table):
    for strategy in [*made(), None, "DEFAULT", "SPREAD"]:
        check_options({"scheduling_strategy": strategy}, table, "remote functions")
    for group in (None, "default"):
        check_options({"placement_group": group}, table, "remote functions")
