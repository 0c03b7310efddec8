"""Mistakes in a program are reported where they are made."""

import threading

import pytest

import ray

pytestmark = pytest.mark.usefixtures("cluster")


@ray.remote
def echo(value):
    return value


@ray.remote
class Box:
    def __init__(self, value):
        self.value = value

    def get(self, default=None):
        return self.value


@pytest.mark.parametrize(
    ("arguments", "keywords", "text"),
    [
        ((), {}, "value"),
        ((1, 2), {}, "positional"),
        ((1,), {"other": 2}, "other"),
    ],
)
def test_wrong_arity_of_a_task_raises_at_the_call(arguments, keywords, text):
    with pytest.raises(TypeError, match=text):
        echo.remote(*arguments, **keywords)


def test_wrong_arity_of_an_actor_raises_at_the_call():
    with pytest.raises(TypeError, match="value"):
        Box.remote()
    box = Box.remote(1)
    with pytest.raises(TypeError, match="positional"):
        box.get.remote(1, 2)
    assert ray.get(box.get.remote()) == 1


def test_direct_calls_name_remote():
    box = Box.remote(1)
    for call in (lambda: echo(1), lambda: Box(1), lambda: box.get()):
        with pytest.raises(TypeError, match=r"\.remote\(\)"):
            call()


def test_unknown_option_lists_the_valid_ones():
    with pytest.raises(ValueError, match="nmu_cpus") as raised:
        echo.options(nmu_cpus=1)
    assert "num_cpus" in str(raised.value)
    with pytest.raises(ValueError, match="max_restart") as raised:
        Box.options(max_restart=1)
    assert "max_restarts" in str(raised.value)


def test_unknown_method_raises_before_any_call():
    with pytest.raises(AttributeError, match="nope"):
        _ = Box.remote(1).nope


def test_unserialisable_argument_says_which_and_why():
    with pytest.raises(TypeError) as raised:
        echo.remote(threading.Lock())
    assert "echo" in str(raised.value)
    assert "cannot pickle '_thread.lock' object" in str(raised.value)


@pytest.mark.ours_only
def test_unserialisable_argument_is_named():
    with pytest.raises(TypeError, match="'value'"):
        echo.remote(value={"deep": threading.Lock()})
    with pytest.raises(TypeError, match="'default'"):
        Box.remote(1).get.remote(default=threading.Lock())


def test_an_error_leaves_the_cluster_usable():
    with pytest.raises(TypeError):
        echo.remote(threading.Lock())
    assert ray.get(echo.remote("fine")) == "fine"


def test_get_of_something_else_than_a_ref():
    with pytest.raises(ValueError):
        ray.get(3)
    with pytest.raises(TypeError):
        ray.get([3])


def test_an_object_belongs_to_who_puts_it():
    @ray.remote
    class Owner:
        pass

    with pytest.raises(ValueError, match="_owner"):
        ray.put(1, _owner=Owner.remote())
    assert ray.get(ray.put(1, _owner=None)) == 1


def test_negative_timeouts_and_impossible_counts():
    ref = ray.put(1)
    with pytest.raises(ValueError):
        ray.wait([ref], num_returns=2)
    with pytest.raises(ValueError):
        ray.wait([ref, ref])
    with pytest.raises(ValueError):
        ray.wait([ref], timeout=-1)
