"""Python environments on this node: of pip and uv, which are built here, and of conda.

A virtual environment sees the packages of the Python that it was made by, behind its own: ``ray``
and what it needs are there, and what the program installs goes first.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import os
import shlex
import shutil
import signal
import site
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import ray
from ray._runtime_env.cache import Cache, Entry
from ray._runtime_env.fields import canonical_json
from ray._runtime_env.packaging import content_digest
from ray.exceptions import RuntimeEnvSetupError

# How much of an installer's output an error shows.
_OUTPUT_TAIL_BYTES = 4000
_PR_SET_PDEATHSIG = 1

# Read by Python as it starts: folders that follow the environment's own.
_PARENT_PATHS_FILE = "_ray_parent.pth"


class Interpreter(NamedTuple):
    """A Python of an environment."""

    command: list[str]
    bin_folder: str  # with its programs
    entry: Entry | None = None  # of the cache


class _Commands(NamedTuple):
    """Of a program that installs packages into one environment."""

    install: list[str]
    check: list[str]


class Installer:
    """Runs the programs that build environments. One thread."""

    def __init__(self, cache: Cache, log_file: str) -> None:
        """``log_file`` gets all they print."""
        self._cache = cache
        self._log_file = log_file

    def virtual_environment(self, manager: str, spec: Mapping[str, Any]) -> Interpreter:
        """The Python of a virtual environment with packages, built unless it is in the cache.

        Args:
            manager: "pip" or "uv".
            spec: that field of the environment, in its normal form.

        Raises:
            RuntimeEnvSetupError: the installer failed; the message has the end of its output.
        """
        key = _key({manager: spec}, spec["packages"])

        def build(folder: str) -> None:
            self._make_virtual_environment(folder)
            self._install_packages(folder, manager, spec)
            self.check([_python_of(folder)])

        return self._in_cache(manager, key, build)

    def conda_environment(self, spec: str | Mapping[str, Any]) -> Interpreter:
        """The Python of a conda environment: an existing one by name or folder, or one that is
        created unless it is in the cache.

        Raises:
            RuntimeEnvSetupError: there is no conda here, no environment of that name, or it cannot
                be created.
        """
        conda = os.environ.get("CONDA_EXE") or shutil.which("conda")
        if conda is None:
            raise RuntimeEnvSetupError(
                "runtime_env['conda'] needs the program conda, which this node does not have on its"
                " PATH. Install conda on the node, or use the 'pip' or 'uv' field."
            )
        if isinstance(spec, str):
            folder = self._find_conda_environment(conda, spec)
            return Interpreter([_python_of(folder)], os.path.join(folder, "bin"))
        return self._in_cache(
            "conda", _key(spec, ()), lambda folder: self._create_by_conda(conda, folder, spec)
        )

    def check(self, command: Sequence[str]) -> None:
        """Sees to it that a command runs a Python that can be a worker.

        Raises:
            RuntimeEnvSetupError: it is not there, or cannot import ray.
        """
        self._run(worker_command(command, "import ray._worker_exec"))

    def _in_cache(self, kind: str, key: str, build: Callable[[str], None]) -> Interpreter:
        entry = self._cache.acquire(kind, key, build)
        return Interpreter([_python_of(entry.path)], os.path.join(entry.path, "bin"), entry)

    def _make_virtual_environment(self, folder: str) -> None:
        self._run([sys.executable, "-m", "venv", "--without-pip", folder])
        library = sysconfig.get_path("purelib", "posix_prefix", {"base": folder})
        with open(os.path.join(library, _PARENT_PATHS_FILE), "w") as file:
            file.writelines(f"{path}\n" for path in parent_paths())

    def _install_packages(self, folder: str, manager: str, spec: Mapping[str, Any]) -> None:
        python = _python_of(folder)
        commands = self._commands(python, manager, spec.get(f"{manager}_version"))
        if packages := spec["packages"]:
            # By a file: its lines may hold options, as -r and --index-url.
            requirements = os.path.join(folder, "requirements.txt")
            with open(requirements, "w") as file:
                file.writelines(f"{os.path.expandvars(package)}\n" for package in packages)
            name = "pip_install_options" if manager == "pip" else "uv_pip_install_options"
            self._run([*commands.install, *spec.get(name, ()), "-r", requirements])
        if spec[f"{manager}_check"]:
            self._run(commands.check)

    def _commands(self, python: str, manager: str, version: str | None) -> _Commands:
        """Of pip, or of uv if that is asked for and there is one."""
        if version:
            self._run([*self._pip(python), "install", f"{manager}{version}"])
        search = os.pathsep.join([os.path.dirname(python), os.environ.get("PATH", os.defpath)])
        if manager == "uv" and (uv := shutil.which("uv", path=search)):
            target = ["--python", python]
            return _Commands([uv, "pip", "install", *target], [uv, "pip", "check", *target])
        pip = self._pip(python)
        return _Commands([*pip, "install"], [*pip, "check"])

    def _pip(self, python: str) -> list[str]:
        """A pip that installs into the environment of ``python``: the parent's, if it has one."""
        if subprocess.run([python, "-c", "import pip"], capture_output=True).returncode != 0:
            self._run([python, "-m", "ensurepip", "--default-pip"])
        return [python, "-m", "pip", "--disable-pip-version-check", "--no-input"]

    def _find_conda_environment(self, conda: str, name: str) -> str:
        if os.sep in name:
            return name
        listed = json.loads(self._run([conda, "info", "--json"]))
        for folder in listed["envs"]:
            is_base = name == "base" and folder == listed["root_prefix"]
            if is_base or os.path.basename(folder) == name:
                return str(folder)
        raise RuntimeEnvSetupError(
            f"There is no conda environment {name!r} on this node. There are:"
            f" {', '.join(listed['envs'])}."
        )

    def _create_by_conda(self, conda: str, folder: str, spec: Mapping[str, Any]) -> None:
        os.rmdir(folder)  # conda makes it itself
        with tempfile.NamedTemporaryFile("w", suffix=".yml") as definition:
            definition.write(canonical_json(spec))  # JSON is YAML.
            definition.flush()
            options = ["--prefix", folder, "--file", definition.name]
            self._run([conda, "env", "create", "--yes", *options])

    def _run(self, command: Sequence[str]) -> str:
        """What a program prints. It ends with this process."""
        libc = ctypes.CDLL(None)
        # What an environment is made of does not depend on the files of the first job to want it.
        environment = {name: text for name, text in os.environ.items() if name != "PYTHONPATH"}
        try:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                env=environment,
                start_new_session=True,
                preexec_fn=lambda: libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL),
            )
        except OSError as error:
            raise RuntimeEnvSetupError(f"{command[0]} cannot be run: {error}") from error
        try:
            output, _ = process.communicate()
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise
        with open(self._log_file, "a") as log:
            log.write(f"$ {shlex.join(command)}\n{output}\n")
        if process.returncode != 0:
            raise RuntimeEnvSetupError(
                f"Exit code {process.returncode} of: {shlex.join(command)}\n"
                f"{output[-_OUTPUT_TAIL_BYTES:]}\nAll output is in {self._log_file}."
            )
        return output


