"""``ray get-auth-token``: the token that further machines need."""

from __future__ import annotations

import click

from ray import _joining
from ray._cli.reporting import reports_errors
from ray._cli.tool_connection import address_option, read_token


@click.command("get-auth-token")
@address_option
@reports_errors
def get_auth_token(address: str) -> None:
    """Print the token of a cluster that runs on this machine.

    Whoever has it may use the cluster. On another machine, "ray start --address" takes it from a
    file (--token-file) or from RAY_AUTH_TOKEN.
    """
    click.echo(read_token(_joining.find_node(address).token_file))
