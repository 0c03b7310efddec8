"""What the runtime context says in drivers, tasks and actors."""

import json
import os

import pytest

import ray
from integration.programs import wait_until

pytestmark = pytest.mark.usefixtures("cluster")


def facts():
    here = ray.get_runtime_context()
    return {
        "task_name": here.get_task_name(),
        "function_name": here.get_task_function_name(),
        "actor_id": here.get_actor_id(),
        "actor_name": here.get_actor_name(),
        "accelerators": here.get_accelerator_ids(),
        "is_canceled": here.is_canceled(),
        "group": here.get_placement_group_id(),
        "captures": here.should_capture_child_tasks_in_placement_group,
        "env": json.loads(here.get_runtime_env_string()),
        "env_fields": dict(here.runtime_env),
        "namespace": here.namespace,
    }


@ray.remote(num_cpus=0)
def task_facts():
    return facts()


@ray.remote(num_cpus=0)
class Witness:
    def facts(self):
        return facts()

    async def facts_async(self):
        return facts()

    def was_restarted(self):
        return ray.get_runtime_context().was_current_actor_reconstructed

    def deprecated(self):
        here = ray.get_runtime_context()
        with pytest.warns(DeprecationWarning):
            return here.get(), here.actor_id, here.task_id


def test_driver_has_no_task():
    here = ray.get_runtime_context()
    assert here.get_task_name() is None
    assert here.get_task_function_name() is None
    assert here.get_actor_name() is None
    assert here.get_accelerator_ids().keys() >= {"GPU", "TPU", "NPU", "HPU", "neuron_cores"}
    assert not any(here.get_accelerator_ids().values())
    assert ray.get_gpu_ids() == []
    assert here.get_runtime_env_string() == "{}"
    assert dict(here.runtime_env) == {}
    assert not here.should_capture_child_tasks_in_placement_group
    with pytest.raises(RuntimeError, match="not in the driver"):
        here.is_canceled()
    with pytest.raises(AssertionError, match="not in the driver"):
        _ = here.was_current_actor_reconstructed
    with pytest.raises(AssertionError, match="not in the driver"):
        here.get_assigned_resources()


def test_session_is_told_by_its_folders():
    here = ray.get_runtime_context()
    assert os.path.isdir(os.path.join(here.get_temp_dir(), here.get_session_name()))
    assert here.get_node_labels()["ray.io/node-id"] == here.get_node_id()


def test_task_knows_itself():
    seen = ray.get(task_facts.options(name="special").remote())
    assert seen["task_name"] == "special"
    assert seen["actor_id"] is None and seen["actor_name"] is None
    assert seen["group"] is None and not seen["captures"]
    assert not seen["is_canceled"]
    assert seen["env"] == seen["env_fields"] == {}
    assert seen["namespace"] == ray.get_runtime_context().namespace


@pytest.mark.parametrize("method", ["facts", "facts_async"])
def test_actor_knows_itself(method):
    witness = Witness.options(name=f"witness_{method}").remote()
    seen = ray.get(getattr(witness, method).options(name="special").remote())
    assert seen["task_name"] == "special"
    assert seen["function_name"].endswith(f"test_runtime_context.Witness.{method}")
    assert seen["actor_id"] in repr(witness)
    assert seen["actor_name"] == f"witness_{method}"


def test_function_name_says_module_and_qualified_name():
    seen = ray.get(task_facts.options(name="special").remote())
    assert seen["function_name"].endswith("test_runtime_context.task_facts")


def test_restarted_actor_says_so():
    witness = Witness.options(max_restarts=1, max_task_retries=1).remote()
    assert ray.get(witness.was_restarted.remote()) is False
    ray.kill(witness, no_restart=False)
    assert ray.get(witness.was_restarted.remote()) is True


def test_running_call_sees_that_it_was_cancelled():
    @ray.remote(num_cpus=0)
    class Patient:
        cancelled = False

        def wait_for_cancel(self):
            wait_until(ray.get_runtime_context().is_canceled)
            self.cancelled = True

        def is_cancelled(self):
            return self.cancelled

    patient = Patient.options(max_concurrency=2).remote()
    ref = patient.wait_for_cancel.remote()
    assert not ray.get(patient.is_cancelled.remote())
    ray.cancel(ref)
    wait_until(lambda: ray.get(patient.is_cancelled.remote()))


def test_only_actors_have_been_restarted():
    @ray.remote(num_cpus=0)
    def ask():
        return ray.get_runtime_context().was_current_actor_reconstructed

    with pytest.raises(RuntimeError, match="only available in an actor"):
        ray.get(ask.remote())


def test_deprecated_ids_are_objects_and_warn():
    here = ray.get_runtime_context()
    with pytest.warns(DeprecationWarning, match="Use get_job_id"):
        assert here.job_id.hex() == here.get_job_id()
    with pytest.warns(DeprecationWarning, match="Use get_node_id"):
        assert here.node_id.hex() == here.get_node_id()
    with pytest.warns(DeprecationWarning):
        assert here.current_placement_group_id.is_nil()
    with pytest.warns(DeprecationWarning):
        assert here.get_resource_ids() == here.get_accelerator_ids()
    with pytest.warns(DeprecationWarning):
        assert here.get().keys() == {"job_id", "node_id", "namespace"}
    for name in ("task_id", "actor_id"):
        with pytest.warns(DeprecationWarning), pytest.raises(AssertionError):
            getattr(here, name)
    witness = Witness.remote()
    ids, actor_id, task_id = ray.get(witness.deprecated.remote())
    assert ids["actor_id"] == actor_id and actor_id.hex() in repr(witness)
    assert ids["task_id"] == task_id


def test_functions_of_the_main_module_are_named_by_its_file(run_program):
    program = run_program(
        """
import ray
ray.init(address="local", num_cpus=1, include_dashboard=False)

@ray.remote
class A:
    async def name(self):
        return ray.get_runtime_context().get_task_function_name()

print(ray.get(A.remote().name.remote()))
"""
    )
    assert "program0.A.name" in program.finish()