# The words after it: the file of this package ``ray``, which goes before any other that is
# installed, and folders that modules are searched in last.
_WORKER_PROGRAM = """
import importlib.util, sys
sys.path[:] = [*filter(None, sys.path), *sys.argv[2:]]
spec = importlib.util.spec_from_file_location("ray", sys.argv[1])
sys.modules["ray"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(sys.modules["ray"])
"""


def worker_command(python: Sequence[str], statements: str) -> list[str]:
    """A command that runs statements on a Python that need not know of this installation.

    Its own packages go before the installed ones of this Python, except for ``ray``.
    """
    own = os.path.abspath(ray.__file__)
    return [*python, "-c", _WORKER_PROGRAM + statements, own, *parent_paths()]


def parent_paths() -> list[str]:
    """Where this Python finds ``ray`` and installed packages."""
    own = os.path.dirname(os.path.dirname(os.path.abspath(ray.__file__)))
    installed = [*site.getsitepackages(), site.getusersitepackages()]
    found = [path for path in sys.path if path in installed or _is_package_folder(path)]
    return list(dict.fromkeys([own, *found]))


def _is_package_folder(path: str) -> bool:
    return os.path.basename(path) in ("site-packages", "dist-packages")


def _python_of(folder: str) -> str:
    return os.path.join(folder, "bin", "python")


def _key(spec: Any, packages: Sequence[str]) -> str:
    """Names an environment by what it is made of: also the files that its requirements name."""
    words = os.path.expandvars(" ".join(packages)).split()
    paths = [word for word in words if os.sep in word and os.path.exists(word)]
    made_of = [spec, [content_digest(path) for path in paths], sys.version, parent_paths()]
    return hashlib.sha256(canonical_json(made_of).encode()).hexdigest()[:32]
