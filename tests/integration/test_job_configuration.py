"""Job and logging configuration, as the processes of a job follow it."""

import json
import re

import pytest

import ray
from ray.job_config import JobConfig


@ray.remote(num_cpus=0)
class Service:
    def ping(self):
        return "pong"


def test_namespace_comes_from_the_configuration_unless_given(start_cluster):
    config = JobConfig(ray_namespace="configured")
    start_cluster(job_config=config)
    assert ray.get_runtime_context().namespace == "configured"
    ray.shutdown()
    start_cluster(job_config=config, namespace="given")
    assert ray.get_runtime_context().namespace == "given"


def test_default_lifetime_holds_in_the_driver_and_in_workers(start_cluster):
    start_cluster(job_config=JobConfig(default_actor_lifetime="detached"))

    @ray.remote(num_cpus=0)
    def make():
        ray.get(Service.options(name="from_worker").remote().ping.remote())

    ray.get(make.remote())
    ray.get(Service.options(name="from_driver").remote().ping.remote())
    for name in ("from_worker", "from_driver"):
        assert ray.get(ray.get_actor(name).ping.remote()) == "pong"


def test_workers_find_modules_in_the_code_search_path(start_cluster, tmp_path):
    (tmp_path / "module_of_the_job.py").write_text("ANSWER = 42")
    start_cluster(job_config=JobConfig(code_search_path=[str(tmp_path)]))

    @ray.remote(num_cpus=0)
    def answer():
        import module_of_the_job

        return module_of_the_job.ANSWER

    assert ray.get(answer.remote()) == 42


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"job_config": {"ray_namespace": "n"}}, TypeError),
        ({"logging_config": {"encoding": "JSON"}}, TypeError),
        ({"enable_resource_isolation": True}, ValueError),
        ({"cgroup_path": "/sys/fs/cgroup"}, ValueError),
        ({"job_config": JobConfig(ray_namespace="")}, ValueError),
    ],
)
def test_bad_arguments_are_refused_before_anything_starts(start_cluster, arguments, error):
    with pytest.raises(error):
        start_cluster(**arguments)
    assert not ray.is_initialized()


def test_local_mode_warns_and_runs_in_processes(start_cluster):
    with pytest.warns(DeprecationWarning, match="local_mode is ignored"):
        start_cluster(local_mode=True)
    assert ray.get(Service.remote().ping.remote()) == "pong"


LOGGING_PROGRAM = """
import logging
import ray

config = ray.LoggingConfig(encoding={encoding!r}, additional_log_standard_attrs=["name"])
job_config = ray.job_config.JobConfig()
job_config.set_py_logging_config(config)
ray.init(address="local", num_cpus=1, include_dashboard=False, {how})

def log(who):
    logging.getLogger("shop").info("hello from %s", who, extra={{"who": who}})
    logging.getLogger("shop").debug("not this")
    logging.getLogger("ray.sub").warning("ray says hello from %s", who)

log("driver")

@ray.remote
def task():
    log("task")

@ray.remote
class Actor:
    def log(self):
        log("actor")

ray.get(task.options(name="special").remote())
ray.get(Actor.options(name="named").remote().log.remote())
"""


@pytest.mark.parametrize("how", ["logging_config=config", "job_config=job_config"])
def test_json_records_say_where_they_were_made(run_program, how):
    source = LOGGING_PROGRAM.format(encoding="JSON", how=how)
    records = [json.loads(line) for line in run_program(source).finish().splitlines()]
    by_message = {record["message"]: record for record in records}
    driver, task, actor = (by_message[f"hello from {who}"] for who in ("driver", "task", "actor"))
    assert driver["name"] == "shop" and driver["levelname"] == "INFO"
    assert [record["who"] for record in (driver, task, actor)] == ["driver", "task", "actor"]
    assert driver["job_id"] == task["job_id"] == actor["job_id"]
    assert driver["node_id"] == task["node_id"]
    assert driver["worker_id"] != task["worker_id"]
    assert "task_id" not in driver and "actor_id" not in task
    assert task["task_name"] == "special"
    assert actor["task_name"] == "Actor.log"
    assert actor["actor_name"] == "named"
    assert actor["task_id"].endswith(actor["actor_id"])
    assert driver["timestamp_ns"] < task["timestamp_ns"]
    assert by_message["ray says hello from task"]["levelname"] == "WARNING"
    assert "not this" not in by_message


def test_text_records_end_with_where_they_were_made(run_program):
    source = LOGGING_PROGRAM.format(encoding="TEXT", how="logging_config=config")
    output = run_program(source).finish()
    assert re.search(
        r"^\S+ \S+\tINFO program0.py:\d+ -- hello from task name=shop who=task job_id=01000000"
        r" worker_id=[0-9a-f]{56} node_id=[0-9a-f]{56} task_id=[0-9a-f]{48} task_name=special",
        output,
        re.MULTILINE,
    ), output
