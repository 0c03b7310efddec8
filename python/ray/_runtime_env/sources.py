"""What a URI names, brought to this node and unpacked.

Packages of the key-value table are unpacked as they are. Archives from elsewhere that hold one
folder only, as those of code hosts do, become the content of that folder, unless it is a Python
package itself.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import json
import os
import shutil
import tarfile
import tempfile
import urllib.parse
import zipfile
from collections.abc import Callable
from typing import IO, Any

from ray._runtime_env.packaging import content_digest, part_key
from ray.exceptions import RuntimeEnvSetupError

# key -> value of the namespace of packages.
ReadPackageTable = Callable[[bytes], "bytes | None"]

# What ``unpack`` raises.
ARCHIVE_ERRORS = (OSError, zipfile.BadZipFile, tarfile.TarError)

_HTTP_TIMEOUT_S = 60


def content_key(uri: str) -> str:
    """Names what a URI stands for now, as far as its place can tell without a download.

    Raises:
        RuntimeEnvSetupError: a scheme that needs a package that is not installed.
    """
    return hashlib.sha256(f"{uri}\0{_version_of(uri)}".encode()).hexdigest()[:32]


def _version_of(uri: str) -> str:
    scheme, _, path = uri.partition("://")
    if scheme == "gcs":
        return ""  # Named by its content.
    if scheme == "file":
        return content_digest(_file_path(uri))
    if scheme == "https":
        import urllib.request  # Takes long to import.

        request = urllib.request.Request(uri, method="HEAD")
        # Not every server answers this. The download says what is wrong, if something is.
        with contextlib.suppress(OSError):
            with urllib.request.urlopen(request, timeout=_HTTP_TIMEOUT_S) as response:
                return response.headers.get("ETag") or response.headers.get("Last-Modified") or ""
        return ""
    filesystem, path = _filesystem(uri)
    return str(filesystem.ukey(path))


def fetch(uri: str, folder: str, read_table: ReadPackageTable) -> None:
    """Fills a folder with what a URI names. Blocks.

    Args:
        uri: of an archive.
        folder: an empty folder.
        read_table: reads the table of packages, for ``gcs://``.

    Raises:
        RuntimeEnvSetupError: it is not there or cannot be read.
    """
    with tempfile.TemporaryDirectory(prefix="runtime_env-") as temporary:
        archive = os.path.join(temporary, os.path.basename(urllib.parse.urlsplit(uri).path or uri))
        try:
            with open(archive, "wb") as file:
                _download(uri, file, read_table)
            if uri.startswith("gcs://"):
                _unpack_zip(archive, folder)
            else:
                unpack(archive, folder)
        except ARCHIVE_ERRORS as error:
            raise RuntimeEnvSetupError(
                f"{uri} cannot be fetched: {type(error).__name__}: {error}. Check that it is"
                " reachable from this node."
            ) from error


def unpack(archive: str, folder: str) -> None:
    """Unpacks an archive or wheel from outside into an empty folder.

    Raises:
        ARCHIVE_ERRORS: it cannot be read, or a name in it leads out of the folder.
    """
    if archive.endswith(".whl"):
        _unpack_zip(archive, folder)
        _spread_wheel_data(folder)
        return
    if archive.endswith(".zip"):
        _unpack_zip(archive, folder)
    else:
        with tarfile.open(archive) as source:
            source.extractall(folder, filter="data")
    _enter_only_folder(folder)


def _download(uri: str, file: IO[bytes], read_table: ReadPackageTable) -> None:
    scheme = uri.partition("://")[0]
    if scheme == "gcs":
        _read_package(uri, file, read_table)
    elif scheme == "file":
        with open(_file_path(uri), "rb") as source:
            shutil.copyfileobj(source, file)
    elif scheme == "https":
        import urllib.request

        with urllib.request.urlopen(uri, timeout=_HTTP_TIMEOUT_S) as response:
            shutil.copyfileobj(response, file)
    else:
        filesystem, path = _filesystem(uri)
        with filesystem.open(path, "rb") as source:
            shutil.copyfileobj(source, file)


def _read_package(uri: str, file: IO[bytes], read_table: ReadPackageTable) -> None:
    manifest = read_table(uri.encode())
    if manifest is None:
        raise RuntimeEnvSetupError(
            f"The package {uri} is not in this cluster: it was uploaded to another one, or its"
            " control plane was restarted without storage."
        )
    for index in range(json.loads(manifest)["parts"]):
        part = read_table(part_key(uri, index))
        if part is None:
            raise RuntimeEnvSetupError(f"Part {index} of the package {uri} is missing.")
        file.write(part)


def _file_path(uri: str) -> str:
    return urllib.parse.unquote(urllib.parse.urlsplit(uri).path)


def _filesystem(uri: str) -> tuple[Any, str]:
    try:
        fsspec = importlib.import_module("fsspec")
        filesystem, path = fsspec.core.url_to_fs(uri)
    except ImportError as error:
        raise RuntimeEnvSetupError(
            f"Fetching {uri} needs a package that is not installed on this node: {error}. Install"
            " fsspec and its implementation of this scheme (s3fs, gcsfs, adlfs), or use https://."
        ) from error
    return filesystem, path


def _unpack_zip(archive: str, folder: str) -> None:
    """As ZipFile.extractall, and sets the permissions of files."""
    with zipfile.ZipFile(archive) as source:
        for info in source.infolist():
            path = source.extract(info, folder)
            mode = info.external_attr >> 16 & 0o777
            if mode and not info.is_dir():
                os.chmod(path, mode)


def _enter_only_folder(folder: str) -> None:
    names = os.listdir(folder)
    inner = os.path.join(folder, names[0]) if len(names) == 1 else ""
    if not os.path.isdir(inner) or os.path.exists(os.path.join(inner, "__init__.py")):
        return
    # Under a name that none of its own entries can have.
    moved = os.path.join(folder, f"{names[0]}.only")
    os.rename(inner, moved)
    _move_content(moved, folder)


def _spread_wheel_data(folder: str) -> None:
    """Modules that a wheel keeps in its .data folder belong beside the others."""
    for name in os.listdir(folder):
        for part in ("purelib", "platlib"):
            if name.endswith(".data") and os.path.isdir(os.path.join(folder, name, part)):
                _move_content(os.path.join(folder, name, part), folder)


def _move_content(source: str, target: str) -> None:
    for name in os.listdir(source):
        os.rename(os.path.join(source, name), os.path.join(target, name))
    os.rmdir(source)
