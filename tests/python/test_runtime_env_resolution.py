"""What an environment becomes where it is submitted: checked, merged, its files uploaded."""

import json
import pickle
import types

import pytest

from ray._runtime import RUNTIME
from ray._runtime_env.resolution import current_environment_text, merge, of_text, resolve
from ray._runtime_env.sources import fetch
from ray.exceptions import RuntimeEnvSetupError
from ray.runtime_env import RuntimeEnv


class Core:
    """A core that has a key-value table and nothing else."""

    def __init__(self):
        self.values = {}
        self.job_id = bytes(4)

    def kv_exists(self, key, namespace):
        return key in self.values

    def kv_put(self, key, value, overwrite, namespace):
        if namespace != "job_items":
            self.values[key] = value


@pytest.fixture
def core():
    core = Core()
    RUNTIME.attach(core, None)
    yield core
    RUNTIME.detach()


def fields(own):
    """The fields that ``own`` is resolved to."""
    return json.loads(resolve(own).text or "{}")


def arrived(core, uri, folder):
    """The names of the files that a node gets."""
    folder.mkdir()
    fetch(uri, str(folder), core.values.get)
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


@pytest.fixture
def package(tmp_path):
    folder = tmp_path / "tiny_package"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    return folder


def test_hash_names_the_text():
    assert of_text("").hash == b""
    assert len(of_text("a").hash) == 16
    assert of_text("a").hash != of_text("b").hash


def test_equal_environments_are_one(core):
    one = resolve({"env_vars": {"A": "1", "B": "2"}, "pip": ["six"]})
    other = resolve(RuntimeEnv(pip=["six"], env_vars={"B": "2", "A": "1"}))
    assert one == other
    assert one != resolve({"env_vars": {"A": "1"}})


@pytest.mark.parametrize("own", [None, {}, {"env_vars": {}}, {"config": {}}, {"excludes": ["a"]}])
def test_environments_that_change_nothing_are_the_default(core, own):
    assert resolve(own) == (b"", "")


def test_own_fields_lie_over_those_of_the_process(core):
    RUNTIME.enter_environment(
        '{"env_vars": {"A": "1", "B": "1"}, "working_dir": "gcs://a.zip"}', []
    )
    assert resolve(None).text == RUNTIME.environment == current_environment_text()
    assert fields({"env_vars": {"B": "2"}}) == {
        "env_vars": {"A": "1", "B": "2"},
        "working_dir": "gcs://a.zip",
    }


def test_environment_ends_with_the_session(core):
    RUNTIME.enter_environment('{"env_vars": {"A": "1"}}', [])
    RUNTIME.detach()
    assert current_environment_text() == "{}"


def test_package_managers_replace_each_other():
    parent = {"pip": {"packages": ["x"]}, "env_vars": {"A": "1"}}
    assert merge(parent, {"uv": {"packages": ["y"]}}) == {
        "uv": {"packages": ["y"]},
        "env_vars": {"A": "1"},
    }
    assert merge(parent, {"env_vars": {"B": "1"}})["pip"] == {"packages": ["x"]}


def test_folder_is_read_once_a_session(core, package):
    own = {"working_dir": str(package)}
    first = resolve(own)
    (package / "more.py").write_text("")
    assert resolve(dict(own)) == first
    RUNTIME.detach()
    RUNTIME.attach(core, None)
    assert resolve(own) != first


def test_folders_keep_their_names_as_modules(core, package, tmp_path, monkeypatch):
    monkeypatch.chdir(package)
    for number, location in enumerate([str(package), "."]):
        (uri,) = fields({"py_modules": [location]})["py_modules"]
        assert arrived(core, uri, tmp_path / str(number)) == ["tiny_package/__init__.py"]


def test_modules_are_found_by_their_files(core, package, tmp_path):
    single = tmp_path / "tiny_single.py"
    single.write_text("")
    whole, part, empty = (types.ModuleType(name) for name in ("whole", "part", "empty"))
    whole.__path__, part.__file__ = [str(package)], str(single)
    uris = fields({"py_modules": [whole, part]})["py_modules"]
    assert arrived(core, uris[0], tmp_path / "0") == ["tiny_package/__init__.py"]
    assert arrived(core, uris[1], tmp_path / "1") == ["tiny_single.py"]
    with pytest.raises(ValueError, match="empty"):
        resolve({"py_modules": [empty]})


def test_excludes_are_used_up(core, package, tmp_path):
    (package / "data.txt").write_text("")
    resolved = fields({"working_dir": str(package), "excludes": ["*.txt"]})
    assert set(resolved) == {"working_dir"}
    assert arrived(core, resolved["working_dir"], tmp_path / "out") == ["__init__.py"]


def test_uris_stay(core):
    own = {"working_dir": "https://host/a.zip", "py_modules": ["s3://bucket/b.whl"]}
    assert fields(own) == own
    assert core.values == {}


def test_broken_archive_is_refused(core, tmp_path):
    (tmp_path / "broken.zip").write_text("no archive")
    with pytest.raises(ValueError, match="broken.zip"):
        resolve({"working_dir": str(tmp_path / "broken.zip")})


def test_functions_travel_by_the_table(core):
    name = fields({"worker_process_setup_hook": len})["worker_process_setup_hook"]
    (blob,) = core.values.values()
    assert pickle.loads(blob) is len
    assert fields({"worker_process_setup_hook": name})["worker_process_setup_hook"] == name


def test_fields_without_effect_are_kept_with_a_warning(core, caplog, monkeypatch):
    monkeypatch.setattr("ray._runtime_env.resolution._logger.propagate", True)
    assert fields({"colour": "red"}) == {"colour": "red"}
    assert "colour" in caplog.text


@pytest.mark.parametrize(
    "own", [{"image_uri": "a"}, {"container": {"image": "a"}}, RuntimeEnv(nsight="default")]
)
def test_what_is_not_supported_is_refused(core, own):
    with pytest.raises(RuntimeEnvSetupError, match="refused"):
        resolve(own)
