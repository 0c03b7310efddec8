"""LoggingConfig and the records it makes, without a session."""

import json
import logging

import pytest

import ray
from ray._logging_config import JSONFormatter, TextFormatter


def make_record(**attributes):
    record = logging.makeLogRecord(
        {
            "msg": "%s apples",
            "args": (3,),
            "levelname": "INFO",
            "name": "shop",
            "filename": "shop.py",
            "lineno": 7,
            "process": 42,
            "created": 0.5,
            "msecs": 500.0,
        }
    )
    record.__dict__.update(attributes)
    return record


def test_json_record_has_its_message_place_and_extras_in_order():
    text = JSONFormatter(["name"]).format(make_record(basket=[1], job_id="01000000"))
    facts = json.loads(text)
    assert facts.pop("asctime").endswith(",500")
    assert list(facts.items()) == [
        ("levelname", "INFO"),
        ("message", "3 apples"),
        ("filename", "shop.py"),
        ("lineno", 7),
        ("process", 42),
        ("name", "shop"),
        ("basket", [1]),
        ("job_id", "01000000"),
    ]


def test_json_record_has_the_traceback_of_an_exception():
    try:
        raise ValueError("rotten")
    except ValueError as error:
        record = make_record(exc_info=(ValueError, error, error.__traceback__))
    facts = json.loads(JSONFormatter([]).format(record))
    assert facts["message"] == "3 apples"
    assert facts["exc_text"].endswith("ValueError: rotten")


def test_json_record_takes_values_that_json_does_not_know():
    facts = json.loads(JSONFormatter([]).format(make_record(path={1})))
    assert facts["path"] == "{1}"


def test_text_record_ends_with_pairs():
    line = TextFormatter(["name"]).format(make_record(job_id="01000000", basket=[1]))
    assert line.endswith("\tINFO shop.py:7 -- 3 apples name=shop job_id=01000000 basket=[1]")


def test_fields_survive_a_dict():
    config = ray.LoggingConfig("JSON", "WARNING", ["name"])
    assert ray.LoggingConfig.from_dict({**config.to_dict(), "other": 1}) == config
    assert ray.LoggingConfig.from_dict({}) == ray.LoggingConfig()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"encoding": "XML"}, r"Invalid encoding type: XML. .*\['TEXT', 'JSON'\]"),
        ({"additional_log_standard_attrs": ["color"]}, "Unknown python logging .*: color"),
        ({"log_level": "LOUD"}, "Invalid log_level: 'LOUD'"),
        ({"log_level": None}, "Invalid log_level: None"),
    ],
)
def test_bad_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        ray.LoggingConfig(**arguments)
