"""The languages that functions and classes can be written in."""

from __future__ import annotations

from typing import ClassVar


class Language:
    """The language of a worker. There are three, as attributes of this class.

    >>> import ray
    >>> ray.Language.PYTHON
    PYTHON
    >>> ray.Language.JAVA.value()
    1

    Args:
        name: as it is printed.
        value: its number.
    """

    PYTHON: ClassVar[Language]
    JAVA: ClassVar[Language]
    CPP: ClassVar[Language]

    def __init__(self, name: str, value: int) -> None:
        self._name = name
        self._value = value

    def value(self) -> int:
        """The language's number."""
        return self._value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Language) and self._value == other._value

    def __hash__(self) -> int:
        return hash(self._value)

    def __repr__(self) -> str:
        return self._name


Language.PYTHON = Language("PYTHON", 0)
Language.JAVA = Language("JAVA", 1)
Language.CPP = Language("CPP", 2)
