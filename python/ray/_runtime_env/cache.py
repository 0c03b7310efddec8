"""The node's cache of what environments need: built once by content, shared, removed when unused.

    <root>/<kind>/<key>        an entry: a folder
    <root>/<kind>/<key>.lock   its lock; says the entry's size in bytes once it is complete, and is
                               modified at its last use
    <root>/<kind>/<key>.error  why the last attempt to build it failed

Who builds or removes an entry holds its lock exclusively; who uses it holds it shared, as a
descriptor, for life. The kernel gives locks up with the process that holds them, however it ends:
there are no counts to lose.

    CACHE-1  an entry is complete exactly while its lock file says its size. It is built in its
             place, since virtual environments cannot be moved; what a crash left of a build is
             removed by the next one.
    CACHE-2  an entry is built by one process at a time, and once if that succeeds. If it fails,
             those who waited for it meanwhile fail with the same error instead of trying again.
    CACHE-3  an entry whose lock anybody holds is not removed.

A lock file is removed with its entry. So whoever got a lock looks whether the file still has its
name, and starts over if not.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

from ray.exceptions import RuntimeEnvSetupError

# Entries beyond this much are removed once nobody uses them, the longest unused first.
MAX_BYTES_VARIABLE = "RAY_runtime_env_cache_max_bytes"
_MAX_BYTES_DEFAULT = 10 << 30


class Entry(NamedTuple):
    """A folder of the cache, there as long as the descriptor ``lock`` is open."""

    path: str
    lock: int


class Cache:
    """One folder of entries. Threads and processes: any; each call opens locks of its own."""

    def __init__(self, root: str) -> None:
        """``root`` is made if it is not there; only its owner may enter it.

        Raises:
            RuntimeEnvSetupError: it belongs to another user, who could put code into it.
        """
        os.makedirs(root, mode=0o700, exist_ok=True)
        if os.stat(root).st_uid != os.geteuid():
            raise RuntimeEnvSetupError(
                f"The cache folder {root} belongs to another user. Remove it, or pass another"
                " _temp_dir to ray.init."
            )
        self._root = root

    def acquire(self, kind: str, key: str, build: Callable[[str], None]) -> Entry:
        """The entry, built first if it is not there. Blocks while another process builds it.

        Args:
            kind: a folder of the cache: "pip", "py_modules".
            key: names the content; a file name.
            build: fills a new folder. Its exceptions leave nothing behind.

        Raises:
            RuntimeEnvSetupError: another process failed to build it while this one waited.
        """
        os.makedirs(os.path.join(self._root, kind), mode=0o700, exist_ok=True)
        path = os.path.join(self._root, kind, key)
        asked_at = time.time()
        while True:
            with _locked(f"{path}.lock", fcntl.LOCK_SH) as lock:
                if _size(lock):
                    os.utime(lock)
                    return Entry(path, os.dup(lock))
            self._build(path, build, asked_at)

    def _build(self, path: str, build: Callable[[str], None], asked_at: float) -> None:
        with _locked(f"{path}.lock", fcntl.LOCK_EX) as lock:
            if _size(lock):
                return
            _raise_if_failed_since(path, asked_at)
            _remove_folder(path)
            os.mkdir(path, mode=0o700)
            try:
                build(path)
                # At least 1: an empty folder is an entry, too.
                os.pwrite(lock, str(_folder_size(path) + 1).encode(), 0)
            except BaseException as error:
                _remove_folder(path)
                with open(f"{path}.error", "w") as file:
                    file.write(message_of(error))
                raise
        self.collect(_max_bytes(), keep=path)

    def collect(self, max_bytes: int, keep: str = "") -> None:
        """Removes entries that nobody uses until the rest fits, the longest unused first.

        Args:
            max_bytes: how much the cache may hold.
            keep: path of an entry that stays.
        """
        entries = sorted(self._entries())
        excess = sum(size for _, size, _ in entries) - max_bytes
        for _, size, path in entries:
            if excess <= 0:
                return
            if path != keep and _remove_if_unused(path):
                excess -= size

    def _entries(self) -> Iterator[tuple[float, int, str]]:
        """(time of last use, bytes, path) of each."""
        import glob

        for lock in glob.glob(os.path.join(glob.escape(self._root), "*", "*.lock")):
            with contextlib.suppress(FileNotFoundError):  # They come and go meanwhile.
                with open(lock) as file:
                    size = _size(file.fileno())
                if size:
                    yield os.stat(lock).st_mtime, size, lock.removesuffix(".lock")


def message_of(error: BaseException) -> str:
    """What an error says to a user."""
    if isinstance(error, RuntimeEnvSetupError):
        return error.error_message or ""
    return f"{type(error).__name__}: {error}"


def _size(lock: int) -> int:
    """What a lock file says: 0 while the entry is not complete."""
    return int(os.pread(lock, 32, 0) or b"0")


def _folder_size(path: str) -> int:
    return sum(
        os.lstat(os.path.join(folder, name)).st_size
        for folder, _, files in os.walk(path)
        for name in files
    )


@contextlib.contextmanager
def _locked(path: str, mode: int) -> Iterator[int]:
    """Holds the lock; gives its descriptor. A copy of that descriptor keeps it held."""
    while True:
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, mode)
            if _has_name(lock, path):
                yield lock
                return
        finally:
            os.close(lock)


def _has_name(descriptor: int, path: str) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False


def _raise_if_failed_since(path: str, asked_at: float) -> None:
    with contextlib.suppress(FileNotFoundError):
        if os.stat(f"{path}.error").st_mtime > asked_at:
            with open(f"{path}.error") as file:
                raise RuntimeEnvSetupError(file.read())


def _remove_folder(path: str) -> None:
    import shutil  # Loads three compression libraries; every worker would keep them.

    shutil.rmtree(path, ignore_errors=True)


def _remove_if_unused(path: str) -> bool:
    lock = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not _has_name(lock, f"{path}.lock"):
            return False
        os.truncate(lock, 0)
        _remove_folder(path)
        os.unlink(f"{path}.lock")
        return True
    except BlockingIOError:
        return False
    finally:
        os.close(lock)


def _max_bytes() -> int:
    return int(os.environ.get(MAX_BYTES_VARIABLE, _MAX_BYTES_DEFAULT))
