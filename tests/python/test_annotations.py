"""The decorators of ray.util.annotations and the log-once keys."""

import warnings

import pytest

from ray.util.annotations import (
    AnnotationType,
    Deprecated,
    DeveloperAPI,
    PublicAPI,
    RayDeprecationWarning,
)
from ray.util.debug import _OnceKeys


def test_stable_names_keep_their_docstring():
    @PublicAPI
    def function():
        "Doc."

    assert function.__doc__ == "Doc."
    assert function._annotated == "function"
    assert function._annotated_type is AnnotationType.PUBLIC_API


def test_note_is_indented_as_the_docstring():
    @PublicAPI(stability="beta", api_group="Group")
    def function():
        """Doc.

        More.
        """

    assert "\n        **PublicAPI (beta):**" in function.__doc__
    assert function._annotated_api_group == "Group"


def test_classes_can_be_marked():
    @DeveloperAPI
    class Marked:
        pass

    assert "**DeveloperAPI:**" in Marked.__doc__
    assert Marked()._annotated_type is AnnotationType.DEVELOPER_API


def test_deprecated_function_warns_at_the_caller():
    @Deprecated(message="Use other.", warning=True)
    def function(x):
        "Doc."
        return x

    with pytest.warns(RayDeprecationWarning, match="Use other.") as caught:
        assert function(3) == 3
    assert caught[0].filename == __file__
    assert ".. warning::" in function.__doc__


def test_deprecated_class_warns_and_stays_a_class():
    @Deprecated(message="Use other.", warning=True)
    class Old:
        def __init__(self, x):
            self.x = x

    with pytest.warns(RayDeprecationWarning):
        assert Old(3).x == 3
    assert isinstance(Old, type)


def test_deprecated_alone_does_not_warn():
    @Deprecated
    def function():
        return 1

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert function() == 1


@pytest.mark.parametrize("decorator", [PublicAPI, DeveloperAPI, Deprecated])
def test_unknown_keywords_are_refused(decorator):
    with pytest.raises(ValueError, match="Unknown kwargs.*nope"):
        decorator(nope=1)


def test_unknown_stability_is_refused():
    with pytest.raises(ValueError, match="stability"):
        PublicAPI(stability="rocky")


def test_keys_are_new_once_until_forgotten():
    keys = _OnceKeys()
    assert [keys.take(key) for key in ("a", "a", "b")] == [True, False, True]
    keys.forget("a")
    assert [keys.take("a"), keys.take("b")] == [True, False]
    keys.forget(None)
    assert keys.take("b")
    keys.disable()
    assert not keys.take("c")


def test_keys_are_new_again_each_minute_when_periodic(monkeypatch):
    now_s = 100.0
    monkeypatch.setattr("ray.util.debug.time.monotonic", lambda: now_s)
    keys = _OnceKeys()
    keys.repeat()
    assert keys.take("a") and not keys.take("a")
    now_s += 61
    assert keys.take("a") and not keys.take("a")
