"""An environment as the processes of a session know it: a text, equal for equal environments.

``resolve`` makes it where a job, task or actor is submitted: checked, merged with the environment
that it is submitted in, its local files uploaded. The text is canonical JSON; that of the default
environment is empty. Workers are told apart by its hash.

Every program imports this: what only those with environments need is imported where it is used.
"""

from __future__ import annotations

import contextlib
import functools
import json
import logging
import os
from collections.abc import Hashable, Iterator, Mapping
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

from ray._options import freeze_options
from ray._runtime import RUNTIME
from ray._runtime_env.fields import PACKAGE_MANAGERS, canonical_json, check_fields
from ray._serialization import pickle_definition
from ray.exceptions import RuntimeEnvSetupError

if TYPE_CHECKING:
    from ray._raylet import Core

# Of the key-value table: what is uploaded for environments lies there.
NAMESPACE = "packages"
HOOK_PREFIX = "kv:"

_UNSUPPORTED = {
    "container": "Containers are not supported. Run the node itself in a container.",
    "image_uri": "Containers are not supported. Run the node itself in a container.",
    "java_jars": "There are no Java workers.",
    "_nsight": "This profiler is not supported.",
    "_rocprof_sys": "This profiler is not supported.",
}
# What does not make a worker's process different by itself.
_SETTINGS = ("config", "excludes")
# Of these one replaces another when environments are merged.
_INTERPRETERS = (*PACKAGE_MANAGERS, "py_executable")

_logger = logging.getLogger("ray")


class Environment(NamedTuple):
    """What a worker must have been set up with."""

    hash: bytes  # names the text; b"" for the default environment
    text: str


@functools.lru_cache(maxsize=256)
def of_text(text: str) -> Environment:
    """The environment with this text."""
    return Environment(_digest(text.encode())[:16].encode() if text else b"", text)


def _digest(content: bytes) -> str:
    import hashlib

    return hashlib.sha256(content).hexdigest()


def resolve(own: Mapping[str, Any] | None) -> Environment:
    """The environment of a job, task or actor that this process submits.

    The first time in a session for a given environment it blocks while files are packaged and
    uploaded; later it only looks up.

    Args:
        own: what the user asked for; None or empty: what this process itself runs in.

    Raises:
        TypeError, ValueError: as ``fields.check_fields``; also for a package that is too large.
        RuntimeEnvSetupError: something that is not supported.
    """
    if not own:
        return of_text(RUNTIME.environment)
    RUNTIME.require()
    return _resolved(_Request(RUNTIME.epoch, RUNTIME.environment, freeze_options(own), own))


def current_environment_text() -> str:
    """The environment of this process as JSON: a worker's own, a driver's that of its job."""
    return RUNTIME.environment or "{}"


def check(own: Mapping[str, Any] | None) -> None:
    """Raises what ``resolve`` would, as far as that needs neither a session nor reading files."""
    fields = check_fields(own or {})
    for field, why in _UNSUPPORTED.items():
        if field in fields:
            raise RuntimeEnvSetupError(f"runtime_env[{field.lstrip('_')!r}] is refused. {why}")


class _Request:
    """The arguments of ``resolve``, as a key."""

    def __init__(self, epoch: int, parent: str, key: Hashable, own: Mapping[str, Any]) -> None:
        self.parent = parent
        self.own = own  # what `key` is made of
        self._key = (epoch, parent, key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Request) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)


@functools.lru_cache(maxsize=256)
def _resolved(request: _Request) -> Environment:
    check(request.own)
    own = _made_portable(check_fields(request.own), RUNTIME.require())
    merged = merge(json.loads(request.parent or "{}"), own)
    if not set(merged) - set(_SETTINGS):
        return of_text("")
    return of_text(canonical_json(merged))


def merge(parent: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of ``own`` replace those of ``parent``; variables are joined.

    A field that says which Python runs replaces whatever said so in the parent.
    """
    inherited = dict(parent)
    if any(field in own for field in _INTERPRETERS):
        for field in _INTERPRETERS:
            inherited.pop(field, None)
    merged = {**inherited, **own}
    if "env_vars" in merged:
        merged["env_vars"] = {**parent.get("env_vars", {}), **own.get("env_vars", {})}
    return merged


def _made_portable(fields: dict[str, Any], core: Core) -> dict[str, Any]:
    """The fields without anything that only this process has: files and functions are uploaded."""
    portable = dict(fields)
    unknown = sorted(set(fields) - _known_fields())
    if unknown:
        _logger.warning("Fields of runtime_env that have no effect: %s.", ", ".join(unknown))
    excludes = portable.pop("excludes", [])
    if working_dir := portable.pop("working_dir", ""):
        portable["working_dir"] = _uploaded(core, working_dir, excludes, "")
    if modules := portable.pop("py_modules", []):
        portable["py_modules"] = [_uploaded_module(core, item, excludes) for item in modules]
    hook = portable.get("worker_process_setup_hook")
    if callable(hook):
        portable["worker_process_setup_hook"] = _uploaded_hook(core, hook)
    return portable


def _known_fields() -> set[str]:
    from ray.runtime_env import RuntimeEnv

    return RuntimeEnv.known_fields


def _uploaded(core: Core, location: str, excludes: list[str], prefix: str) -> str:
    """The URI of a folder, archive or URI."""
    from ray._runtime_env.packaging import Package

    if "://" in location:
        return location
    with _as_folder(os.path.abspath(os.path.expanduser(location))) as folder:
        package = Package(folder, excludes, prefix)
        package.upload(core)
        return package.uri


def _uploaded_module(core: Core, module: str | ModuleType, excludes: list[str]) -> str:
    location = _location_of(module) if isinstance(module, ModuleType) else module
    folder = os.path.abspath(os.path.expanduser(location))
    prefix = f"{os.path.basename(folder)}/" if os.path.isdir(folder) else ""
    return _uploaded(core, location, excludes, prefix)


def _location_of(module: ModuleType) -> str:
    paths = list(getattr(module, "__path__", [])) or [getattr(module, "__file__", None)]
    if paths[0] is None:
        raise ValueError(f"runtime_env['py_modules']: {module.__name__} has no files.")
    return str(paths[0])


@contextlib.contextmanager
def _as_folder(path: str) -> Iterator[str]:
    """A folder with the content of a folder, archive or single module."""
    import tempfile

    if os.path.isdir(path):
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="runtime_env-") as folder:
        if path.endswith(".py"):
            os.symlink(path, os.path.join(folder, os.path.basename(path)))
        else:
            _unpack(path, folder)
        yield folder


def _unpack(archive: str, folder: str) -> None:
    from ray._runtime_env.sources import ARCHIVE_ERRORS, unpack

    try:
        unpack(archive, folder)
    except ARCHIVE_ERRORS as error:
        raise ValueError(f"{archive} cannot be unpacked: {error}") from error


def _uploaded_hook(core: Core, hook: Any) -> str:
    from ray._runtime_env.packaging import keep_for_job

    blob, _ = pickle_definition(hook, "the worker_process_setup_hook")
    key = f"hook:{_digest(blob)}"
    keep_for_job(core, key)
    core.kv_put(key.encode(), blob, True, NAMESPACE)
    return f"{HOOK_PREFIX}{key}"
