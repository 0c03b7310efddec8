"""Log messages that are wanted once, or once in a while.

Source: https://docs.ray.io/en/latest/ray-core/api/utility.html.
"""

from __future__ import annotations

import threading
import time

# How often keys come again with periodic logging.
_PERIOD_S = 60.0


class _OnceKeys:
    """Which keys were logged. Threads: any."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._logged: set[str] = set()
        self._disabled = False
        self._periodic = False
        self._began_s = 0.0

    def take(self, key: str) -> bool:
        """Whether ``key`` is new; it is not from now on."""
        with self._lock:
            if self._disabled:
                return False
            now_s = time.monotonic()
            if self._periodic and now_s - self._began_s > _PERIOD_S:
                self._logged.clear()
                self._began_s = now_s
            is_new = key not in self._logged
            self._logged.add(key)
            return is_new

    def disable(self) -> None:
        self._disabled = True

    def repeat(self) -> None:
        with self._lock:
            self._periodic = True
            self._began_s = time.monotonic()

    def forget(self, key: str | None) -> None:
        with self._lock:
            if key is None:
                self._logged.clear()
            else:
                self._logged.discard(key)


_KEYS = _OnceKeys()


def log_once(key: str) -> bool:
    """Whether this is the first call with ``key`` in this process: for messages that would repeat.

    Args:
        key: names the message.

    Returns:
        True the first time. With ``enable_periodic_logging``, the first time in each minute. False
        always after ``disable_log_once_globally``.

    >>> log_once("an example of log_once"), log_once("an example of log_once")
    (True, False)
    """
    return _KEYS.take(key)


def disable_log_once_globally() -> None:
    """From now on ``log_once`` is False for every key: such messages are not logged in this
    process.

    >>> import ray
    >>> @ray.remote
    ... def is_logged_here():
    ...     disable_log_once_globally()
    ...     return log_once("an example of disable_log_once_globally")
    >>> ray.get(is_logged_here.remote())
    False
    """
    _KEYS.disable()


def enable_periodic_logging() -> None:
    """From now on ``log_once`` is True again for each key once in a minute.

    >>> enable_periodic_logging()
    >>> log_once("an example of periodic logging"), log_once("an example of periodic logging")
    (True, False)
    """
    _KEYS.repeat()


def reset_log_once(key: str | None = None) -> None:
    """Forgets that ``key`` was logged; without a key, forgets all of them."""
    _KEYS.forget(key)
