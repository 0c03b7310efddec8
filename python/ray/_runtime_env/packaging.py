"""A folder as a package: which of its files, its name by content, and its upload.

A package is called ``gcs://_ray_pkg_<digest>.zip``. In the key-value table (namespace "packages")
the entry of that name is a manifest, ``{"parts": N}``, and the archive lies in N entries with
``#0``, ``#1``... appended. The manifest is written last: where it is, the package is complete, and
needs no second upload.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import shutil
import stat
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from typing import IO, TYPE_CHECKING, NamedTuple

from ray._runtime_env.resolution import NAMESPACE

if TYPE_CHECKING:
    from ray._raylet import Core

_PREFIX = "gcs://_ray_pkg_"

# Larger packages are refused: they would fill the memory of the control plane.
MAX_BYTES_VARIABLE = "RAY_runtime_env_package_max_bytes"
_MAX_BYTES_DEFAULT = 500 << 20
_LARGEST_NAMED = 5

# Well below the largest value that the table takes (kv_value_max_bytes).
_PART_BYTES = 32 << 20

# Left out without being asked. The variable, a list with commas, replaces them.
_DEFAULT_EXCLUDES_VARIABLE = "RAY_OVERRIDE_RUNTIME_ENV_DEFAULT_EXCLUDES"
_DEFAULT_EXCLUDES = ".git,.venv,venv,__pycache__"
_IGNORE_GITIGNORE_VARIABLE = "RAY_RUNTIME_ENV_IGNORE_GITIGNORE"
_IGNORE_FILES = (".gitignore", ".rayignore")

# Archives of the same files are the same bytes: all times in them are the first that zip knows.
_ZIP_TIME = (1980, 1, 1, 0, 0, 0)


class _File(NamedTuple):
    """A file or an empty folder of a package."""

    name: str  # its path in the package; that of a folder ends with a slash
    path: str
    mode: int
    size: int


class Package:
    """The files of a folder that are to travel. Threads: any."""

    def __init__(self, folder: str, excludes: Sequence[str] = (), prefix: str = "") -> None:
        """Finds the files and reads them once, for the name.

        Args:
            folder: the folder.
            excludes: gitignore patterns of what to leave out, beside what its .gitignore and
                .rayignore files say.
            prefix: the folder inside the package that the files get: "" or a name with a slash.

        Raises:
            ValueError: the files are larger than allowed; the message names the largest.
        """
        self._files = sorted(_find_files(folder, excludes))
        _check_size(folder, self._files)
        self._prefix = prefix
        self.uri = f"{_PREFIX}{self._digest()}.zip"

    def upload(self, core: Core) -> None:
        """Puts the package where all nodes find it, unless it is there. Blocks."""
        keep_for_job(core, self.uri)
        key = self.uri.encode()
        if core.kv_exists(key, NAMESPACE):
            return
        with tempfile.TemporaryFile() as archive:
            self._write(archive)
            archive.seek(0)
            count = 0
            while part := archive.read(_PART_BYTES):
                core.kv_put(part_key(self.uri, count), part, True, NAMESPACE)
                count += 1
        core.kv_put(key, json.dumps({"parts": count}).encode(), True, NAMESPACE)

    def _digest(self) -> str:
        digest = hashlib.sha256(self._prefix.encode())
        for file in self._files:
            executable = bool(file.mode & stat.S_IXUSR)
            digest.update(f"\0{file.name}\0{executable}\0{file.size}\0".encode())
            if not file.name.endswith("/"):
                _add_content(digest, file.path)
        return digest.hexdigest()[:32]

    def _write(self, archive: IO[bytes]) -> None:
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as target:
            for file in self._files:
                info = zipfile.ZipInfo(self._prefix + file.name, _ZIP_TIME)
                info.external_attr = file.mode << 16
                info.compress_type = zipfile.ZIP_DEFLATED
                if file.name.endswith("/"):
                    target.writestr(info, b"")
                    continue
                with open(file.path, "rb") as source, target.open(info, "w") as copy:
                    shutil.copyfileobj(source, copy)


def keep_for_job(core: Core, key: str) -> None:
    """Says that this job uses what is in the table under keys that begin with this one. Once no
    job that said so is left, with its detached actors, the GCS deletes them. Blocks."""
    item = f"{core.job_id.hex()} {NAMESPACE} {key}"
    core.kv_put(item.encode(), b"", True, "job_items")


def part_key(uri: str, index: int) -> bytes:
    """The key of one part of a package."""
    return f"{uri}#{index}".encode()


def content_digest(path: str) -> str:
    """Names the content of a file or folder: the same for the same bytes."""
    if os.path.isdir(path):
        return Package(path).uri.removeprefix(_PREFIX)
    digest = hashlib.sha256()
    _add_content(digest, path)
    return digest.hexdigest()


def _add_content(digest: hashlib._Hash, path: str) -> None:
    with open(path, "rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)


def _check_size(folder: str, files: Sequence[_File]) -> None:
    total = sum(file.size for file in files)
    limit = int(os.environ.get(MAX_BYTES_VARIABLE, _MAX_BYTES_DEFAULT))
    if total <= limit:
        return
    largest = sorted(files, key=lambda file: file.size, reverse=True)[:_LARGEST_NAMED]
    listed = "\n".join(f"  {_mebibytes(file.size):>12}  {file.path}" for file in largest)
    raise ValueError(
        f"The files of {folder} take {_mebibytes(total)}, more than the {_mebibytes(limit)} that a"
        f" package may have. The largest:\n{listed}\nLeave out what workers do not need by"
        " runtime_env['excludes'] or a .gitignore file, or raise the limit by the environment"
        f" variable {MAX_BYTES_VARIABLE} (bytes)."
    )


def _mebibytes(size: int) -> str:
    return f"{size / (1 << 20):.1f} MiB"


class _Ignored:
    """The patterns that hold in a folder: its own, and those of the folders above."""

    def __init__(self, folder: str, lines: Sequence[str], above: _Ignored | None) -> None:
        self._folder = folder
        pathspec = importlib.import_module("pathspec")  # Workers, which unpack, do not need it.
        self._spec = pathspec.GitIgnoreSpec.from_lines(lines)
        self._above = above

    def matches(self, path: str, is_folder: bool) -> bool:
        """Whether to leave it out. The nearest patterns that say something decide."""
        name = os.path.relpath(path, self._folder) + ("/" if is_folder else "")
        verdict = self._spec.check_file(name).include
        if verdict is None:
            return self._above is not None and self._above.matches(path, is_folder)
        return bool(verdict)


def _find_files(root: str, excludes: Sequence[str]) -> Iterator[_File]:
    default = os.environ.get(_DEFAULT_EXCLUDES_VARIABLE, _DEFAULT_EXCLUDES).split(",")
    always = _Ignored(root, [*filter(None, default), *excludes], None)
    yield from _find_in(root, root, always, None, frozenset())


def _find_in(
    root: str, folder: str, always: _Ignored, ignored: _Ignored | None, above: frozenset[str]
) -> Iterator[_File]:
    """The files below ``folder``. ``above`` are the real paths of the folders it lies in."""
    real = os.path.realpath(folder)
    if real in above:
        return  # A link to a folder that contains it.
    ignored = _Ignored(folder, _ignore_lines(folder), ignored)
    empty = True
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        is_folder = entry.is_dir()
        if always.matches(entry.path, is_folder) or ignored.matches(entry.path, is_folder):
            continue
        if is_folder:
            yield from _find_in(root, entry.path, always, ignored, above | {real})
        elif entry.is_file():
            found = entry.stat()
            name = os.path.relpath(entry.path, root)
            yield _File(name, entry.path, found.st_mode, found.st_size)
        else:
            continue  # A socket, a pipe, or a link to nothing.
        empty = False
    if empty and folder != root:
        yield _File(os.path.relpath(folder, root) + "/", folder, os.stat(folder).st_mode, 0)


def _ignore_lines(folder: str) -> list[str]:
    if os.environ.get(_IGNORE_GITIGNORE_VARIABLE) == "1":
        return []
    lines: list[str] = []
    for name in _IGNORE_FILES:
        path = os.path.join(folder, name)
        if os.path.isfile(path):
            with open(path) as file:
                lines += file.read().splitlines()
    return lines
