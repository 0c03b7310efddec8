"""What the metrics of this process have recorded so far."""

from __future__ import annotations

import bisect
import threading
from typing import NamedTuple

# The values of a metric's tags, by key.
Tags = tuple[tuple[str, str], ...]


class Series(NamedTuple):
    """One metric with one set of tags.

    Attributes:
        kind: "counter", "gauge" or "histogram".
        name: name of the metric.
        tags: pairs of key and value, by key.
        boundaries: of a histogram: the upper bounds of its buckets, ascending, less the last, which
            has none. Empty for others.
    """

    kind: str
    name: str
    tags: Tags
    boundaries: tuple[float, ...] = ()


class Sample(NamedTuple):
    """What a series has recorded.

    Attributes:
        value: a counter's sum, a gauge's last value, or the sum of a histogram's values.
        buckets: of a histogram: how many values fell into each bucket, one more than boundaries.
            Empty for others.
    """

    value: float
    buckets: tuple[int, ...] = ()


class MetricRegistry:
    """The values of a process, by series. Threads: any."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._values: dict[Series, float] = {}
        self._buckets: dict[Series, list[int]] = {}

    def add(self, series: Series, value: float) -> None:
        """Adds to a counter."""
        with self._lock:
            self._values[series] = self._values.get(series, 0.0) + value

    def set(self, series: Series, value: float) -> None:
        """Sets a gauge."""
        with self._lock:
            self._values[series] = float(value)

    def observe(self, series: Series, value: float) -> None:
        """Counts a value in its bucket of a histogram; a bound belongs to the bucket below it."""
        bucket = bisect.bisect_left(series.boundaries, value)
        with self._lock:
            counts = self._buckets.setdefault(series, [0] * (len(series.boundaries) + 1))
            counts[bucket] += 1
            self._values[series] = self._values.get(series, 0.0) + value

    def read(self) -> dict[Series, Sample]:
        """Everything recorded so far, as of one moment."""
        with self._lock:
            return {
                series: Sample(value, tuple(self._buckets.get(series, ())))
                for series, value in self._values.items()
            }
