"""Finds nodes inside any value, however deep, and puts other values in their places.

A pickler goes through the value: it knows the structure of everything that can be an argument of a
task. Nodes, references and what is better kept as it is are not pickled but passed by identity.
"""

from __future__ import annotations

import io
import pickle
import types
from collections.abc import Callable
from typing import Any

import cloudpickle  # type: ignore[import-untyped]

from ray._raylet import ObjectRef
from ray.actor import ActorCaller, ActorHandle
from ray.dag.base import DAGNodeBase
from ray.remote_function import TaskCaller

# No node is looked for inside these, and they are not copied.
_OPAQUE = (
    ActorCaller,
    ActorHandle,
    ObjectRef,
    TaskCaller,
    types.FunctionType,
    types.ModuleType,
    type,
)

_ATOMS = frozenset({bool, bytes, complex, float, int, str, type(None)})


class NestedNodes:
    """A value taken apart: the nodes inside it, and what is needed to build it anew. Immutable.

    Attributes:
        nodes: the nodes found, in order and with repetitions.
    """

    def __init__(self, value: Any) -> None:
        """Looks through ``value``.

        Raises:
            TypeError: something inside cannot be pickled, so that it could not be sent either.
        """
        self._value = value
        self._kept: list[Any] = []
        self._buffers: list[pickle.PickleBuffer] = []
        if not _is_plain(value):
            with io.BytesIO() as file:
                _Pickler(file, self._kept, self._buffers).dump(value)
                self._bytes = file.getvalue()
        self.nodes: list[Any] = [item for item in self._kept if isinstance(item, DAGNodeBase)]

    def replace(self, substitute: Callable[[Any], Any]) -> Any:
        """The value with ``substitute(node)`` for each node; the value itself if it has none."""
        if not self.nodes:
            return self._value
        kept = [substitute(x) if isinstance(x, DAGNodeBase) else x for x in self._kept]
        return _Unpickler(io.BytesIO(self._bytes), self._buffers, kept).load()


def _is_plain(value: Any) -> bool:
    """Whether nothing can be inside, at a glance."""
    kind = type(value)
    if kind is tuple or kind is list:
        return all(map(_is_plain, value))
    if kind is dict:
        return all(map(_is_plain, value)) and all(map(_is_plain, value.values()))
    return kind in _ATOMS or isinstance(value, _OPAQUE)


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]
    def __init__(
        self, file: io.BytesIO, kept: list[Any], buffers: list[pickle.PickleBuffer]
    ) -> None:
        super().__init__(file, protocol=5, buffer_callback=buffers.append)
        self._kept = kept

    def persistent_id(self, item: Any) -> int | None:
        """The index of what is not to be pickled; None for everything else."""
        if not isinstance(item, (DAGNodeBase, *_OPAQUE)):
            return None
        self._kept.append(item)
        return len(self._kept) - 1


class _Unpickler(pickle.Unpickler):
    def __init__(
        self, file: io.BytesIO, buffers: list[pickle.PickleBuffer], kept: list[Any]
    ) -> None:
        super().__init__(file, buffers=buffers)
        self._kept = kept

    def persistent_load(self, index: int) -> Any:
        return self._kept[index]
