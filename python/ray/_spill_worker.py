"""The process through which a node spills objects to storage that has a URL.

The raylet starts it with the first object that goes there (cpp/ray/raylet/external_spill_target.h
has the protocol), on descriptor 3. It reads and writes the object store's memory itself. When the
raylet is gone, however it ended, it removes what it has stored and ends.
"""

import ctypes
import errno
import json
import mmap
import os
import signal
import socket
import struct
import sys
from collections.abc import Callable
from typing import Any, Protocol

_SOCKET_DESCRIPTOR = 3
_COPY_BYTES = 16 << 20
_LENGTH = struct.Struct("<I")
_PR_SET_PDEATHSIG = 1


class StorageError(Exception):
    """What the raylet is told instead of "ok"."""

    def __init__(self, status: str, message: str) -> None:
        super().__init__(message)
        self.status = status


class FileSystem(Protocol):
    """What is used of an ``fsspec`` file system."""

    def open(self, path: str, mode: str) -> Any: ...

    def rm_file(self, path: str) -> None: ...

    def makedirs(self, path: str, exist_ok: bool) -> None: ...

    def rmdir(self, path: str) -> None: ...


class Storage:
    """Files of one folder of an ``fsspec`` file system, from and to a piece of memory."""

    def __init__(self, file_system: FileSystem, folder: str, memory: memoryview) -> None:
        self._file_system = file_system
        self._folder = folder
        self._memory = memory
        self._names: set[str] = set()

    def write(self, name: str, pieces: list[list[int]]) -> None:
        """Stores the bytes of ``pieces``, (offset, size) each, one after the other."""
        self._names.add(name)
        try:
            with self._file_system.open(self._path(name), "wb") as file:
                for offset, size in pieces:
                    for at in range(offset, offset + size, _COPY_BYTES):
                        file.write(self._memory[at : min(at + _COPY_BYTES, offset + size)])
        except BaseException:
            self._remove_quietly(name)
            raise

    def read(self, name: str, offset: int, into: list[int]) -> None:
        """Reads from ``offset`` of the file into the memory at ``into``: (offset, size)."""
        start, size = into
        with self._file_system.open(self._path(name), "rb") as file:
            file.seek(offset)
            at = start
            while at < start + size:
                chunk = file.read(min(_COPY_BYTES, start + size - at))
                if not chunk:
                    raise StorageError("lost", f"{self._path(name)} is truncated")
                self._memory[at : at + len(chunk)] = chunk
                at += len(chunk)

    def remove(self, name: str) -> None:
        """Removes a file that was written."""
        self._names.discard(name)
        self._file_system.rm_file(self._path(name))

    def remove_all(self) -> None:
        """Removes what is left of what was written, and the folder."""
        for name in list(self._names):
            self._remove_quietly(name)
        try:
            self._file_system.rmdir(self._folder)
        except Exception as error:  # Many storages have no folders.
            print(f"the folder {self._folder} stays: {error}", file=sys.stderr)

    def _path(self, name: str) -> str:
        return f"{self._folder}/{name}"

    def _remove_quietly(self, name: str) -> None:
        try:
            self.remove(name)
        except Exception as error:
            print(f"{self._path(name)} stays: {error}", file=sys.stderr)


def open_storage(memory: str, size: int, uri: str, options: dict[str, Any]) -> Storage:
    """The storage that a URI names, for the object store's memory: a file of ``size`` bytes."""
    try:
        import fsspec
    except ImportError:
        raise StorageError(
            "failed",
            f"spilling to {uri} needs the package fsspec, which is not installed for"
            f" {sys.executable}: pip install fsspec, and what fsspec needs for this kind of URL",
        ) from None
    file_system, folder = fsspec.core.url_to_fs(uri, **options)
    file_system.makedirs(folder, exist_ok=True)
    with open(memory, "r+b") as file:
        mapped = mmap.mmap(file.fileno(), size)
    return Storage(file_system, folder.rstrip("/"), memoryview(mapped))


def serve(connection: socket.socket) -> None:
    """Answers requests until the other end is gone, then removes what was stored."""
    storage: Storage | None = None
    try:
        while (request := _receive(connection)) is not None:
            try:
                operation = request.pop("op")
                if operation == "open":
                    storage = open_storage(**request)
                elif storage is None:
                    raise StorageError("failed", f"{operation} before open")
                else:
                    operations: dict[str, Callable[..., None]] = {
                        "write": storage.write,
                        "read": storage.read,
                        "remove": storage.remove,
                    }
                    operations[operation](**request)
                answer = {"status": "ok", "message": ""}
            except Exception as error:
                answer = {"status": _status_of(error), "message": _text_of(error)}
            _send(connection, answer)
    finally:
        if storage is not None:
            storage.remove_all()


def _status_of(error: Exception) -> str:
    if isinstance(error, StorageError):
        return error.status
    if isinstance(error, FileNotFoundError):
        return "lost"
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return "full"
    return "failed"


def _text_of(error: Exception) -> str:
    return str(error) if isinstance(error, StorageError) else f"{type(error).__name__}: {error}"


def _receive(connection: socket.socket) -> dict[str, Any] | None:
    header = _receive_all(connection, _LENGTH.size)
    if header is None:
        return None
    text = _receive_all(connection, _LENGTH.unpack(header)[0])
    return None if text is None else json.loads(text)


def _receive_all(connection: socket.socket, size: int) -> bytes | None:
    received = bytearray()
    while len(received) < size:
        try:
            chunk = connection.recv(size - len(received))
        except ConnectionError:
            return None
        if not chunk:
            return None
        received += chunk
    return bytes(received)


def _send(connection: socket.socket, answer: dict[str, str]) -> None:
    text = json.dumps(answer).encode()
    try:
        connection.sendall(_LENGTH.pack(len(text)) + text)
    except ConnectionError:
        return  # The next receive ends the loop.


def main() -> None:
    """Serves on descriptor 3."""
    # It outlives the raylet to clean up, and so ends neither with it nor with a terminal.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, 0)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.set_inheritable(_SOCKET_DESCRIPTOR, False)
    with socket.socket(fileno=_SOCKET_DESCRIPTOR) as connection:
        serve(connection)


if __name__ == "__main__":
    main()
