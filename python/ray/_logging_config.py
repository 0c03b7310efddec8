"""Structured logging: what ``ray.init(logging_config=...)`` takes, and the log records it makes.

Source: https://docs.ray.io/en/latest/ray-observability/user-guides/configure-logging.html.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import time
from collections.abc import Mapping
from typing import Any

from ray._runtime import RUNTIME
from ray._stderr_handler import StderrHandler
from ray.runtime_context import RuntimeContext

ENCODINGS = ("TEXT", "JSON")

_TEXT_FORMAT = "%(asctime)s\t%(levelname)s %(filename)s:%(lineno)s -- %(message)s"

# Attributes that every record has; all others come from the program (``extra=``) or say where the
# record was made.
_STANDARD_ATTRIBUTES = frozenset(vars(logging.makeLogRecord({}))) | {
    "asctime",
    "message",
    "taskName",
}

# What every JSON record begins with.
_JSON_ATTRIBUTES = ("asctime", "levelname", "message", "filename", "lineno", "process")


@dataclasses.dataclass
class LoggingConfig:
    """How the driver and the workers of a job write log records.

    The root logger and the logger "ray" write to standard error, and each record says in which job,
    worker, node, actor and task it was made.

    >>> import ray
    >>> config = ray.LoggingConfig(encoding="JSON", additional_log_standard_attrs=["name"])
    >>> config.to_dict()["log_level"]
    'INFO'

    Args:
        encoding: "TEXT" for a line a record with ``key=value`` pairs at its end, or "JSON" for a
            JSON object a record.
        log_level: the lowest level that is written: a name or number of the logging module.
        additional_log_standard_attrs: names of further attributes of ``logging.LogRecord`` to
            write.

    Raises:
        ValueError: an unknown encoding, level or attribute.

    Source: https://docs.ray.io/en/latest/ray-core/api/doc/ray.LoggingConfig.html.
    """

    encoding: str = "TEXT"
    log_level: str | int = "INFO"
    additional_log_standard_attrs: list[str] = dataclasses.field(default_factory=list)

    def __post_init__(self) -> None:
        if self.encoding not in ENCODINGS:
            raise ValueError(
                f"Invalid encoding type: {self.encoding}. Valid encoding types are:"
                f" {list(ENCODINGS)}"
            )
        unknown = set(self.additional_log_standard_attrs) - _STANDARD_ATTRIBUTES
        if unknown:
            raise ValueError(
                f"Unknown python logging standard attribute: {', '.join(sorted(unknown))}. The"
                f" valid attributes are: {sorted(_STANDARD_ATTRIBUTES)}"
            )
        try:
            logging.Handler(self.log_level)
        except (TypeError, ValueError):
            raise ValueError(
                f"Invalid log_level: {self.log_level!r}. Use a name or number of the logging"
                " module, such as 'INFO'."
            ) from None

    def to_dict(self) -> dict[str, Any]:
        """The fields, by name."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, d: Mapping[str, Any]) -> LoggingConfig:
        """A configuration from what ``to_dict`` gave.

        Args:
            d: that, or a part of it; other keys are ignored.

        Raises:
            ValueError: as the constructor.
        """
        known = {field.name for field in dataclasses.fields(cls)}
        return cls(**{name: value for name, value in d.items() if name in known})

    def apply(self) -> None:
        """Sets the root logger and the logger "ray" of this process up, in the place of the
        handlers they have."""
        handler = StderrHandler()
        handler.setLevel(self.log_level)
        handler.addFilter(add_context)
        make = JSONFormatter if self.encoding == "JSON" else TextFormatter
        handler.setFormatter(make(self.additional_log_standard_attrs))
        for name in (None, "ray"):
            logger = logging.getLogger(name)
            logger.handlers[:] = [handler]
            logger.setLevel(self.log_level)
        logging.getLogger("ray").propagate = False


def add_context(record: logging.LogRecord) -> bool:
    """A filter that lets every record through, with attributes that say where it was made."""
    if RUNTIME.core is not None:
        record.__dict__.update(_context(RuntimeContext(RUNTIME.core)))
    record.timestamp_ns = time.time_ns()
    return True


def _context(here: RuntimeContext) -> dict[str, str]:
    facts = {
        "job_id": here.get_job_id(),
        "worker_id": here.get_worker_id(),
        "node_id": here.get_node_id(),
        "actor_id": here.get_actor_id(),
        "task_id": here.get_task_id(),
        "task_name": here.get_task_name(),
        "task_func_name": here.get_task_function_name(),
        "actor_name": here.get_actor_name(),
    }
    return {name: value for name, value in facts.items() if value}


class TextFormatter(logging.Formatter):
    """The usual line of a record, followed by ``key=value`` for everything else it carries."""

    def __init__(self, additional_attributes: list[str]) -> None:
        super().__init__(_TEXT_FORMAT)
        self._additional = additional_attributes

    def format(self, record: logging.LogRecord) -> str:
        line = super().format(record)
        pairs = {**_select(record, self._additional), **_further_attributes(record)}
        return " ".join([line, *(f"{name}={value}" for name, value in pairs.items())])


class JSONFormatter(logging.Formatter):
    """A record as one JSON object. Values that JSON does not know become their ``str``."""

    def __init__(self, additional_attributes: list[str]) -> None:
        super().__init__()
        self._additional = additional_attributes

    def format(self, record: logging.LogRecord) -> str:
        super().format(record)  # Fills in message and exc_text.
        record.asctime = self.formatTime(record)
        facts = _select(record, _JSON_ATTRIBUTES)
        if record.exc_text:
            facts["exc_text"] = record.exc_text
        facts |= _select(record, self._additional) | _further_attributes(record)
        return json.dumps(facts, default=str)


def _select(record: logging.LogRecord, names: tuple[str, ...] | list[str]) -> dict[str, Any]:
    return {name: getattr(record, name, None) for name in names}


def _further_attributes(record: logging.LogRecord) -> dict[str, Any]:
    return {name: value for name, value in vars(record).items() if name not in _STANDARD_ATTRIBUTES}
