"""The one pickler of values, arguments and functions: cloudpickle with protocol 5, plus the
serializers that users register."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cloudpickle  # type: ignore[import-untyped]

from ray._runtime import RUNTIME


class ValuePickler(cloudpickle.Pickler):  # type: ignore[misc]
    def reducer_override(self, value: Any) -> Any:
        custom = RUNTIME.custom_serializers.get(type(value))
        if custom is not None:
            serializer, deserializer = custom
            return _apply, (deserializer, serializer(value))
        if type(value) is memoryview:
            return bytes, (bytes(value),)
        return super().reducer_override(value)


def _apply(deserializer: Callable[[Any], Any], plain: Any) -> Any:
    return deserializer(plain)
