"""Requests that cannot be met now."""

import pytest

import ray
from integration.programs import wait_until
from ray.exceptions import GetTimeoutError, TaskUnschedulableError


@pytest.mark.ours_only
def test_infeasible_request_warns_and_stays_pending(run_program):
    program = run_program("""
import ray
ray.init(address="local", num_cpus=1)

@ray.remote(resources={"unobtainium": 2})
def f():
    pass

ref = f.remote()
ready, pending = ray.wait([ref], timeout=10)
print("ready", len(ready), "pending", len(pending))
""")
    output = program.finish()
    assert "ready 0 pending 1" in output
    warnings = [line for line in output.splitlines() if "unobtainium" in line]
    assert len(warnings) == 1, output


def test_get_times_out_and_the_task_goes_on(start_cluster, tmp_path):
    start_cluster()
    gate = tmp_path / "gate"

    @ray.remote
    def wait_for_gate():
        wait_until(gate.exists, timeout_s=30)
        return "through"

    ref = wait_for_gate.remote()
    with pytest.raises(GetTimeoutError):
        ray.get(ref, timeout=0.1)
    gate.touch()
    assert ray.get(ref) == "through"


def test_task_waits_for_a_resource_that_is_in_use(start_cluster, tmp_path):
    start_cluster(resources={"seat": 1})
    gate = tmp_path / "gate"

    @ray.remote(resources={"seat": 1})
    def sit(path):
        wait_until(path.exists, timeout_s=30)
        return path.name

    first = sit.remote(gate)
    wait_until(lambda: ray.available_resources().get("seat", 0) == 0)
    second = sit.remote(gate)
    assert ray.wait([first, second], timeout=0.2)[0] == []
    gate.touch()
    assert ray.get([first, second]) == ["gate", "gate"]
    wait_until(lambda: ray.available_resources().get("seat") == 1)


def test_an_infeasible_task_fails_once_its_time_is_over(start_cluster):
    start_cluster(_system_config={"infeasible_task_timeout_ms": 300})

    @ray.remote(resources={"telescope": 1})
    def observe():
        pass

    with pytest.raises(TaskUnschedulableError, match="telescope"):
        ray.get(observe.remote(), timeout=30)
