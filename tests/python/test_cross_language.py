"""Functions and classes of other languages: they can be described, not called."""

import pytest

import ray
from ray.cross_language import cpp_actor_class, cpp_function, java_actor_class, java_function

CALLEES = [
    java_function("com.example.Shop", "price"),
    java_actor_class("com.example.Shop"),
    cpp_function("Plus"),
    cpp_actor_class("RAY_FUNC(Counter::Make)", "Counter"),
]


def test_languages_are_told_apart():
    languages = [callee.language for callee in CALLEES]
    assert languages == [ray.Language.JAVA] * 2 + [ray.Language.CPP] * 2
    assert [ray.Language.PYTHON.value(), ray.Language.JAVA.value(), ray.Language.CPP.value()] == [
        0,
        1,
        2,
    ]
    assert len({ray.Language.PYTHON, ray.Language.JAVA, ray.Language.JAVA}) == 2


@pytest.mark.parametrize("callee", CALLEES, ids=repr)
def test_call_is_refused_with_the_reason(callee):
    with pytest.raises(ValueError, match=f"has no {callee.language} workers"):
        callee.options(num_cpus=2).remote(1, "a", [b"b", {"c": 2.5}], None)


@pytest.mark.parametrize("argument", [object(), [{1: {2}}], 2**64, ("a", lambda: 1)], ids=str)
def test_arguments_outside_of_messagepack_are_refused(argument):
    with pytest.raises(TypeError, match="Can't transfer argument 1 of JAVA function a.B.m"):
        java_function("a.B", "m").remote(0, argument)


@pytest.mark.parametrize("callee", CALLEES, ids=repr)
def test_keyword_arguments_are_refused(callee):
    with pytest.raises(TypeError, match="takes no keyword arguments"):
        callee.remote(x=1)


@pytest.mark.parametrize("callee", CALLEES, ids=repr)
def test_direct_call_is_refused(callee):
    with pytest.raises(TypeError, match=r"Use its method remote\(\)"):
        callee()


def test_unknown_options_are_refused():
    for callee in CALLEES:
        with pytest.raises(ValueError, match="nonsense"):
            callee.options(nonsense=1)


def test_names_must_be_strings():
    with pytest.raises(TypeError, match="must be a string"):
        java_function("a.B", None)
