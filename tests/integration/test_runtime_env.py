"""Runtime environments in real workers."""

import ctypes
import os
import pathlib
import signal
import sys
import tempfile
import time

import pytest

import ray
from integration.programs import wait_until
from integration.tiny_wheel import write_wheel
from ray._runtime_env.cache import Cache
from ray.exceptions import RuntimeEnvSetupError
from ray.runtime_env import RuntimeEnv

# Setting up takes no network, but pip is slow on a busy machine.
pytestmark = [pytest.mark.timeout(120), pytest.mark.ours_only]


@ray.remote(num_cpus=0)
def evaluate(expression):
    """What an expression is in a worker."""
    return eval(expression, {"os": os, "sys": sys, "ray": ray, "ctypes": ctypes})


@ray.remote(num_cpus=0)
class Evaluator:
    def evaluate(self, expression):
        return eval(expression, {"os": os, "sys": sys, "ray": ray})

    def evaluate_in_a_task(self, expression, **options):
        return ray.get(evaluate.options(**options).remote(expression))


def variable(name):
    return f"os.environ.get({name!r})"


def within(expression, **environment):
    return ray.get(evaluate.options(runtime_env=environment).remote(expression))


@pytest.fixture(scope="module")
def temporary():
    """A folder with a path short enough for sockets; its caches are the tests' own."""
    with tempfile.TemporaryDirectory(prefix="env-", dir="/tmp") as folder:
        yield pathlib.Path(folder)


@pytest.fixture
def cluster(temporary, start_cluster):
    return start_cluster(num_cpus=2, _temp_dir=str(temporary))


@pytest.fixture
def start(temporary, start_cluster):
    return lambda **arguments: start_cluster(_temp_dir=str(temporary), **arguments)


@pytest.fixture
def slow_conda(tmp_path, monkeypatch):
    """Makes the installer conda one that never ends; gives the variable that says where it is."""
    conda = tmp_path / "conda"
    conda.write_text("#!/bin/sh\nexec sleep 999\n")
    conda.chmod(0o755)
    monkeypatch.setenv("CONDA_EXE", str(conda))
    return {"CONDA_EXE": str(conda)}


