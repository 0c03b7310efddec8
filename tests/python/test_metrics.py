"""What metrics record in their process, and what they refuse."""

import pickle
import threading

import pytest

from ray.util.metrics import Counter, Gauge, Histogram, read_metrics


def recorded(name):
    """The samples of a metric, by the values of its tags."""
    return {
        tuple(value for _, value in series.tags): sample
        for series, sample in read_metrics().items()
        if series.name == name
    }


def test_counter_sums_by_tags():
    counter = Counter("summed", tag_keys=("route",)).set_default_tags({"route": "/"})
    counter.inc()
    counter.inc(2.5)
    counter.inc(4, tags={"route": "/about"})
    assert recorded("summed") == {("/",): (3.5, ()), ("/about",): (4.0, ())}


def test_gauge_keeps_the_last_value():
    gauge = Gauge("last")
    gauge.set(7)
    gauge.set(-1.5)
    gauge.set(None)
    assert recorded("last") == {(): (-1.5, ())}


def test_histogram_counts_in_ranges_with_upper_bounds_inside():
    histogram = Histogram("ranges", boundaries=[10, 1])
    for value in (0.5, 1, 1.5, 100):
        histogram.observe(value)
    assert recorded("ranges") == {(): (103.0, (2, 1, 1))}


def test_metrics_of_one_name_share_their_values():
    Counter("shared").inc()
    pickle.loads(pickle.dumps(Counter("shared"))).inc()
    assert recorded("shared")[()].value == 2


def test_metrics_of_one_name_and_different_kinds_are_apart():
    Counter("two_kinds").inc(5)
    Gauge("two_kinds").set(1)
    kinds = {s.kind: v.value for s, v in read_metrics().items() if s.name == "two_kinds"}
    assert kinds == {"counter": 5, "gauge": 1}


def test_counts_of_many_threads_are_not_lost():
    counter = Counter("threads")
    threads = [
        threading.Thread(target=lambda: [counter.inc() for _ in range(500)]) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert recorded("threads")[()].value == 4000


def test_metric_of_an_invalid_name_warns_and_records_nothing():
    with pytest.warns(UserWarning, match="Invalid metric name: a b"):
        counter = Counter("a b")
    counter.inc()
    assert recorded("a b") == {}


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"name": 3}, TypeError),
        ({"name": "ok", "description": None}, TypeError),
        ({"name": "ok", "tag_keys": ["a"]}, TypeError),
    ],
)
def test_bad_arguments_are_refused(arguments, error):
    with pytest.raises(error):
        Counter(**arguments)


@pytest.mark.parametrize(
    ("tags", "error", "message"),
    [
        (None, ValueError, r"Missing value for tag key\(s\): a,b"),
        ({"a": "x"}, ValueError, r"Missing value for tag key\(s\): b"),
        ({"a": "x", "b": "y", "c": "z"}, ValueError, "Unrecognized tag key c"),
        ({"a": "x", "b": 1}, TypeError, "Tag values must be str"),
    ],
)
def test_bad_tags_are_refused(tags, error, message):
    with pytest.raises(error, match=message):
        Counter("tagged", tag_keys=("a", "b")).inc(1, tags)
    assert recorded("tagged") == {}


def test_values_that_are_no_numbers_are_refused():
    for record in (Counter("c").inc, Gauge("g").set, Histogram("h", boundaries=[1]).observe):
        with pytest.raises(TypeError, match="value must be int or float"):
            record("1")


def test_default_tags_must_be_a_dict():
    with pytest.raises(TypeError, match="default_tags must be a dict"):
        Gauge("g").set_default_tags("abc")


def test_boundaries_must_be_numbers():
    with pytest.raises(TypeError, match="must be int or float"):
        Histogram("h", boundaries=["1"])
