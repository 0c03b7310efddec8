"""Serializers for classes that cannot be pickled, or not well.

Source: https://docs.ray.io/en/latest/ray-core/objects/serialization.html, conformance
core/test_core_serialization.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from ray._runtime import RUNTIME

T = TypeVar("T")


def register_serializer(
    cls: type[T], *, serializer: Callable[[T], Any], deserializer: Callable[[Any], T]
) -> None:
    """From now on this process serializes instances of exactly ``cls`` with ``serializer``.

    The deserializer travels with each object, so nothing has to be registered where it is read.
    Threads: any.

    >>> import threading
    >>> import ray
    >>> class Locked:
    ...     def __init__(self, value):
    ...         self.value = value
    ...         self.lock = threading.Lock()
    >>> register_serializer(Locked, serializer=lambda held: held.value, deserializer=Locked)
    >>> ray.get(ray.put(Locked(7))).value
    7

    Args:
        cls: the class; subclasses are not meant.
        serializer: makes something picklable of an instance.
        deserializer: the inverse; must be picklable.
    """
    RUNTIME.custom_serializers[cls] = (serializer, deserializer)


def deregister_serializer(cls: type) -> None:
    """Undoes ``register_serializer``; nothing happens if there is none for ``cls``.

    >>> class Plain:
    ...     pass
    >>> register_serializer(Plain, serializer=lambda plain: None, deserializer=lambda _: "another")
    >>> deregister_serializer(Plain)
    """
    RUNTIME.custom_serializers.pop(cls, None)