def command_line(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
    except OSError:
        return ""


@pytest.fixture
def project(tmp_path):
    root = tmp_path / "project"
    root.mkdir()
    (root / "tiny_main.py").write_text("ANSWER = 42\n")
    (root / "data.txt").write_text("forty-two")
    return root


def test_equal_environments_share_workers_and_others_do_not(cluster):
    one = within("os.getpid()", env_vars={"A": "1"})
    assert within("os.getpid()", env_vars={"A": "1"}) == one
    assert within("os.getpid()", env_vars={"A": "2"}) != one
    assert ray.get(evaluate.remote("os.getpid()")) != one


def test_context_shows_the_environment(start):
    start(num_cpus=1, runtime_env={"env_vars": {"A": "1"}})
    shown = "dict(ray.get_runtime_context().runtime_env)"
    assert dict(ray.get_runtime_context().runtime_env) == {"env_vars": {"A": "1"}}
    assert ray.get(evaluate.remote(shown)) == {"env_vars": {"A": "1"}}
    assert within(shown, env_vars={"B": "2"}) == {"env_vars": {"A": "1", "B": "2"}}


def test_children_inherit_and_override(start):
    start(num_cpus=2, runtime_env={"env_vars": {"A": "job", "B": "job", "C": "job"}})
    actor = Evaluator.options(runtime_env={"env_vars": {"B": "actor", "C": "actor"}}).remote()
    own = {"env_vars": {"C": "task"}}
    everything = "[os.environ[name] for name in 'ABC']"
    assert ray.get(actor.evaluate.remote(everything)) == ["job", "actor", "actor"]
    child = actor.evaluate_in_a_task.remote(everything, runtime_env=own)
    assert ray.get(child) == ["job", "actor", "task"]


def test_job_config_is_the_base_of_the_argument(start):
    config = ray.job_config.JobConfig(runtime_env={"env_vars": {"A": "config", "B": "config"}})
    start(num_cpus=1, job_config=config, runtime_env={"env_vars": {"B": "argument"}})
    both = "[os.environ.get('A'), os.environ.get('B')]"
    assert ray.get(evaluate.remote(both)) == ["config", "argument"]


def test_variables_that_are_read_at_start_take_effect(cluster, tmp_path):
    (tmp_path / "tiny_on_path.py").write_text("NAME = 'found'\n")
    found = within("__import__('tiny_on_path').NAME", env_vars={"PYTHONPATH": str(tmp_path)})
    assert found == "found"
    start_of_process = "open('/proc/self/environ').read().split(chr(0))"
    assert "LD_SPEC=1" in within(start_of_process, env_vars={"LD_SPEC": "1"})


def test_task_may_name_a_folder(cluster, project):
    expression = "[open('data.txt').read(), __import__('tiny_main').ANSWER, os.getcwd()]"
    text, answer, cwd = within(expression, working_dir=str(project))
    assert (text, answer) == ("forty-two", 42)
    assert cwd != str(project)
    assert ray.get(evaluate.remote("os.getcwd()")) != cwd


def test_changed_folder_is_seen_by_the_next_session(start, project):
    for text in ("one", "two"):
        (project / "data.txt").write_text(text)
        start(num_cpus=1, runtime_env={"working_dir": str(project)})
        assert ray.get(evaluate.remote("open('data.txt').read()")) == text
        ray.shutdown()


def test_modules_may_be_folders_modules_and_wheels(cluster, tmp_path, project, monkeypatch):
    package = tmp_path / "tiny_package"
    package.mkdir()
    (package / "__init__.py").write_text("NAME = 'package'\n")
    monkeypatch.syspath_prepend(str(project))
    import tiny_main

    wheel = write_wheel(tmp_path, "tiny_wheel_module")
    read = within(
        "[__import__('tiny_package').NAME, __import__('tiny_wheel_module').VERSION,"
        " __import__('tiny_main').__file__]",
        py_modules=[str(package), str(wheel), tiny_main],
    )
    assert read[:2] == ["package", "1.0"]
    assert read[2] != tiny_main.__file__


def test_packages_of_pip(cluster, tmp_path):
    wheel = write_wheel(tmp_path, "tiny_thing", source="import numpy\nVERSION = '1.0'\n")
    packages = {"pip": [str(wheel)]}
    expression = "[__import__('tiny_thing').VERSION, sys.prefix, sys.executable, os.getpid()]"
    refs = [evaluate.options(runtime_env=packages).remote(expression) for _ in range(3)]
    actor = Evaluator.options(runtime_env=packages).remote()
    read = [*ray.get(refs), ray.get(actor.evaluate.remote(expression))]
    assert {version for version, *_ in read} == {"1.0"}
    (prefix,) = {prefix for _, prefix, _, _ in read}
    assert prefix != sys.prefix
    assert all(executable.startswith(prefix) for _, _, executable, _ in read)
    assert ray.get(actor.evaluate_in_a_task.remote("sys.prefix")) == prefix
    with pytest.raises(ImportError):
        ray.get(evaluate.remote("__import__('tiny_thing')"))


def test_worker_on_another_python_prints_and_can_be_cancelled(cluster, tmp_path):
    packages = {"pip": [str(write_wheel(tmp_path, "tiny_printing"))]}
    ref = evaluate.options(runtime_env=packages, max_retries=0).remote(
        "(print('tiny line', flush=True), __import__('time').sleep(60))"
    )
    logs = pathlib.Path(cluster.address_info["session_dir"], "logs")
    wait_until(lambda: any("tiny line" in file.read_text() for file in logs.glob("worker-*.out")))
    ray.cancel(ref)
    with pytest.raises(ray.exceptions.TaskCancelledError):
        ray.get(ref, timeout=20)


def test_environment_hides_what_is_installed_beside_the_driver(cluster, tmp_path):
    wheel = write_wheel(tmp_path, "click", "99.0")
    real_ray = write_wheel(tmp_path, "ray", "99.0")
    read = within("[__import__('click').VERSION, ray.__file__]", pip=[str(wheel), str(real_ray)])
    assert read == ["99.0", ray.__file__]


def test_worker_of_an_environment_uses_its_cache_and_dies_with_its_parent(
    cluster, tmp_path, temporary
):
    wheel = write_wheel(tmp_path, "tiny_locked")
    prefix = within("sys.prefix", pip=[str(wheel)])
    Cache(str(temporary / f"runtime_env_cache_{os.geteuid()}")).collect(0)
    assert os.path.isdir(prefix)
    parent_death_signal = (
        "(lambda number: [ctypes.CDLL(None).prctl(2, ctypes.byref(number)), number.value])"
        "(ctypes.c_int())"
    )
    assert within(parent_death_signal, pip=[str(wheel)]) == [0, 9]


def test_failed_installation_fails_tasks_and_actors(cluster):
    environment = {"pip": ["/no/such/tiny_thing-1.0-py3-none-any.whl"]}
    with pytest.raises(RuntimeEnvSetupError, match="/no/such/tiny_thing"):
        ray.get(evaluate.options(runtime_env=environment).remote("1"))
    actor = Evaluator.options(runtime_env=environment).remote()
    with pytest.raises(RuntimeEnvSetupError, match="/no/such/tiny_thing"):
        ray.get(actor.evaluate.remote("1"))
    assert ray.get(evaluate.remote("1")) == 1


def test_setup_hook_runs_before_the_program(cluster, tmp_path):
    def hook():
        os.environ["HOOKED"] = "by a function"

    assert within(variable("HOOKED"), worker_process_setup_hook=hook) == "by a function"
    (tmp_path / "tiny_hook.py").write_text("import os\ndef run(): os.environ['HOOKED'] = 'by name'")
    named = {"worker_process_setup_hook": "tiny_hook.run", "working_dir": str(tmp_path)}
    assert within(variable("HOOKED"), **named) == "by name"
    assert ray.get(evaluate.remote(variable("HOOKED"))) is None


def test_failing_setup_hook_fails_the_tasks(cluster):
    def hook():
        raise KeyError("tiny trouble")

    for _ in range(2):
        with pytest.raises(RuntimeEnvSetupError, match="tiny trouble"):
            within("1", worker_process_setup_hook=hook)


@pytest.mark.parametrize("eager", [True, False])
def test_the_environment_of_a_job_is_set_up_when_it_starts(start, project, tmp_path, eager):
    marker = str(tmp_path / "was set up")

    def hook():
        open(marker, "w").close()

    start(
        num_cpus=1,
        runtime_env={
            "working_dir": str(project),
            "worker_process_setup_hook": hook,
            "config": {"eager_install": eager},
        },
    )
    if eager:
        wait_until(lambda: os.path.exists(marker))
    else:
        time.sleep(1)
        assert not os.path.exists(marker)
    assert ray.get(evaluate.remote("open('data.txt').read()")) == "forty-two"
    assert os.path.exists(marker)


def test_an_environment_of_a_job_that_fails_does_so_at_its_tasks(start):
    start(num_cpus=1, runtime_env={"pip": ["/no/such/tiny_thing-1.0-py3-none-any.whl"]})
    for _ in range(2):
        with pytest.raises(RuntimeEnvSetupError, match="/no/such/tiny_thing"):
            ray.get(evaluate.remote("1"))


def test_time_limit_of_the_set_up(slow_conda, cluster):
    config = {"setup_timeout_seconds": 1}
    with pytest.raises(RuntimeEnvSetupError, match="setup_timeout_seconds"):
        within("1", conda={"dependencies": ["slow"]}, config=config)


PROGRAM = """
import ray
ray.init(num_cpus=1, _temp_dir={temporary!r})
print("started", flush=True)

@ray.remote(runtime_env={{"conda": {{"dependencies": ["slow"]}}}})
def never():
    pass

ray.get(never.remote())
"""


def test_installers_die_with_the_driver(temporary, slow_conda, run_program):
    program = run_program(PROGRAM.format(temporary=str(temporary)), **slow_conda)
    program.line_with("started")
    wait_until(lambda: any("sleep 999" in command_line(pid) for pid in program.processes()))
    program.send(signal.SIGKILL)
    wait_until(lambda: not program.processes())


@pytest.mark.parametrize(
    ("environment", "error"),
    [
        ({"env_vars": {"A": 1}}, TypeError),
        ({"working_dir": "/no/such/folder"}, ValueError),
        ({"image_uri": "image"}, RuntimeEnvSetupError),
        ("text", TypeError),
    ],
)
def test_wrong_environments_are_refused_before_anything_is_started(environment, error):
    ray.shutdown()
    with pytest.raises(error):
        ray.init(runtime_env=environment)
    assert not ray.is_initialized()
    with pytest.raises(error):
        evaluate.options(runtime_env=environment)
    with pytest.raises(error):
        Evaluator.options(runtime_env=environment)
    with pytest.raises(error):
        ray.remote(runtime_env=environment)(lambda: 1)


def test_too_large_folder_ends_the_session_it_was_for(start, project, monkeypatch):
    monkeypatch.setenv("RAY_runtime_env_package_max_bytes", "10")
    with pytest.raises(ValueError, match="tiny_main.py"):
        start(num_cpus=1, runtime_env={"working_dir": str(project)})
    assert not ray.is_initialized()


def test_environment_object_is_an_option(cluster):
    env = RuntimeEnv(env_vars={"A": "1"})
    assert ray.get(evaluate.options(runtime_env=env).remote(variable("A"))) == "1"
    assert ray.get(evaluate.options(runtime_env=None).remote(variable("A"))) is None
