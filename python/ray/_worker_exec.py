"""A worker whose environment has a Python of its own: what a forked worker turns into by exec.

The forked process hands over, as JSON in a memory file whose descriptor it names, what it has
set up. Its locks in the node's cache, its output and its parent-death
signal survive exec; its environment variables are set.
"""

from __future__ import annotations

import ctypes
import faulthandler
import json
import os
import site
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from ray._runtime import RUNTIME
from ray._runtime_env.interpreters import worker_command

_PR_SET_NAME = 15


def exec_worker(
    command: Sequence[str],
    startup_token: int,
    *,
    text: str,
    import_path: Sequence[str],
    locks: Sequence[int],
) -> NoReturn:
    """Becomes a worker that runs on another Python. Does not return.

    Args:
        command: of that Python.
        startup_token: the number of the raylet's fork request.
        text: the environment.
        import_path: folders that its modules are searched in first.
        locks: descriptors to keep.

    Raises:
        OSError: the command cannot be run.
    """
    handover = {
        "startup_token": startup_token,
        "text": text,
        "import_path": list(import_path),
        "locks": list(locks),
        "parent_prefix": sys.prefix,
    }
    memory = os.memfd_create("ray-worker")
    os.write(memory, json.dumps(handover).encode())
    for descriptor in (memory, *locks):
        os.set_inheritable(descriptor, True)
    sys.stdout.flush()
    sys.stderr.flush()
    os.execvp(
        command[0], worker_command(command, f"from ray._worker_exec import main; main({memory})")
    )


def main(memory: int) -> NoReturn:
    """Runs the worker, to its end. ``memory`` is the descriptor of what was handed over."""
    handover = _read(memory)
    for descriptor in handover["locks"]:
        os.set_inheritable(descriptor, False)
    ctypes.CDLL(None).prctl(_PR_SET_NAME, b"ray::worker")
    faulthandler.enable(file=2)
    del sys.argv[1:]
    own = site.getsitepackages() if sys.prefix != handover["parent_prefix"] else []
    RUNTIME.enter_environment(handover["text"], [*handover["import_path"], *own])
    from ray import _worker_main  # Needs what RUNTIME now says.

    _worker_main.main(handover["startup_token"])


def _read(memory: int) -> dict[str, Any]:
    with open(memory, "rb") as file:
        file.seek(0)
        read: dict[str, Any] = json.load(file)
    return read
