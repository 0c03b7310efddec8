"""Decorators that say how stable a public name is: they mark the object and extend its docstring.

Source: https://docs.ray.io/en/latest/ray-contribute/stability.html.
"""

from __future__ import annotations

import enum
import functools
import inspect
import warnings
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")

_STABILITIES = ("alpha", "beta", "stable")
_DEPRECATION = "This API is deprecated and may be removed in future Ray releases."
_SUPPRESSION = (
    ' You could suppress this warning by setting env variable PYTHONWARNINGS="ignore::'
    'DeprecationWarning"'
)


class AnnotationType(enum.Enum):
    """What an annotation promises of the object that carries it."""

    PUBLIC_API = "PublicAPI"
    DEVELOPER_API = "DeveloperAPI"
    DEPRECATED = "Deprecated"
    UNKNOWN = "Unknown"


class RayDeprecationWarning(DeprecationWarning):
    """A deprecated function was called or a deprecated class instantiated."""


def PublicAPI(*args: Any, **kwargs: Any) -> Any:
    """Marks a function or class as public.

    Args:
        *args: the function or class, when used without arguments.
        **kwargs: ``stability``: "alpha", "beta" or "stable" (the default); ``api_group``: the group
            of the documentation that it belongs to.

    Returns:
        The same object, or the decorator.

    Raises:
        ValueError: an unknown keyword or stability.

    >>> @PublicAPI(stability="beta")
    ... def answer():
    ...     return 42
    >>> answer()
    42
    """
    _check_keywords("PublicAPI", kwargs, ("stability", "api_group"))
    stability = kwargs.get("stability", "stable")
    if stability not in _STABILITIES:
        raise ValueError(f"stability must be one of {_STABILITIES}, not {stability!r}.")

    def mark(obj: T) -> T:
        if stability != "stable":
            _append_note(
                obj,
                f"**PublicAPI ({stability}):** This API is in {stability} and may change before"
                " becoming stable.",
            )
        return _mark(obj, AnnotationType.PUBLIC_API, kwargs)

    return _apply(mark, args, kwargs)


def DeveloperAPI(*args: Any, **kwargs: Any) -> Any:
    """Marks a function or class as meant for advanced users and libraries; it may change in minor
    releases.

    Args:
        *args: the function or class, when used without arguments.
        **kwargs: ``stability`` and ``api_group``, as for ``PublicAPI``.

    Returns:
        The same object, or the decorator.

    Raises:
        ValueError: an unknown keyword.

    >>> @DeveloperAPI
    ... def answer():
    ...     return 42
    >>> answer()
    42
    """
    _check_keywords("DeveloperAPI", kwargs, ("stability", "api_group"))

    def mark(obj: T) -> T:
        _append_note(obj, "**DeveloperAPI:** This API may change across minor Ray releases.")
        return _mark(obj, AnnotationType.DEVELOPER_API, kwargs)

    return _apply(mark, args, kwargs)


def Deprecated(*args: Any, **kwargs: Any) -> Any:
    """Marks a function or class as deprecated.

    Args:
        *args: the function or class, when used without arguments.
        **kwargs: ``message``: what to use instead; ``warning``: whether each use warns, too.

    Returns:
        The same object (with ``warning``, a function that warns and calls it), or the decorator.

    Raises:
        ValueError: an unknown keyword.

    >>> @Deprecated(message="Use new_answer.")
    ... def answer():
    ...     return 42
    >>> answer()
    42
    """
    _check_keywords("Deprecated", kwargs, ("message", "warning"))
    message = kwargs.get("message", "")

    def mark(obj: Any) -> Any:
        note = f"**DEPRECATED**: {_DEPRECATION}"
        _append_note(obj, f"{note}\n{message}" if message else note, directive="warning")
        _mark(obj, AnnotationType.DEPRECATED, {})
        return _warning_at_use(obj, message) if kwargs.get("warning") else obj

    return _apply(mark, args, kwargs)


def _apply(mark: Callable[[Any], Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    used_without_arguments = len(args) == 1 and not kwargs and callable(args[0])
    return mark(args[0]) if used_without_arguments else mark


def _check_keywords(decorator: str, kwargs: dict[str, Any], known: tuple[str, ...]) -> None:
    unknown = sorted(set(kwargs) - set(known))
    if unknown:
        raise ValueError(
            f"Unknown kwargs: {unknown}. {decorator} takes {', '.join(known)} by keyword."
        )


def _mark(obj: T, annotation: AnnotationType, kwargs: dict[str, Any]) -> T:
    marked: Any = obj
    # The name tells a class that is marked itself from one that inherits the mark.
    marked._annotated = marked.__name__
    marked._annotated_type = annotation
    marked._annotated_api_group = kwargs.get("api_group", "Others")
    return obj


def _append_note(obj: Any, note: str, directive: str | None = None) -> None:
    """Adds a paragraph to the docstring, indented as the docstring is."""
    doc = obj.__doc__ or ""
    continued = [line for line in doc.split("\n")[1:] if line.strip()]
    indent = " " * min((len(line) - len(line.lstrip()) for line in continued), default=0)
    lines = note.split("\n")
    if directive is not None:
        lines = [f".. {directive}::", "", *(f"    {line}" for line in lines)]
    text = "\n".join(indent + line if line else line for line in lines)
    obj.__doc__ = f"{doc.rstrip()}\n\n{text}\n{indent}"


def _warning_at_use(obj: Any, message: str) -> Any:
    text = f"{_DEPRECATION}{_SUPPRESSION}\n{message}"

    def warning(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def warn_and_call(*args: Any, **kwargs: Any) -> Any:
            warnings.warn(text, RayDeprecationWarning, stacklevel=2)
            return function(*args, **kwargs)

        return warn_and_call

    if not inspect.isclass(obj):
        return warning(obj)
    obj.__init__ = warning(obj.__init__)  # type: ignore[method-assign]
    return obj
