"""Arity: which calls fit a signature."""

import pickle

import pytest

from ray._signature import UNBOUNDED, Arity


def positional_only(a, b=1, /):
    pass


def mixed(a, b=2, *rest, c=3, **extra):
    pass


def keyword_required(a, *, c):
    pass


@pytest.mark.parametrize(
    ("function", "bounds"),
    [
        (lambda: None, (0, 0)),
        (positional_only, (1, 2)),
        (mixed, (1, UNBOUNDED)),
        (keyword_required, (1, 0)),
    ],
)
def test_bounds_of_positional_calls(function, bounds):
    arity = Arity.of_function(function)
    assert (arity.positional_min, arity.positional_max) == bounds


@pytest.mark.parametrize(
    ("function", "args", "kwargs", "message"),
    [
        (mixed, (), {}, "missing a required argument: 'a'"),
        (positional_only, (1, 2, 3), {}, "too many positional arguments"),
        (positional_only, (1,), {"q": 1}, "got an unexpected keyword argument 'q'"),
        (mixed, (1,), {"a": 1}, "multiple values for argument 'a'"),
        (keyword_required, (1,), {}, "missing a required argument: 'c'"),
    ],
)
def test_calls_that_do_not_fit(function, args, kwargs, message):
    with pytest.raises(TypeError, match=message):
        Arity.of_function(function).check(args, kwargs)


@pytest.mark.parametrize(
    ("args", "kwargs"), [((1,), {}), ((1, 2, 3), {"c": 4, "z": 5}), ((), {"a": 1})]
)
def test_calls_that_fit(args, kwargs):
    Arity.of_function(mixed).check(args, kwargs)


def test_method_is_checked_without_self():
    class Box:
        def get(self, key, default=None):
            pass

        def no_self():
            pass

    arity = Arity.of_method(Box.get)
    assert (arity.positional_min, arity.positional_max) == (1, 2)
    assert Arity.of_method(Box.no_self).positional_max == 0


def test_function_without_a_signature_takes_anything():
    Arity.of_function(dict.update).check((1, 2, 3), {"x": 1})


def test_pickles_without_defaults_and_annotations():
    def function(a: type(lambda: 0), b=lambda: "cannot be pickled"):
        pass

    copy = pickle.loads(pickle.dumps(Arity.of_function(function)))
    assert (copy.positional_min, copy.positional_max) == (1, 2)
    with pytest.raises(TypeError, match="missing a required argument: 'a'"):
        copy.check((), {"b": 1})
