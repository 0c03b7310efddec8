"""Functions and actor classes that are written in Java or C++, described by name.

They can be described, passed on and given options. Calling them is refused: the workers of this
runtime run Python. Arguments are checked first, so that a program learns of both: between languages
only MessagePack's types travel (None, bool, int, float, str, bytes, and lists and dicts of these).

Source: https://docs.ray.io/en/latest/ray-core/cross-language.html.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, NoReturn

from ray._language import Language
from ray._options import TASK_OPTIONS, check_actor_options, check_options
from ray._raylet import ObjectRef

__all__ = ["cpp_actor_class", "cpp_function", "java_actor_class", "java_function"]

# What MessagePack can say.
_TRANSFERABLE = (bool, bytes, float, int, str, ObjectRef, type(None))
_INTEGERS = range(-(2**63), 2**64)


class _Foreign:
    """Something in another language that could be called there.

    Attributes:
        language: the language.
        descriptor: the names it is found by there.
    """

    _kind: ClassVar[str]

    def __init__(
        self, language: Language, descriptor: tuple[str, ...], options: Mapping[str, Any]
    ) -> None:
        self.language = language
        self.descriptor = descriptor
        self._options = options

    def remote(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Refuses: no worker speaks the language.

        Raises:
            TypeError: keyword arguments, or arguments that cannot be passed to the language.
            ValueError: else.
        """
        if kwargs:
            raise TypeError(
                f"{self!r} takes no keyword arguments, but got {sorted(kwargs)}. Pass them by"
                " position."
            )
        for position, value in enumerate(args):
            _check_transferable(value, f"argument {position} of {self!r}")
        raise ValueError(
            f"{self!r} cannot run: this cluster has no {self.language} workers. Calls to other"
            " languages are not supported; write it in Python, or talk to the other program by a"
            " protocol of its own."
        )

    def __call__(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Refuses: what is remote does not run in its caller.

        Raises:
            TypeError: always; the message names ``.remote()``.
        """
        raise TypeError(f"{self!r} cannot be called directly. Use its method remote().")

    def __repr__(self) -> str:
        return f"{self.language} {self._kind} {'.'.join(self.descriptor)}"


class ForeignFunction(_Foreign):
    """A remote function in another language."""

    _kind = "function"

    def options(self, **task_options: Any) -> ForeignFunction:
        """The same function with other options; see ``RemoteFunction.options``.

        Raises:
            ValueError: an unknown option, or a value out of range.
            TypeError: a value of a wrong type.
        """
        check_options(task_options, TASK_OPTIONS, "remote functions")
        return ForeignFunction(self.language, self.descriptor, {**self._options, **task_options})


class ForeignActorClass(_Foreign):
    """An actor class in another language."""

    _kind = "actor class"

    def options(self, **actor_options: Any) -> ForeignActorClass:
        """The same class with other options; see ``ActorClass.options``.

        Raises:
            ValueError: an unknown option, or a value out of range.
            TypeError: a value of a wrong type.
        """
        merged = {**self._options, **actor_options}
        check_actor_options(merged)
        return ForeignActorClass(self.language, self.descriptor, merged)


def java_function(class_name: str, function_name: str) -> ForeignFunction:
    """A static method of a Java class.

    >>> import ray
    >>> ray.java_function("com.example.Shop", "price")
    JAVA function com.example.Shop.price

    Args:
        class_name: the class with its package.
        function_name: the method.

    Raises:
        TypeError: a name is not a string.
    """
    return ForeignFunction(Language.JAVA, _names(class_name, function_name), {})


def java_actor_class(class_name: str) -> ForeignActorClass:
    """A Java class whose instances are actors.

    >>> import ray
    >>> ray.java_actor_class("com.example.Counter")
    JAVA actor class com.example.Counter

    Args:
        class_name: the class with its package.

    Raises:
        TypeError: the name is not a string.
    """
    return ForeignActorClass(Language.JAVA, _names(class_name), {})


def cpp_function(function_name: str) -> ForeignFunction:
    """A C++ function.

    >>> cpp_function("Plus")
    CPP function Plus

    Args:
        function_name: the name it is registered by.

    Raises:
        TypeError: the name is not a string.
    """
    return ForeignFunction(Language.CPP, _names(function_name), {})


def cpp_actor_class(create_function_name: str, class_name: str) -> ForeignActorClass:
    """A C++ class whose instances are actors.

    >>> cpp_actor_class("RAY_FUNC(Counter::Make)", "Counter")
    CPP actor class RAY_FUNC(Counter::Make).Counter

    Args:
        create_function_name: the name by which the function is registered that makes an instance.
        class_name: the class with its namespace.

    Raises:
        TypeError: a name is not a string.
    """
    return ForeignActorClass(Language.CPP, _names(create_function_name, class_name), {})


def _names(*names: str) -> tuple[str, ...]:
    for name in names:
        if not isinstance(name, str):
            raise TypeError(f"The name of a function or class must be a string, not {name!r}.")
    return names


def _check_transferable(value: Any, what: str) -> None:
    """Raises TypeError unless the value can be passed to another language."""
    if isinstance(value, (list, tuple)):
        for item in value:
            _check_transferable(item, what)
    elif isinstance(value, dict):
        _check_transferable([*value.keys(), *value.values()], what)
    elif not isinstance(value, _TRANSFERABLE):
        raise TypeError(
            f"Can't transfer {what} to another language: it has a {type(value).__name__}. Pass"
            " None, numbers, strings, bytes, and lists and dicts of these."
        )
    elif isinstance(value, int) and value not in _INTEGERS:
        raise TypeError(
            f"Can't transfer {what} to another language: it has an integer of more than 64 bits."
        )
