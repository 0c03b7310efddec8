"""Finds the part of a value that cannot be pickled, for the error message. Runs only after pickling
has failed."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from types import FunctionType
from typing import Any, NamedTuple

# How deep to look, and at how many parts of one container.
_DEPTH_MAX = 8
_PARTS_MAX = 1000


class Part(NamedTuple):
    """Something that is pickled along with what holds it."""

    name: str
    path: str  # an expression such as value.locks[0]
    value: Any


def find_culprit(value: Any, path: str, is_picklable: Callable[[Any], bool]) -> str | None:
    """The way to the innermost part of ``value`` that cannot be pickled alone.

    Args:
        value: what could not be pickled.
        path: how to call it.
        is_picklable: tries one part.

    Returns:
        An expression such as ``value['deep'][0].lock``, or None if no part is at fault (the value
        itself is).
    """
    found = None
    for _ in range(_DEPTH_MAX):
        bad = next((part for part in parts_of(value, path) if not is_picklable(part.value)), None)
        if bad is None:
            break
        found = path = bad.path
        value = bad.value
    return found


def parts_of(value: Any, path: str) -> Iterator[Part]:
    """What pickling ``value``, which is called ``path``, pickles as well. The first parts only, if
    there are very many."""
    return itertools.islice(_parts(value, path), _PARTS_MAX)


def _parts(value: Any, path: str) -> Iterator[Part]:
    if isinstance(value, dict):
        for key, item in list(value.items()):
            yield Part(str(key), f"{path}[{key!r}]", item)
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            yield Part(str(index), f"{path}[{index}]", item)
    elif isinstance(value, (set, frozenset)):
        for item in value:
            yield Part("an item", f"an item of {path}", item)
    elif isinstance(value, FunctionType):
        yield from _captured(value, path)
    elif isinstance(value, type):
        for name, item in list(vars(value).items()):
            if isinstance(item, FunctionType):
                yield from _captured(item, f"{path}.{name}")
            elif not name.startswith("__"):
                yield Part(name, f"{path}.{name}", item)
    else:
        for name, item in list(getattr(value, "__dict__", {}).items()):
            yield Part(name, f"{path}.{name}", item)


def _captured(function: Any, path: str) -> Iterator[Part]:
    import inspect

    captured = inspect.getclosurevars(function)
    for name, item in {**captured.nonlocals, **captured.globals}.items():
        yield Part(name, f"{name} (used by {path})", item)
