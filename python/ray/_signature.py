"""Fast check of a call's arguments against a signature.

The common call (positional arguments only, as many as the function takes) costs two comparisons at
the caller, who looks at ``positional_min`` and ``positional_max``. Everything else goes through
``inspect.Signature.bind``, whose messages are the ones users see: "missing a required argument:
'a'", "too many positional arguments", ...
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from typing import Any

# What a list of positional arguments can never exceed.
UNBOUNDED = sys.maxsize

_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


class Arity:
    """How many arguments a callable takes, and under which names.

    Immutable. ``positional_min..positional_max`` is the range of argument counts that is right for
    a call without keywords; it is empty (min > max) if a keyword-only parameter has no default.
    Annotations and the values of defaults are forgotten, so that an Arity can be pickled wherever
    it goes.
    """

    __slots__ = ("_signature", "positional_max", "positional_min")

    def __init__(self, parameters: list[inspect.Parameter]) -> None:
        bare = [
            inspect.Parameter(p.name, p.kind, default=p.empty if p.default is p.empty else None)
            for p in parameters
        ]
        self._signature = inspect.Signature(bare)
        self.positional_min, self.positional_max = _positional_bounds(bare)

    @classmethod
    def of_function(cls, function: Callable[..., Any]) -> Arity:
        """The arity of a function, or of one bound already; of anything if it does not tell its
        signature."""
        try:
            return cls(list(inspect.signature(function).parameters.values()))
        except ValueError:  # Some callables written in C.
            return cls.of_function(lambda *args, **kwargs: None)

    @classmethod
    def of_method(cls, method: Callable[..., Any]) -> Arity:
        """The arity of a function found in a class, less the ``self`` that the instance fills
        in."""
        arity = cls.of_function(method)
        parameters = list(arity._signature.parameters.values())
        if parameters and parameters[0].kind in _POSITIONAL:
            return cls(parameters[1:])
        return arity

    def check(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Raises TypeError if the callable cannot be called like this.

        Args:
            args: positional arguments, without ``self``.
            kwargs: keyword arguments.

        Raises:
            TypeError: naming the parameter that is missing, unexpected or given twice.
        """
        if kwargs or not self.positional_min <= len(args) <= self.positional_max:
            self._signature.bind(*args, **kwargs)

    def __reduce__(self) -> tuple[Any, ...]:
        parameters = self._signature.parameters.values()
        return _rebuild, ([(p.name, int(p.kind), p.default is not p.empty) for p in parameters],)


def _rebuild(parameters: list[tuple[str, int, bool]]) -> Arity:
    empty = inspect.Parameter.empty
    return Arity(
        [
            inspect.Parameter(name, inspect._ParameterKind(kind), default=None if has else empty)
            for name, kind, has in parameters
        ]
    )


def _positional_bounds(parameters: list[inspect.Parameter]) -> tuple[int, int]:
    low = high = 0
    for parameter in parameters:
        required = parameter.default is parameter.empty
        if parameter.kind in _POSITIONAL:
            high += 1
            low += required
        elif parameter.kind is parameter.VAR_POSITIONAL:
            high = UNBOUNDED
        elif parameter.kind is parameter.KEYWORD_ONLY and required:
            return 1, 0  # Positional arguments alone can never be enough.
    return low, high
