"""JobConfig: what it takes, and the record that workers get of it."""

import os

import pytest

from ray._job_record import JobRecord
from ray.job_config import JobConfig, LoggingConfig


def test_arguments_are_kept():
    config = JobConfig(
        ray_namespace="shop",
        metadata={"team": "search"},
        runtime_env={"env_vars": {"A": "1"}},
        code_search_path=["/code"],
    )
    assert config.ray_namespace == "shop"
    assert config.metadata == {"team": "search"}
    assert config.runtime_env == {"env_vars": {"A": "1"}}
    assert config.code_search_path == ["/code"]


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"default_actor_lifetime": "forever"}, ValueError),
        ({"code_search_path": "/code"}, TypeError),
        ({"metadata": {"team": 3}}, TypeError),
        ({"ray_namespace": 3}, TypeError),
    ],
)
def test_bad_arguments_are_refused(arguments, error):
    with pytest.raises(error):
        JobConfig(**arguments)


def test_environment_is_checked_on_request():
    config = JobConfig()
    config.set_runtime_env({"env_vars": {"A": 3}})
    with pytest.raises(TypeError):
        config.set_runtime_env({"env_vars": {"A": 3}}, validate=True)


def test_from_json_takes_the_known_keys():
    config = JobConfig.from_json({"metadata": {"a": "b"}, "ray_namespace": "n", "other": 1})
    assert config.metadata == {"a": "b"}
    assert config.ray_namespace == "n"


def test_logging_config_is_set_at_most_once_by_ensure():
    config, first = JobConfig(), LoggingConfig(encoding="JSON")
    config.ensure_logging_config(first)
    config.ensure_logging_config(LoggingConfig())
    assert config.py_logging_config is first
    config.set_py_logging_config(None)
    assert config.py_logging_config is None


class Table:
    """The key-value table, as far as the record needs it."""

    job_id = b"\1\0\0\0"

    def __init__(self):
        self.values = {}

    def kv_put(self, key, value, overwrite, namespace):
        self.values[namespace, key] = value

    def kv_get(self, key, namespace):
        return self.values.get((namespace, key))


def test_record_reaches_the_workers_of_the_job():
    config = JobConfig(
        default_actor_lifetime="detached",
        metadata={"a": "b"},
        code_search_path=["code"],
        _py_driver_sys_path=["first"],
    )
    config.set_py_logging_config(LoggingConfig(encoding="JSON", log_level="DEBUG"))
    table = Table()
    JobRecord.of_driver(config).publish(table)
    record = JobRecord.read(table)
    assert record == JobRecord.of_driver(config)
    assert record.import_path[:2] == [os.path.abspath("first"), os.path.abspath("code")]
    assert record.default_actor_lifetime == "detached"
    assert LoggingConfig.from_dict(record.logging).log_level == "DEBUG"


def test_worker_of_a_job_without_a_record_follows_the_defaults():
    assert JobRecord.read(Table()) == JobRecord()
