"""The key-value table of the GCS: small values that all processes of a cluster share.

Keys and values are bytes; strings are encoded in UTF-8. Every function blocks for one request to
the GCS and may be called by any thread. Without a session, and if the request fails, it raises
RaySystemError.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, NoReturn

from ray._raylet import Core, SystemError
from ray._runtime import RUNTIME
from ray.exceptions import RaySystemError

__all__ = ["internal_kv_get_gcs_client"]


def _internal_kv_initialized() -> bool:
    """Whether this process is in a session. Does not block."""
    return RUNTIME.core is not None


def _internal_kv_get(key: str | bytes, *, namespace: str | bytes | None = None) -> bytes | None:
    """The value of ``key``; None if there is none."""
    with _request() as core:
        return core.kv_get(_as_bytes("key", key), _as_namespace(namespace))


def _internal_kv_exists(key: str | bytes, *, namespace: str | bytes | None = None) -> bool:
    """Whether there is a value of ``key``."""
    with _request() as core:
        return core.kv_exists(_as_bytes("key", key), _as_namespace(namespace))


def _internal_kv_put(
    key: str | bytes,
    value: str | bytes,
    overwrite: bool = True,
    *,
    namespace: str | bytes | None = None,
) -> bool:
    """Sets the value of ``key``, unless there is one and ``overwrite`` is False.

    Returns:
        Whether there was a value before.

    Raises:
        RaySystemError: also for a value that is too large: more than 128 MiB.
    """
    blob = _as_bytes("value", value)
    with _request() as core:
        return core.kv_put(_as_bytes("key", key), blob, overwrite, _as_namespace(namespace))


def _internal_kv_del(
    key: str | bytes, *, del_by_prefix: bool = False, namespace: str | bytes | None = None
) -> int:
    """Removes ``key``, or with ``del_by_prefix`` all keys that begin with it; returns how many
    there were."""
    with _request() as core:
        return core.kv_del(_as_bytes("key", key), del_by_prefix, _as_namespace(namespace))


def _internal_kv_list(prefix: str | bytes, *, namespace: str | bytes | None = None) -> list[bytes]:
    """The keys that begin with ``prefix``."""
    with _request() as core:
        return core.kv_keys(_as_bytes("prefix", prefix), _as_namespace(namespace))


def internal_kv_get_gcs_client() -> Core | None:
    """What the functions of this module send their requests through; None without a session."""
    return RUNTIME.core


@contextlib.contextmanager
def _request() -> Iterator[Core]:
    """What a request is sent through; its failures are raised as public ones."""
    if RUNTIME.core is None:
        raise RaySystemError("There is no session, so no key-value table. Call ray.init() first.")
    try:
        yield RUNTIME.core
    except SystemError as error:
        raise RaySystemError(str(error)) from None


def _as_bytes(name: str, text: Any) -> bytes:
    if isinstance(text, str):
        return text.encode()
    if isinstance(text, bytes):
        return text
    _refuse(name, text)


def _as_namespace(namespace: Any) -> str:
    if namespace is None:
        return ""
    if isinstance(namespace, bytes):
        return namespace.decode()
    if isinstance(namespace, str):
        return namespace
    _refuse("namespace", namespace)


def _refuse(name: str, value: Any) -> NoReturn:
    raise TypeError(f"{name} must be str or bytes, not {type(value).__name__}.")
