"""Entering an environment, in a process of its own, and the virtual environments it may have."""

import json
import os
import subprocess
import sys

import pytest

from integration.tiny_wheel import write_wheel
from ray._runtime_env.cache import Cache
from ray._runtime_env.interpreters import Installer
from ray._runtime_env.packaging import Package
from ray.exceptions import RuntimeEnvSetupError

# What the raylet would answer is in a file.
PROGRAM = """
import json, os, sys
import fake_raylet
fake_raylet.install_if_missing()
from ray import _raylet
from ray._runtime import RUNTIME

table = json.loads(sys.argv[2])

class Core:
    @staticmethod
    def connect_setup(raylet_endpoint, *, startup_token, log_file):
        core = Core()
        core.introduced = [raylet_endpoint, startup_token]
        return core

    def kv_get(self, key, namespace):
        value = table.get(key.decode())
        return None if value is None else bytes.fromhex(value)

    def report_environment_error(self, message):
        print(json.dumps([*self.introduced, message]), flush=True)

    def shutdown(self):
        pass

_raylet.Core = Core
from ray._runtime_env import setup

setup.enter(sys.argv[1], 7)
print(json.dumps([eval(text) for text in sys.argv[3:]]))
"""


class Table:
    """The key-value table, with values in hex."""

    def __init__(self):
        self.values = {}
        self.job_id = bytes(4)

    def kv_exists(self, key, namespace):
        return False

    def kv_put(self, key, value, overwrite, namespace):
        if namespace != "job_items":
            self.values[key.decode()] = value.hex()


@pytest.fixture
def table():
    return Table()


@pytest.fixture
def enter(tmp_path, table):
    """Enters an environment and evaluates expressions there."""
    session = tmp_path / "session"
    (session / "logs").mkdir(parents=True)

    def run(environment, *expressions, code=0, **variables):
        command = [sys.executable, "-c", PROGRAM, json.dumps(environment)]
        done = subprocess.run(
            [*command, json.dumps(table.values), *expressions],
            env={
                **os.environ,
                "RAY_SESSION_DIR": str(session),
                "RAY_RAYLET_ENDPOINT": "unix:/there",
                "PYTHONPATH": os.pathsep.join([os.path.dirname(__file__), *sys.path]),
                **variables,
            },
            stdout=subprocess.PIPE,
            text=True,
            timeout=50,
        )
        assert done.returncode == code
        return json.loads(done.stdout)

    return run


def variable(name):
    return f"os.environ.get({name!r})"


def test_variables_refer_to_others(enter):
    values = {"A": "${BASE}/a", "B": "$BASE:${ABSENT}", "C": "$A+", "BASE_": "$$"}
    read = enter({"env_vars": values}, *map(variable, ["A", "B", "C", "BASE_"]), BASE="base")
    assert read == ["base/a", "base:", "base/a+", "$$"]


def test_environment_is_remembered(enter):
    environment = {"env_vars": {"A": "1"}}
    (text,) = enter(environment, "RUNTIME.environment")
    assert json.loads(text) == environment


def test_files_are_fetched(enter, tmp_path, table):
    project, package = tmp_path / "project", tmp_path / "tiny_package"
    for folder, name in ((project, "tiny_main.py"), (package, "__init__.py")):
        folder.mkdir()
        (folder / name).write_text(f"NAME = {name!r}\n")
    packages = [Package(str(project)), Package(str(package), prefix="tiny_package/")]
    for made in packages:
        made.upload(table)
    environment = {"working_dir": packages[0].uri, "py_modules": [packages[1].uri]}
    listing, cwd, *names = enter(
        environment,
        "os.listdir()",
        "os.getcwd()",
        "__import__('tiny_main').NAME",
        "__import__('tiny_package').NAME",
        "__import__('subprocess').getoutput(sys.executable + ' -m tiny_main; pwd')",
    )
    assert "tiny_main.py" in listing
    assert names == ["tiny_main.py", "__init__.py", cwd]
    assert cwd.startswith(str(tmp_path / "session"))


def test_failure_is_reported(enter):
    endpoint, token, message = enter({"working_dir": "gcs://_ray_pkg_0.zip"}, code=1)
    assert (endpoint, token) == ("unix:/there", 7)
    assert "gcs://_ray_pkg_0.zip" in message


def test_time_limit(enter, tmp_path):
    slow = tmp_path / "bin" / "conda"
    slow.parent.mkdir()
    slow.write_text("#!/bin/sh\nsleep 60\n")
    slow.chmod(0o755)
    config = {"setup_timeout_seconds": 1, "eager_install": True, "log_files": []}
    environment = {"conda": {"dependencies": ["pip"]}, "config": config}
    _, _, message = enter(environment, code=1, CONDA_EXE=str(slow))
    assert "1 s" in message
    assert "setup_timeout_seconds" in message


def test_conda_is_missed(enter):
    _, _, message = enter({"conda": "base"}, code=1, PATH="/usr/bin:/bin", CONDA_EXE="")
    assert "conda" in message
    assert "PATH" in message


def test_python_of_the_environment_must_know_ray(enter):
    _, _, message = enter({"py_executable": "/no/such/python -X dev"}, code=1)
    assert "/no/such/python" in message
    _, _, message = enter({"py_executable": "/bin/false"}, code=1)
    assert "/bin/false" in message


@pytest.fixture
def installer(tmp_path):
    return Installer(Cache(str(tmp_path / "cache")), str(tmp_path / "log"))


