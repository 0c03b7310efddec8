"""The command ``ray``."""

from __future__ import annotations

import click

from ray._cli.debug import debug
from ray._cli.drain_node import drain_node
from ray._cli.get_auth_token import get_auth_token
from ray._cli.start import start
from ray._cli.status import status
from ray._cli.stop import stop
from ray._version import MANTA_VERSION, RAY_VERSION


@click.group()
@click.version_option(
    RAY_VERSION, prog_name="ray", message=f"%(prog)s, version %(version)s (manta {MANTA_VERSION})"
)
def main() -> None:
    """Manta, a runtime for programs written against Ray."""


for _command in (start, stop, status, drain_node, get_auth_token, debug):
    main.add_command(_command)
