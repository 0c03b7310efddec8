"""Finds out why something cannot be serialized.

Source: https://docs.ray.io/en/latest/ray-core/objects/serialization.html#troubleshooting.
"""

from __future__ import annotations

from typing import Any, TextIO

from ray._culprit import parts_of
from ray._serialization import pickle_failure

_HELP = """was found to be non-serializable. There may be others that were not found.
Consider either removing the instantiation/imports of these variables or moving the instantiation \
into the scope of the function/class."""


class FailureTuple:
    """Something that cannot be serialized, and where it was found.

    Attributes:
        obj: the thing itself.
        path: the names that lead to it; the last is its own.
        parent: what refers to it; None for what was inspected.
    """

    def __init__(self, obj: Any, path: tuple[str, ...], parent: Any) -> None:
        self.obj = obj
        self.path = path
        self.parent = parent

    @property
    def name(self) -> str:
        """The name of the thing in its parent."""
        return self.path[-1] if self.path else "unknown"

    def __repr__(self) -> str:
        path = " -> ".join(self.path)
        return f"FailTuple({self.name} [path={path}, obj={self.obj}, parent={self.parent}])"


def inspect_serializability(
    base_obj: Any,
    name: str | None = None,
    depth: int = 3,
    print_file: TextIO | None = None,
) -> tuple[bool, set[FailureTuple]]:
    """Tells whether something can be serialized, and if not, prints which of its parts cannot.

    Args:
        base_obj: a value, function or class.
        name: how to call it in what is printed.
        depth: how many levels of parts to look into.
        print_file: where to print; standard output by default.

    Returns:
        Whether it can be serialized, and the innermost parts found that cannot.

    >>> import io, threading
    >>> lock = threading.Lock()
    >>> fine, failures = inspect_serializability({"lock": lock}, print_file=io.StringIO())
    >>> fine, [failure.name for failure in failures]
    (False, ['lock'])
    """
    inspection = _Inspection(print_file)
    inspection.title(f"Checking Serializability of {base_obj}")
    inspection.inspect(base_obj, (name,) if name else (), None, depth)
    inspection.summarize()
    return not inspection.failures, inspection.failures


class _Inspection:
    """One call of inspect_serializability."""

    def __init__(self, print_file: TextIO | None) -> None:
        self.failures: set[FailureTuple] = set()
        self._seen: set[int] = set()
        self._level = 0
        self._width = 0
        self._file = print_file

    def title(self, text: str) -> None:
        self._width = max(len(line) for line in text.split("\n"))
        self._print(f"{'=' * self._width}\n{text}\n{'=' * self._width}")

    def inspect(self, obj: Any, path: tuple[str, ...], parent: Any, depth: int) -> bool:
        """Whether ``obj`` can be serialized; adds the parts that cannot to ``failures``."""
        error = pickle_failure(obj)
        if error is None:
            return True
        self._print(f"!!! FAIL serialization: {error}")
        self._seen.add(id(obj))
        if depth <= 0 or not self._inspect_parts(obj, path, depth - 1):
            self.failures.add(FailureTuple(obj, path, parent))
        return False

    def summarize(self) -> None:
        if not self.failures:
            return
        line = "=" * self._width
        self._print(f"{line}\nVariable:\n")
        for failure in self.failures:
            self._print(f"\t{failure}\n")
        self._print(f"{_HELP}\n{line}")

    def _inspect_parts(self, obj: Any, path: tuple[str, ...], depth: int) -> bool:
        """Whether a part of ``obj`` is at fault."""
        found = False
        self._level += 1
        for part in parts_of(obj, ""):
            if id(part.value) not in self._seen and pickle_failure(part.value) is not None:
                self._print(f"Serializing '{part.name}' {part.value}...")
                self.inspect(part.value, (*path, part.name), obj, depth)
                found = True
        self._level -= 1
        return found

    def _print(self, text: str) -> None:
        indent = "    " * self._level
        print("\n".join(indent + line for line in text.split("\n")), file=self._file)
