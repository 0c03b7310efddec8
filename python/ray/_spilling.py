"""Where a node spills objects to, as the user says it."""

import importlib.util
import json
import os
from collections.abc import Mapping
from typing import Any

# What _system_config and the environment (RAY_...) call it: JSON.
SPILLING = "object_spilling_config"


def with_spilling(config: Mapping[str, Any], directory: str | None) -> Mapping[str, Any]:
    """The configuration with where to spill to as text, checked.

    Args:
        config: flags of the runtime, perhaps with ``object_spilling_config``: JSON, or the dict
            that it says.
        directory: ``object_spilling_directory``; None: the configuration says it, or nobody.

    Raises:
        TypeError: the directory is no text.
        ValueError: both are given, or the configuration is no JSON.
        ImportError: it names a URI, and ``fsspec`` is not installed.
    """
    if directory is not None:
        if not isinstance(directory, str):
            raise TypeError(
                f"object_spilling_directory must be a str, not {type(directory).__name__}."
            )
        if SPILLING in config:
            raise ValueError(
                f"object_spilling_directory and _system_config[{SPILLING!r}] both say where to"
                " spill objects to: give one of them."
            )
        spilling: Any = {
            "type": "filesystem",
            "params": {"directory_path": os.path.abspath(directory)},
        }
    else:
        spilling = config.get(SPILLING, os.environ.get(f"RAY_{SPILLING}"))
    if not spilling:
        return config
    try:
        parsed = json.loads(spilling) if isinstance(spilling, str) else spilling
    except ValueError as error:
        raise ValueError(f"{SPILLING} is no JSON: {error}: {spilling!r}") from None
    if isinstance(parsed, dict) and parsed.get("type") == "smart_open":
        _require_fsspec(parsed)
    return {**config, SPILLING: json.dumps(parsed)}


def _require_fsspec(spilling: Mapping[str, Any]) -> None:
    if importlib.util.find_spec("fsspec") is None:
        raise ImportError(
            f"{SPILLING} wants objects to be spilled to a URI, {spilling.get('params')}, for which"
            " the package fsspec is needed: pip install fsspec, and what it needs for that kind of"
            " URI (s3fs, gcsfs, ...)."
        )
