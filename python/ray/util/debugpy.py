"""The breakpoints of ``ray.util.rpdb`` under the name that Ray gives to those for editors.

There is one debugger: ``ray debug`` attaches to all breakpoints.
"""

from __future__ import annotations

import sys

from ray.util.rpdb import break_at

__all__ = ["POST_MORTEM_ERROR_UUID", "set_trace"]

POST_MORTEM_ERROR_UUID = "post_mortem_error_uuid"


def set_trace(breakpoint_uuid: str | None = None) -> None:
    """As ``ray.util.rpdb.set_trace``.

    Args:
        breakpoint_uuid: what the breakpoint is called; a new name by default.
    """
    break_at(sys._getframe(1), breakpoint_uuid)
