"""The folder of a node: its sockets, logs, token and record, and where such folders lie."""

from __future__ import annotations

import contextlib
import os
import time

# What is of no use once the node has ended. The logs stay.
_PASSING = ("sockets", "spill", "runtime_env", "state")


def default_temp_folder() -> str:
    """Where session folders are made unless the user says where: RAY_TMPDIR moves it."""
    return os.path.join(os.environ.get("RAY_TMPDIR") or "/tmp", "ray")


def make_session_folder(temp_folder: str, token: str | None = None) -> str:
    """Makes the folder of a new node.

    Args:
        temp_folder: where it shall lie.
        token: the token of the cluster; a new one by default.

    Returns:
        Its path. The folder has mode 0700, since whoever can enter it may use the node.
    """
    make_shared_folder(temp_folder)
    now = time.time()
    stamp = time.strftime("%Y-%m-%d_%H-%M-%S", time.localtime(now))
    micros = int(now % 1 * 1_000_000)
    folder = os.path.join(temp_folder, f"session_{stamp}_{micros:06}_{os.getpid()}")
    os.mkdir(folder, mode=0o700)
    for name in ("logs", "sockets"):
        os.mkdir(os.path.join(folder, name), mode=0o700)
    write_private_file(token_file(folder), token or os.urandom(32).hex())
    _point_latest_to(folder)
    return folder


def token_file(session_folder: str) -> str:
    """Where the node's copy of the cluster token is."""
    return os.path.join(session_folder, "token")


def empty_session_folder(folder: str) -> None:
    """Removes all but the logs of a node that has ended."""
    import shutil  # Loads three compression libraries.

    for name in _PASSING:
        shutil.rmtree(os.path.join(folder, name), ignore_errors=True)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(token_file(folder))


def write_private_file(path: str, text: str) -> None:
    """Makes a new file that only this user can read (mode 0600)."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(descriptor, "w") as file:
        file.write(text)


def make_shared_folder(path: str) -> None:
    """The parent of all sessions, which other users of the machine may use as well."""
    try:
        os.makedirs(path)
    except FileExistsError:
        return
    os.chmod(path, 0o1777)


def _point_latest_to(folder: str) -> None:
    link = os.path.join(os.path.dirname(folder), "session_latest")
    staged = f"{link}_{os.getpid()}"
    # The link of another user cannot be replaced; it is a convenience only.
    with contextlib.suppress(OSError):
        os.symlink(os.path.basename(folder), staged)
        try:
            os.replace(staged, link)
        except OSError:
            os.unlink(staged)
            raise
