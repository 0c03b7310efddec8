"""The input of a graph that is executed with several arguments."""

from __future__ import annotations

from typing import Any


class DAGInputData:
    """The arguments of one ``execute``: positional ones by index, keyword arguments by name.

    >>> data = DAGInputData(1, 2, scale=3)
    >>> data[1], data["scale"]
    (2, 3)

    Args:
        *args: positional arguments.
        **kwargs: keyword arguments.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._args = list(args)
        self._kwargs = kwargs

    def __getitem__(self, key: int | str) -> Any:
        """The argument.

        Raises:
            IndexError: there are not so many positional arguments.
            KeyError: there is no keyword argument of that name.
        """
        if isinstance(key, int):
            return self._args[key]
        return self._kwargs[key]
