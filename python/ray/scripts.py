"""The command ``ray``."""

from __future__ import annotations

import click

from ray._version import MANTA_VERSION, RAY_VERSION


@click.group()
@click.version_option(
    RAY_VERSION, prog_name="ray", message=f"%(prog)s, version %(version)s (manta {MANTA_VERSION})"
)
def main() -> None:
    """Manta, a runtime for programs written against Ray."""
