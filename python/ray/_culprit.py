"""Finds the part of a value that cannot be pickled, for the error message. Runs only after pickling
has failed."""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Callable, Iterator
from typing import Any

# How deep to look, and at how many parts of one container.
_DEPTH_MAX = 8
_PARTS_MAX = 1000


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
        parts = itertools.islice(_parts(value, path), _PARTS_MAX)
        bad = next((part for part in parts if not is_picklable(part[1])), None)
        if bad is None:
            break
        path, value = bad
        found = path
    return found


def _parts(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    """What pickling ``value`` pickles as well, each with its path."""
    if isinstance(value, dict):
        for key, item in list(value.items()):
            yield f"{path}[{key!r}]", item
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            yield f"{path}[{index}]", item
    elif isinstance(value, (set, frozenset)):
        for item in value:
            yield f"an item of {path}", item
    elif inspect.isfunction(value):
        yield from _captured(value, path)
    elif inspect.isclass(value):
        for name, item in list(vars(value).items()):
            if inspect.isfunction(item):
                yield from _captured(item, f"{path}.{name}")
            elif not name.startswith("__"):
                yield f"{path}.{name}", item
    else:
        for name, item in list(getattr(value, "__dict__", {}).items()):
            yield f"{path}.{name}", item


def _captured(function: Any, path: str) -> Iterator[tuple[str, Any]]:
    captured = inspect.getclosurevars(function)
    for name, item in {**captured.nonlocals, **captured.globals}.items():
        yield f"{name} (used by {path})", item
