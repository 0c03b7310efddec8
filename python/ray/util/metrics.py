"""Metrics of programs: counters, gauges and histograms, with tags.

Each process keeps the values of its own metrics; ``read_metrics`` reads them. Metrics of the same
name and kind share their values, wherever in the process they were made.

Source: https://docs.ray.io/en/latest/ray-observability/user-guides/add-app-metrics.html,
conformance actors/test_context_metrics_dag.py.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, TypeVar

from ray._metrics import Sample, Series
from ray._runtime import RUNTIME

__all__ = ["Counter", "Gauge", "Histogram"]

MetricT = TypeVar("MetricT", bound="Metric")

_VALID_NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")


class Metric:
    """What the kinds of metrics have in common; programs make one of these. Threads: any.

    Args:
        name: letters, digits, "_" and ":", without a digit in front. A metric of another name warns
            and records nothing.
        description: what is measured, for people.
        tag_keys: keys of the tags; every record needs a value for each.

    Raises:
        ValueError: an empty name.
        TypeError: ``tag_keys`` is not a tuple of strings, or ``name`` or ``description`` not a
            string.
    """

    _kind: ClassVar[str]

    def __init__(
        self, name: str, description: str = "", tag_keys: tuple[str, ...] | None = None
    ) -> None:
        if not isinstance(name, str) or not isinstance(description, str):
            raise TypeError("The name and the description of a metric must be strings.")
        if not name:
            raise ValueError("Empty name is not allowed. Please provide a metric name.")
        self._name = name
        self._description = description
        self._tag_keys = _check_tag_keys(tag_keys)
        self._default_tags: dict[str, str] = {}
        self._is_valid = _VALID_NAME.fullmatch(name) is not None
        if not self._is_valid:
            warnings.warn(
                f"Invalid metric name: {name}. The metric records nothing. Use letters, digits, '_'"
                " and ':', and do not begin with a digit.",
                UserWarning,
                stacklevel=3,
            )

    def set_default_tags(self: MetricT, default_tags: dict[str, str]) -> MetricT:
        """Sets values of tags for records that do not give them.

        Returns:
            The metric itself.

        Raises:
            ValueError: a key that is not one of ``tag_keys``.
            TypeError: not a dict of strings.
        """
        if not isinstance(default_tags, dict):
            raise TypeError(f"default_tags must be a dict, not {type(default_tags).__name__}.")
        for key, value in default_tags.items():
            self._check_tag(key, value)
        self._default_tags = dict(default_tags)
        return self

    @property
    def info(self) -> dict[str, Any]:
        """What the metric was made with: name, description, tag_keys, default_tags."""
        return {
            "name": self._name,
            "description": self._description,
            "tag_keys": self._tag_keys,
            "default_tags": self._default_tags,
        }

    def _series(self, tags: Mapping[str, str] | None, boundaries: tuple[float, ...] = ()) -> Series:
        for key, value in (tags or {}).items():
            self._check_tag(key, value)
        values = {**self._default_tags, **(tags or {})}
        missing = [key for key in self._tag_keys if key not in values]
        if missing:
            raise ValueError(f"Missing value for tag key(s): {','.join(missing)}.")
        return Series(self._kind, self._name, tuple(sorted(values.items())), boundaries)

    def _check_tag(self, key: str, value: str) -> None:
        if key not in self._tag_keys:
            raise ValueError(f"Unrecognized tag key {key}. The metric has {self._tag_keys}.")
        if not isinstance(value, str):
            raise TypeError(f"Tag values must be str, got {type(value)}.")


class Counter(Metric):
    """A sum that only grows.

    >>> from ray.util.metrics import Counter
    >>> served = Counter("requests_served", tag_keys=("route",))
    >>> served.inc(tags={"route": "/"})

    Args:
        name: as for Metric.
        description: what is counted.
        tag_keys: keys of the tags.

    Raises:
        ValueError, TypeError: as Metric.

    Source: https://docs.ray.io/en/latest/ray-core/api/doc/ray.util.metrics.Counter.html,
    conformance actors/test_context_metrics_dag.py::test_counter_rules.
    """

    _kind = "counter"

    def inc(self, value: float = 1.0, tags: dict[str, str] | None = None) -> None:
        """Adds to the sum.

        Args:
            value: how much, more than 0.
            tags: values of the tags, over the default ones.

        Raises:
            ValueError: the value is not positive, or a tag is missing or unknown.
            TypeError: the value is not a number, or a tag not a string.
        """
        _check_number(value)
        if value <= 0:
            raise ValueError(f"value must be >0, got {value}")
        series = self._series(tags)
        if self._is_valid:
            RUNTIME.metrics.add(series, value)


class Gauge(Metric):
    """A value that goes up and down; the last one counts.

    >>> from ray.util.metrics import Gauge
    >>> temperature = Gauge("temperature", tag_keys=("room",))
    >>> temperature.set_default_tags({"room": "kitchen"}).set(21.5)

    Args:
        name: as for Metric.
        description: what is measured.
        tag_keys: keys of the tags.

    Raises:
        ValueError, TypeError: as Metric.

    Source: https://docs.ray.io/en/latest/ray-core/api/doc/ray.util.metrics.Gauge.html,
    conformance actors/test_context_metrics_dag.py::test_gauge_and_default_tags.
    """

    _kind = "gauge"

    def set(self, value: float | None, tags: dict[str, str] | None = None) -> None:
        """Sets the value.

        Args:
            value: the value; None changes nothing.
            tags: values of the tags, over the default ones.

        Raises:
            ValueError: a tag is missing or unknown.
            TypeError: the value is not a number, or a tag not a string.
        """
        if value is None:
            return
        _check_number(value)
        series = self._series(tags)
        if self._is_valid:
            RUNTIME.metrics.set(series, value)


class Histogram(Metric):
    """How many values fall into each of several ranges.

    >>> from ray.util.metrics import Histogram
    >>> latency = Histogram("latency_s", boundaries=[0.1, 1.0, 10.0])
    >>> latency.observe(0.25)

    Args:
        name: as for Metric.
        description: what is measured.
        boundaries: the upper bounds of the ranges, more than 0; the last range has none.
        tag_keys: keys of the tags.

    Raises:
        ValueError: no boundaries, or one that is not positive; else as Metric.
        TypeError: as Metric.

    Source: https://docs.ray.io/en/latest/ray-core/api/doc/ray.util.metrics.Histogram.html,
    conformance actors/test_context_metrics_dag.py::test_histogram_boundaries.
    """

    _kind = "histogram"

    def __init__(
        self,
        name: str,
        description: str = "",
        boundaries: Sequence[float] | None = None,
        tag_keys: tuple[str, ...] | None = None,
    ) -> None:
        super().__init__(name, description, tag_keys)
        if not boundaries:
            raise ValueError(
                "boundaries argument should be provided when using the Histogram class, e.g."
                ' Histogram("name", boundaries=[1.0, 2.0])'
            )
        for bound in boundaries:
            _check_number(bound)
            if bound <= 0:
                raise ValueError(f"The boundaries of a histogram must be positive: {boundaries}.")
        self._boundaries = boundaries
        self._bounds = tuple(sorted(set(boundaries)))

    def observe(self, value: float, tags: dict[str, str] | None = None) -> None:
        """Counts a value in its range.

        Args:
            value: the value.
            tags: values of the tags, over the default ones.

        Raises:
            ValueError: a tag is missing or unknown.
            TypeError: the value is not a number, or a tag not a string.
        """
        _check_number(value)
        series = self._series(tags, self._bounds)
        if self._is_valid:
            RUNTIME.metrics.observe(series, value)

    @property
    def info(self) -> dict[str, Any]:
        """What the metric was made with; also its boundaries."""
        return {**super().info, "boundaries": self._boundaries}


def read_metrics() -> dict[Series, Sample]:
    """What the metrics of this process have recorded so far, as of one moment.

    >>> from ray.util.metrics import Counter, read_metrics
    >>> Counter("orders").inc(3)
    >>> [sample.value for series, sample in read_metrics().items() if series.name == "orders"]
    [3.0]

    Returns:
        A sample for each metric and set of tags. Each process has its own; a task or a method of an
        actor can return its process's.
    """
    return RUNTIME.metrics.read()


def _check_tag_keys(tag_keys: tuple[str, ...] | None) -> tuple[str, ...]:
    if tag_keys is None:
        return ()
    if not isinstance(tag_keys, tuple):
        raise TypeError(f"tag_keys should be a tuple type, got: {type(tag_keys)}")
    for key in tag_keys:
        if not isinstance(key, str):
            raise TypeError(f"Tag keys must be str, got {type(key)}.")
    return tag_keys


def _check_number(value: float) -> None:
    if not isinstance(value, (int, float)):
        raise TypeError(f"value must be int or float, got {type(value)}.")
