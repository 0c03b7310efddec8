"""A user's function or class, pickled once a session however many option sets it is used with."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from ray._runtime import RUNTIME
from ray._serialization import pickle_definition

if TYPE_CHECKING:
    from ray._raylet import ObjectRef


class Definition:
    """The definition and its pickled form. Threads: any.

    It is pickled in the first call of each session, not when it is declared: what it captures
    (references, other remote functions) belongs to a session.
    """

    __slots__ = ("_blob", "_epoch", "_lock", "_name", "_refs", "value")

    def __init__(self, value: Any, name: str) -> None:
        """``name`` says what it is in error messages: "the function f"."""
        self.value = value
        self._name = name
        self._lock = threading.Lock()
        self._epoch = -1
        self._blob = b""
        self._refs: list[ObjectRef[Any]] = []

    def pickled(self) -> tuple[bytes, list[ObjectRef[Any]]]:
        """The definition as bytes, and the references inside, which must be kept while the bytes
        are in use.

        Requires a session.

        Raises:
            TypeError: it captures something that cannot be serialized.
        """
        epoch = RUNTIME.epoch
        with self._lock:
            if self._epoch != epoch:
                self._blob, self._refs = pickle_definition(self.value, self._name)
                self._epoch = epoch
            return self._blob, self._refs
