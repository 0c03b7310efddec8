"""RuntimeEnv and RuntimeEnvConfig: what may be written into them, and what they make of it."""

import doctest
import pickle

import pytest

from ray.runtime_env import RuntimeEnv, RuntimeEnvConfig


@pytest.mark.parametrize(
    ("fields", "error", "text"),
    [
        ({"env_vars": ["A"]}, TypeError, "Dict"),
        ({"env_vars": {"A": 1}}, TypeError, "value 1"),
        ({"env_vars": {1: "A"}}, TypeError, "key 1"),
        ({"working_dir": 5}, TypeError, "working_dir"),
        ({"working_dir": "/no/such/folder"}, ValueError, "/no/such/folder"),
        ({"working_dir": __file__}, ValueError, "neither"),
        ({"working_dir": "ftp://host/a.zip"}, ValueError, "https://"),
        ({"working_dir": "https://host/a"}, ValueError, "zip"),
        ({"working_dir": "https://host/a.whl"}, ValueError, "zip"),
        ({"py_modules": "name"}, TypeError, "py_modules"),
        ({"py_modules": [1]}, TypeError, "py_module"),
        ({"py_modules": ["/no/such/package"]}, ValueError, "/no/such/package"),
        ({"pip": 5}, TypeError, "pip"),
        ({"pip": {}}, ValueError, "packages"),
        ({"pip": {"packages": ["a"], "colour": 1}}, ValueError, "colour"),
        ({"pip": {"packages": ["a"], "pip_check": 1}}, TypeError, "pip_check"),
        ({"pip": "/no/such/requirements.txt"}, ValueError, "requirements"),
        ({"pip": [1]}, TypeError, "List"),
        ({"uv": {"packages": ["a"], "uv_version": 1}}, TypeError, "uv_version"),
        ({"pip": ["a"], "uv": ["b"]}, ValueError, "same time"),
        ({"pip": ["a"], "conda": "b"}, ValueError, "same time"),
        ({"conda": 5}, TypeError, "conda"),
        ({"conda": "/no/such.yml"}, ValueError, "such.yml"),
        ({"excludes": "a"}, TypeError, "excludes"),
        ({"config": 5}, TypeError, "config"),
        ({"config": {"setup_timeout_seconds": 0}}, ValueError, "setup_timeout"),
        ({"config": {"setup_timeout_seconds": "1"}}, TypeError, "setup_timeout"),
        ({"worker_process_setup_hook": 5}, TypeError, "hook"),
        ({"py_executable": 5}, TypeError, "py_executable"),
        ({"image_uri": "a", "pip": ["b"]}, ValueError, "pip"),
        ({"container": {"image": "a"}, "working_dir": ""}, ValueError, "working_dir"),
    ],
)
def test_wrong_fields_are_refused(fields, error, text):
    with pytest.raises(error, match=text):
        RuntimeEnv(**fields)


def test_validation_can_be_left_out():
    assert RuntimeEnv(env_vars=["A"], _validate=False) == {"env_vars": ["A"]}


def test_fields_that_say_nothing_are_left_out():
    assert RuntimeEnv(env_vars={}, pip=None, config=None) == {}


def test_unknown_fields_are_kept_as_plugins():
    env = RuntimeEnv(colour="red", env_vars={"A": "1"})
    assert env["colour"] == "red"
    assert env.plugins() == [("colour", "red")]


def test_requirements_are_normalised(tmp_path):
    file = tmp_path / "requirements.txt"
    file.write_text("# what we need\nsix\n\n  attrs==1.0 \nsix\n")
    expected = {"packages": ["six", "attrs==1.0"], "pip_check": False}
    assert RuntimeEnv(pip=str(file))["pip"] == expected
    assert RuntimeEnv(pip=["six", "attrs==1.0", "six"])["pip"] == expected
    spec = {"packages": ["six"], "pip_check": True, "pip_version": "==23.0"}
    assert RuntimeEnv(pip=spec).pip_config() == spec


def test_assignment_checks_as_the_constructor_does():
    env = RuntimeEnv(env_vars={"A": "1"})
    with pytest.raises(TypeError):
        env["env_vars"] = {"A": 1}
    with pytest.raises(TypeError):
        env.set("working_dir", 5)
    env.set("pip", ["six"])
    assert env.pip_config()["packages"] == ["six"]


def test_environment_travels_without_being_checked_again(tmp_path):
    folder = tmp_path / "project"
    folder.mkdir()
    env = RuntimeEnv(working_dir=str(folder), nsight="default")
    pickled, text = pickle.dumps(env), env.serialize()
    folder.rmdir()
    for copy in (pickle.loads(pickled), RuntimeEnv.deserialize(text)):
        assert type(copy) is RuntimeEnv
        assert copy == env
        assert copy.nsight() == "default"


def test_equal_environments_have_equal_text():
    one = RuntimeEnv(env_vars={"A": "1", "B": "2"}, pip=["six"])
    other = RuntimeEnv(pip=["six"], env_vars={"B": "2", "A": "1"})
    assert one.serialize() == other.serialize()
    assert one.pip_uri() == other.pip_uri() != RuntimeEnv(pip=["attrs"]).pip_uri()


def test_values_become_objects_of_a_data_class():
    class Point:
        def __init__(self, x, y):
            self.sum = x + y

    env = RuntimeEnv(point={"x": 1, "y": 2})
    assert env.get("point", data_class=Point).sum == 3
    assert env.get("absent", 7, data_class=Point) == 7


def test_config_fills_in_defaults_and_drops_the_unknown():
    everything = {"setup_timeout_seconds": 5, "eager_install": True, "log_files": []}
    assert RuntimeEnv(config={"setup_timeout_seconds": 5, "colour": 1})["config"] == everything
    config = RuntimeEnvConfig(setup_timeout_seconds=5)
    assert config == everything == config.to_dict()
    assert RuntimeEnvConfig.parse_and_validate_runtime_env_config(config) is config
    assert RuntimeEnvConfig(setup_timeout_seconds=-1)["setup_timeout_seconds"] == -1


def test_extensions_have_fixed_names():
    assert RuntimeEnv().get_extension("_ray_commit") is None
    with pytest.raises(ValueError, match="_ray_commit"):
        RuntimeEnv().get_extension("colour")


def test_examples_of_the_docstrings_run():
    from ray.runtime_env import runtime_env

    tried = doctest.testmod(runtime_env)
    assert tried.attempted > 0
    assert tried.failed == 0
