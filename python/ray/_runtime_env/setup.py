"""A worker enters its environment, before it connects to the raylet.

It runs in the process that the zygote forked, on its only thread, and may take as long as packages
take to install: the raylet knows that the environment is being set up. If that fails, the raylet
hears why, and the tasks that waited for the worker fail with RuntimeEnvSetupError.

What most environments do not need is imported where it is used: each worker would pay for it.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import pickle
import re
import shlex
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from types import FrameType
from typing import TYPE_CHECKING, Any

from ray import _raylet
from ray._runtime import RUNTIME
from ray._runtime_env.cache import Cache, message_of
from ray._runtime_env.fields import CONFIG_DEFAULTS
from ray._runtime_env.resolution import HOOK_PREFIX, NAMESPACE, of_text
from ray.exceptions import RuntimeEnvSetupError

if TYPE_CHECKING:
    from ray._raylet import Core
    from ray._runtime_env.interpreters import Installer, Interpreter

# Read while a process starts, or by libraries that the zygote has loaded already: with these a
# worker starts over.
_READ_AT_START = re.compile(r"(LD|PYTHON|MALLOC|GLIBC|OMP|KMP|MKL|OPENBLAS)_?\w*|\w+_NUM_THREADS")

# Requirements may name files below it.
_WORKING_DIR_VARIABLE = "RAY_RUNTIME_ENV_CREATE_WORKING_DIR"

_VARIABLE = re.compile(r"\$(?:\{(\w+)\}|(\w+))")


def enter(text: str, startup_token: int) -> None:
    """Sets this process up. Blocks; returns only in an environment without a Python of its own.

    Otherwise this process becomes that Python, and goes on there as a worker. If the set-up fails,
    it reports that to the raylet and ends.

    Args:
        text: the environment, as ``resolution`` made it.
        startup_token: the number of the raylet's fork request.
    """
    session_dir = os.environ["RAY_SESSION_DIR"]
    raylet = _Raylet(os.environ["RAY_RAYLET_ENDPOINT"], startup_token, session_dir)
    try:
        environment = json.loads(text)
        with _time_limit(environment):
            setup = _Setup(environment, session_dir, raylet)
        if setup.command is not None:
            from ray._worker_exec import exec_worker

            exec_worker(
                setup.command,
                startup_token,
                text=text,
                import_path=setup.import_path,
                locks=setup.locks,
            )
    except BaseException as error:
        traceback.print_exc()
        sys.stderr.flush()
        with raylet.connected() as core:
            core.report_environment_error(message_of(error))
        os._exit(1)
    sys.path[:0] = setup.import_path
    RUNTIME.enter_environment(text, setup.import_path)


class _Raylet:
    """The raylet, for a process that is not a worker yet. While connected there is a second thread:
    installers, which are forked, are run without."""

    def __init__(self, endpoint: str, startup_token: int, session_dir: str) -> None:
        self._endpoint = endpoint
        self._startup_token = startup_token
        self._log_file = os.path.join(session_dir, "logs", f"core-worker-{os.getpid()}.log")

    @contextlib.contextmanager
    def connected(self) -> Iterator[Core]:
        core = _raylet.Core.connect_setup(
            self._endpoint, startup_token=self._startup_token, log_file=self._log_file
        )
        try:
            yield core
        finally:
            core.shutdown()


class _Setup:
    """What was made of an environment: this process has it, except for another Python."""

    def __init__(self, environment: Mapping[str, Any], session_dir: str, raylet: _Raylet) -> None:
        self.command: list[str] | None = None  # of the Python to become
        self.import_path: list[str] = []
        self.locks: list[int] = []  # of what it uses in the caches
        self._environment = environment
        self._session_dir = session_dir
        self._raylet = raylet
        self._set_variables()
        self._add_files()
        self._choose_python()

    def _set_variables(self) -> None:
        variables: dict[str, str] = self._environment.get("env_vars", {})
        for name, value in variables.items():
            os.environ[name] = expand_variables(value)
        if "TZ" in variables:
            time.tzset()
        if any(_READ_AT_START.fullmatch(name) for name in variables):
            self.command = [sys.executable]

    def _add_files(self) -> None:
        if uri := self._environment.get("working_dir"):
            # A job may write to its current folder, so that it does not get that of another
            # session.
            cache = Cache(os.path.join(self._session_dir, "runtime_env"))
            self.import_path.append(self._fetched(cache, "working_dir", uri))
            os.chdir(self.import_path[0])
            os.environ[_WORKING_DIR_VARIABLE] = self.import_path[0]
        for uri in self._environment.get("py_modules", ()):
            self.import_path.append(self._fetched(self._node_cache(), "py_modules", uri))
        if self.import_path:
            inherited = os.environ.get("PYTHONPATH")
            paths = [*self.import_path, *filter(None, [inherited])]
            os.environ["PYTHONPATH"] = os.pathsep.join(paths)

    def _fetched(self, cache: Cache, kind: str, uri: str) -> str:
        from ray._runtime_env.sources import content_key, fetch

        def build(folder: str) -> None:
            with self._raylet.connected() as core:
                fetch(uri, folder, lambda key: core.kv_get(key, NAMESPACE))

        entry = cache.acquire(kind, content_key(uri), build)
        self.locks.append(entry.lock)
        return entry.path

    def _choose_python(self) -> None:
        if executable := self._environment.get("py_executable"):
            self.command = shlex.split(expand_variables(executable))
            self._installer().check(self.command)
        interpreter = self._packages()
        if interpreter is None:
            return
        self.command = interpreter.command
        if interpreter.entry is not None:
            self.locks.append(interpreter.entry.lock)
            os.environ["VIRTUAL_ENV"] = interpreter.entry.path
        path = os.environ.get("PATH", os.defpath)
        os.environ["PATH"] = os.pathsep.join([interpreter.bin_folder, path])

    def _packages(self) -> Interpreter | None:
        for manager in ("pip", "uv"):
            if spec := self._environment.get(manager):
                return self._installer().virtual_environment(manager, spec)
        if conda := self._environment.get("conda"):
            interpreter = self._installer().conda_environment(conda)
            self._installer().check(interpreter.command)
            return interpreter
        return None

    def _installer(self) -> Installer:
        from ray._runtime_env.interpreters import Installer

        name = of_text(json.dumps(self._environment, sort_keys=True)).hash.decode()
        log_file = os.path.join(self._session_dir, "logs", f"runtime_env_setup-{name}.log")
        return Installer(self._node_cache(), log_file)

    def _node_cache(self) -> Cache:
        """Of all sessions of this user."""
        sessions = os.path.dirname(self._session_dir)
        return Cache(os.path.join(sessions, f"runtime_env_cache_{os.geteuid()}"))


def expand_variables(value: str) -> str:
    """``$NAME`` and ``${NAME}`` replaced by the variables of this process; "" for one not set."""
    return _VARIABLE.sub(lambda found: os.environ.get(found[1] or found[2], ""), value)


@contextlib.contextmanager
def _time_limit(environment: Mapping[str, Any]) -> Iterator[None]:
    """Raises in this thread, the main one, after the environment's setup_timeout_seconds."""
    limit = environment.get("config", CONFIG_DEFAULTS)["setup_timeout_seconds"]

    def give_up(number: int, frame: FrameType | None) -> None:
        raise RuntimeEnvSetupError(
            f"It was not ready after {limit} s. Allow more by"
            " runtime_env['config']['setup_timeout_seconds']."
        )

    before = signal.signal(signal.SIGALRM, give_up)
    signal.setitimer(signal.ITIMER_REAL, max(limit, 0))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def run_setup_hook(core: Core) -> None:
    """Runs the worker_process_setup_hook of this process's environment, if it has one.

    The worker must be able to import what the driver can.

    Raises:
        RuntimeEnvSetupError: it failed; the message has its traceback.
    """
    name = json.loads(RUNTIME.environment or "{}").get("worker_process_setup_hook")
    if name is None:
        return
    try:
        _load_hook(core, name)()
    except Exception as error:
        raise RuntimeEnvSetupError(
            f"The worker_process_setup_hook failed:\n{traceback.format_exc()}"
        ) from error


def _load_hook(core: Core, name: str) -> Callable[[], Any]:
    hook: Callable[[], Any]
    if name.startswith(HOOK_PREFIX):
        key = name.removeprefix(HOOK_PREFIX).encode()
        blob = core.kv_get(key, NAMESPACE)
        if blob is None:
            raise KeyError(f"the function is not in this cluster: {name}")
        hook = pickle.loads(blob)
        return hook
    module, _, function = name.rpartition(".")
    hook = getattr(importlib.import_module(module), function)
    return hook
