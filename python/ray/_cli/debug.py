"""``ray debug``: attaches this terminal to a task or actor that waits at a breakpoint."""

from __future__ import annotations

import os
import select
import socket
import sys
import time
from typing import Any

import click

from ray._breakpoints import Breakpoint, waiting
from ray._cli.reporting import reports_errors
from ray._cli.tool_connection import address_option, connect

_CHUNK_BYTES = 65536


@click.command()
@address_option
@click.option("--verbose", "-v", is_flag=True, help="Show processes and nodes, too.")
@reports_errors
def debug(address: str, verbose: bool) -> None:
    """Show the breakpoints at which tasks and actors wait, and attach to one.

    They wait where the program calls breakpoint() or ray.util.pdb.set_trace(), and where a task
    fails if RAY_DEBUG_POST_MORTEM=1 is in its environment. The commands are those of pdb. When the
    terminal goes away, the task runs on.
    """
    terminal = _Terminal()
    with connect(address) as (core, _):
        while True:
            breakpoints = waiting(core)
            _show(breakpoints, verbose)
            answer = terminal.ask("Enter breakpoint index or press enter to refresh: ")
            if answer is None:
                return
            if answer.strip():
                _attach(terminal, breakpoints, answer.strip())


def _show(breakpoints: list[Breakpoint], verbose: bool) -> None:
    click.echo(f"Breakpoints that wait: {len(breakpoints)}")
    for index, one in enumerate(breakpoints):
        since = time.strftime("%H:%M:%S", time.localtime(one.since))
        click.echo(f"{index:5}: since {since} {one.where}")
        if one.error:
            click.echo(f"       {one.error}")
        if verbose:
            click.echo(f"       pid {one.pid} on {one.host}, node {one.node_id}, {one.uuid}")


def _attach(terminal: _Terminal, breakpoints: list[Breakpoint], answer: str) -> None:
    if not answer.isdecimal() or int(answer) >= len(breakpoints):
        click.echo(f"There is no breakpoint {answer}.")
        return
    chosen = breakpoints[int(answer)]
    if not chosen.is_here:
        click.echo(f"It waits on {chosen.host}. Run 'ray debug' there.")
        return
    try:
        terminal.attach(chosen.path)
    except OSError as error:
        click.echo(f"It does not wait any more: {error}.")


class _Terminal:
    """Standard input and output: lines for this command, and all that comes while a debugger is
    attached for that."""

    def __init__(self) -> None:
        self._typed = b""  # Read, and not used yet.

    def ask(self, prompt: str) -> str | None:
        """The answer, or None at the end of the input."""
        click.echo(prompt, nl=False)
        while b"\n" not in self._typed:
            chunk = os.read(sys.stdin.fileno(), _CHUNK_BYTES)
            if not chunk:
                click.echo()
                return None
            self._typed += chunk
        line, _, self._typed = self._typed.partition(b"\n")
        return line.decode(errors="replace")

    def attach(self, path: str) -> None:
        """Blocks until the debugger lets go."""
        keyboard: int | None = sys.stdin.fileno()
        with socket.socket(socket.AF_UNIX) as debugger:
            debugger.connect(path)
            debugger.sendall(self._typed)
            self._typed = b""
            while True:
                sources: list[Any] = [debugger] if keyboard is None else [debugger, keyboard]
                ready, _, _ = select.select(sources, [], [])
                if debugger in ready:
                    output = debugger.recv(_CHUNK_BYTES)
                    if not output:
                        return
                    click.echo(output, nl=False)
                elif keyboard is not None:
                    typed = os.read(keyboard, _CHUNK_BYTES)
                    debugger.sendall(typed)
                    if not typed:
                        debugger.shutdown(socket.SHUT_WR)
                        keyboard = None
