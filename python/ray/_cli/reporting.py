"""How commands fail: with one message and exit code 1."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import click

from ray._raylet import SystemError as NativeError
from ray.exceptions import RayError

_Parameters = ParamSpec("_Parameters")
_Result = TypeVar("_Result")


def reports_errors(command: Callable[_Parameters, _Result]) -> Callable[_Parameters, _Result]:
    """What the user or the world has caused becomes a message; the rest is a bug and stays a
    traceback."""

    @functools.wraps(command)
    def run(*args: _Parameters.args, **kwargs: _Parameters.kwargs) -> _Result:
        try:
            return command(*args, **kwargs)
        except (RayError, NativeError, OSError, ValueError, TypeError) as error:
            raise click.ClickException(str(error)) from error

    return run
