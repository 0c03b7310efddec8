"""A debugger for tasks and actors: they wait at a breakpoint until ``ray debug`` attaches a
terminal.

The commands are those of the standard library's ``pdb``. ``q`` ends the task with ``bdb.BdbQuit``;
when the terminal goes away the task runs on.

Source: https://docs.ray.io/en/latest/ray-observability/user-guides/debug-apps/ray-debugging.html.
"""

from __future__ import annotations

import os
import pdb
import socket
import sys
import time
import traceback
import uuid
from types import FrameType
from typing import TYPE_CHECKING, Any

from ray._breakpoints import Breakpoint
from ray._runtime import RUNTIME

if TYPE_CHECKING:
    from ray._raylet import Core

__all__ = ["set_trace"]


def set_trace(breakpoint_uuid: str | None = None) -> None:
    """Waits until a debugger attaches, and stops the program after this call for it. The builtin
    ``breakpoint()`` does the same in tasks and actors.

    Outside of a session it is ``pdb.set_trace``.

    Args:
        breakpoint_uuid: what the breakpoint is called; a new name by default.

    Threads: any; that thread waits.
    """
    break_at(sys._getframe(1), breakpoint_uuid)


def break_at(frame: FrameType, breakpoint_uuid: str | None = None) -> None:
    """As ``set_trace``, for a caller of its caller."""
    core = RUNTIME.core
    if core is None:
        pdb.Pdb().set_trace(frame)
        return
    place = f"{frame.f_code.co_filename}:{frame.f_lineno}"
    connection = _wait_for_terminal(core, place, "", breakpoint_uuid)
    _RemotePdb(connection).set_trace(frame)


def post_mortem(error: BaseException) -> None:
    """Waits until a debugger attaches, which then looks at where ``error`` was raised. Does nothing
    without a session."""
    core, trace = RUNTIME.core, error.__traceback__
    if core is None or trace is None:
        return
    last = traceback.extract_tb(trace)[-1]
    text = "".join(traceback.format_exception_only(error)).strip()
    connection = _wait_for_terminal(core, f"{last.filename}:{last.lineno}", text, None)
    debugger = _RemotePdb(connection)
    debugger.reset()
    debugger.interaction(None, trace)
    debugger.close()


def _wait_for_terminal(core: Core, place: str, error: str, name: str | None) -> socket.socket:
    name = name or uuid.uuid4().hex
    path = f"{core.session_dir}/sockets/b{uuid.uuid4().hex[:16]}"
    task = core.current_task()["task_name"] or "the driver"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        os.chmod(path, 0o600)
        listener.listen(1)
        waiting = Breakpoint(
            uuid=name,
            where=f"{task}, {place}",
            error=error,
            since=time.time(),
            pid=os.getpid(),
            host=socket.gethostname(),
            node_id=core.node_id.hex(),
            path=path,
        )
        try:
            waiting.publish(core)
            print(f"{waiting.where} waits for a debugger. Attach with: ray debug", file=sys.stderr)
            return listener.accept()[0]
        finally:
            os.unlink(path)
            waiting.withdraw(core)


class _Terminal:
    """Where the debugger writes to. Who went away misses it."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection

    def write(self, text: str) -> int:
        try:
            self._connection.sendall(text.encode(errors="replace"))
        except OSError:
            pass  # The next command that is read is the end of the input.
        return len(text)

    def flush(self) -> None:
        """Nothing is kept back."""


class _Keyboard:
    """Where the debugger reads from. Who went away, however it went, says no more."""

    def __init__(self, connection: socket.socket) -> None:
        self._lines = connection.makefile("r", encoding="utf-8", errors="replace")

    def readline(self) -> str:
        try:
            return self._lines.readline()
        except OSError:
            return ""  # It did not read all that it was told before it left.

    def close(self) -> None:
        self._lines.close()


class _RemotePdb(pdb.Pdb):
    """A debugger with its terminal at the other end of a connection, to which it holds on as long
    as it may stop the program again."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._input: Any = _Keyboard(connection)
        output: Any = _Terminal(connection)
        super().__init__(stdin=self._input, stdout=output, nosigint=True, readrc=False)
        self.use_rawinput = False

    def set_continue(self) -> None:
        super().set_continue()
        if not self.breaks:
            self.close()

    def set_quit(self) -> None:
        super().set_quit()
        self.close()

    def do_EOF(self, arg: str) -> bool:
        """The terminal is gone: the program runs on."""
        self.clear_all_breaks()
        self.set_continue()
        return True

    def close(self) -> None:
        """The terminal is told that this is the end."""
        try:
            self._connection.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # It has gone first.
        self._input.close()
        self._connection.close()
