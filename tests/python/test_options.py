"""The tables of options."""

import pytest

from ray._options import (
    ACTOR_OPTIONS,
    METHOD_OPTIONS,
    TASK_OPTIONS,
    actor_demand,
    check_actor_options,
    check_options,
    freeze_options,
    resource_demand,
)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"num_returns": -1}, ValueError),
        ({"num_cpus": -0.5}, ValueError),
        ({"num_cpus": 0.00001}, ValueError),
        ({"num_cpus": "one"}, TypeError),
        ({"num_gpus": 1.5}, ValueError),
        ({"max_retries": -2}, ValueError),
        ({"max_retries": 1.5}, TypeError),
        ({"retry_exceptions": "all"}, TypeError),
        ({"retry_exceptions": ["ValueError"]}, ValueError),
        ({"resources": {"CPU": 1}}, ValueError),
        ({"resources": {"widget": -1}}, ValueError),
        ({"resources": {"widget": "one"}}, TypeError),
        ({"memory": -1}, ValueError),
        ({"name": 12}, TypeError),
        ({"scheduling_strategy": "RANDOM"}, ValueError),
        ({"max_restarts": 1}, ValueError),  # of actors only
        ({"_labels": {"team": 1}}, ValueError),
        ({"_labels": "team"}, TypeError),
    ],
)
def test_bad_task_options(options, error):
    with pytest.raises(error, match=next(iter(options)) + "|widget"):
        check_options(options, TASK_OPTIONS, "remote functions")


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"max_restarts": -2}, ValueError),
        ({"max_task_retries": -2}, ValueError),
        ({"max_concurrency": -1}, ValueError),
        ({"lifetime": "forever"}, ValueError),
        ({"name": ""}, ValueError),
        ({"namespace": 3}, TypeError),
        ({"get_if_exists": "yes"}, TypeError),
        ({"concurrency_groups": {"io": 0}}, ValueError),
        ({"concurrency_groups": {"io": "two"}}, TypeError),
        ({"num_returns": 2}, ValueError),  # of tasks and methods only
    ],
)
def test_bad_actor_options(options, error):
    with pytest.raises(error, match=next(iter(options))):
        check_actor_options(options)


def test_get_if_exists_needs_a_name():
    with pytest.raises(ValueError, match="name must be specified"):
        check_actor_options({"get_if_exists": True})
    check_actor_options({"get_if_exists": True, "name": "one"})


@pytest.mark.parametrize("table", [TASK_OPTIONS, ACTOR_OPTIONS, METHOD_OPTIONS])
def test_unknown_option_lists_the_valid_ones(table):
    with pytest.raises(ValueError, match="nmae") as raised:
        check_options({"nmae": 1}, table, "tests")
    assert all(name in str(raised.value) for name in table)


def test_all_good_task_options():
    check_options(
        {
            "num_cpus": 0.5,
            "num_gpus": 2,
            "memory": 1024,
            "resources": {"widget": 0.25},
            "max_retries": -1,
            "retry_exceptions": [ValueError, KeyError],
            "num_returns": 0,
            "name": "job",
            "scheduling_strategy": "SPREAD",
        },
        TASK_OPTIONS,
        "remote functions",
    )


def test_resource_demand_leaves_zeros_out():
    assert resource_demand({}, default_cpus=1) == {"CPU": 1.0}
    assert resource_demand({"num_cpus": 0}, default_cpus=1) == {}
    options = {"num_cpus": 2, "num_gpus": 0.5, "memory": 10, "resources": {"w": 1, "z": 0}}
    assert resource_demand(options, 1) == {"CPU": 2.0, "GPU": 0.5, "memory": 10.0, "w": 1.0}


@pytest.mark.parametrize(
    ("options", "creation", "lifetime"),
    [
        ({}, {"CPU": 1.0}, {}),
        ({"num_cpus": 0}, {}, {}),
        ({"num_cpus": 2}, {"CPU": 2.0}, {"CPU": 2.0}),
        ({"num_gpus": 1}, {"CPU": 1.0, "GPU": 1.0}, {"CPU": 1.0, "GPU": 1.0}),
        ({"resources": {"w": 1}}, {"CPU": 1.0, "w": 1.0}, {"CPU": 1.0, "w": 1.0}),
        ({"resources": {}}, {"CPU": 1.0}, {}),
        ({"memory": 5}, {"CPU": 1.0, "memory": 5.0}, {"memory": 5.0}),
    ],
)
def test_actor_demand(options, creation, lifetime):
    assert actor_demand(options) == (creation, lifetime)


def test_frozen_options_are_equal_for_equal_options():
    one = freeze_options({"num_cpus": 1, "resources": {"a": 1}, "retry_exceptions": [ValueError]})
    two = freeze_options({"retry_exceptions": [ValueError], "resources": {"a": 1}, "num_cpus": 1})
    assert one == two and hash(one) == hash(two)
    assert one != freeze_options({"num_cpus": 2})