def requirements(*packages, **options):
    return {"packages": [str(package) for package in packages], "pip_check": False, **options}


def output(interpreter, statement):
    command = [*interpreter.command, "-c", statement]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def test_virtual_environment_has_its_packages_before_those_of_the_parent(installer, tmp_path):
    wheel = write_wheel(tmp_path, "tiny_thing", "1.0")
    fake_click = write_wheel(tmp_path, "click", "99.0")
    made = installer.virtual_environment("pip", requirements(wheel, fake_click))
    assert output(made, "import tiny_thing; print(tiny_thing.VERSION)") == "1.0"
    assert output(made, "import click; print(click.VERSION)") == "99.0"
    assert output(made, "import numpy; print('found')") == "found"
    assert os.path.exists(os.path.join(made.bin_folder, "tiny_thing-program"))
    again = installer.virtual_environment("pip", requirements(wheel, fake_click))
    assert again.command == made.command


def test_changed_wheel_makes_another_environment(installer, tmp_path):
    write_wheel(tmp_path, "tiny_thing", source="NAME = 'one'\n")
    wheel = write_wheel(tmp_path, "tiny_thing", source="NAME = 'one'\n")
    one = installer.virtual_environment("pip", requirements(wheel))
    write_wheel(tmp_path, "tiny_thing", source="NAME = 'two'\n")
    two = installer.virtual_environment("pip", requirements(wheel))
    assert output(one, "import tiny_thing; print(tiny_thing.NAME)") == "one"
    assert output(two, "import tiny_thing; print(tiny_thing.NAME)") == "two"


def test_changed_requirements_file_makes_another_environment(installer, tmp_path, monkeypatch):
    monkeypatch.setenv("RAY_RUNTIME_ENV_CREATE_WORKING_DIR", str(tmp_path))
    spec = requirements("-r ${RAY_RUNTIME_ENV_CREATE_WORKING_DIR}/needed.txt")
    for name in ("tiny_one", "tiny_two"):
        (tmp_path / "needed.txt").write_text(str(write_wheel(tmp_path, name)))
        made = installer.virtual_environment("pip", spec)
        assert output(made, f"import {name}; print({name}.VERSION)") == "1.0"


def test_uv_falls_back_to_pip(installer, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    wheel = write_wheel(tmp_path, "tiny_thing")
    spec = {"packages": [str(wheel)], "uv_check": False}
    made = installer.virtual_environment("uv", spec)
    assert output(made, "import tiny_thing; print(tiny_thing.VERSION)") == "1.0"


@pytest.fixture
def program(tmp_path, monkeypatch):
    """Puts a program on the PATH, first."""
    folder = tmp_path / "programs"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.delenv("CONDA_EXE", raising=False)

    def write(name, *lines):
        path = folder / name
        path.write_text("\n".join(["#!/bin/sh", *lines]))
        path.chmod(0o755)

    return write


def test_uv_is_used_where_it_is(installer, tmp_path, program):
    program("uv", f'echo "$@" >> {tmp_path / "calls"}')
    spec = {"packages": ["tiny"], "uv_check": True, "uv_pip_install_options": ["--offline"]}
    (python,) = installer.virtual_environment("uv", spec).command
    install, check = (tmp_path / "calls").read_text().splitlines()
    assert install.startswith(f"pip install --python {python} --offline -r ")
    assert check == f"pip check --python {python}"


def test_conda_environments_are_found_by_name(installer, tmp_path, program):
    known = {"envs": ["/conda", "/conda/envs/tiny"], "root_prefix": "/conda"}
    program("conda", f"echo '{json.dumps(known)}'")
    assert installer.conda_environment("tiny").command == ["/conda/envs/tiny/bin/python"]
    assert installer.conda_environment("base").command == ["/conda/bin/python"]
    assert installer.conda_environment("/other").command == ["/other/bin/python"]
    with pytest.raises(RuntimeEnvSetupError, match="absent.*/conda/envs/tiny"):
        installer.conda_environment("absent")


def test_conda_environments_are_created_once(installer, tmp_path, program):
    # conda env create --yes --prefix PREFIX --file FILE
    program("conda", "mkdir -p $5/bin", f"cat $7 >> {tmp_path / 'definitions'}", "touch $5/made")
    spec = {"dependencies": ["tiny"]}
    made = installer.conda_environment(spec)
    assert installer.conda_environment(spec).command == made.command
    assert os.path.exists(os.path.join(made.bin_folder, os.pardir, "made"))
    assert json.loads((tmp_path / "definitions").read_text()) == spec


def test_error_has_the_output_of_the_installer(installer, tmp_path):
    spec = requirements("/no/such/tiny_thing-1.0-py3-none-any.whl")
    with pytest.raises(RuntimeEnvSetupError) as raised:
        installer.virtual_environment("pip", spec)
    assert "No such file or directory: '/no/such/tiny_thing" in str(raised.value)
    assert str(tmp_path / "log") in str(raised.value)
    assert "/no/such/tiny_thing" in (tmp_path / "log").read_text()


def test_pip_check_finds_missing_requirements(installer, tmp_path):
    wheel = write_wheel(tmp_path, "tiny_thing", requires=["tiny_absent"])
    spec = requirements(wheel, pip_check=True, pip_install_options=["--no-deps"])
    with pytest.raises(RuntimeEnvSetupError, match=r"tiny.absent"):
        installer.virtual_environment("pip", spec)
