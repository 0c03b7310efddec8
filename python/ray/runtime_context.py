"""Where this code runs: job, node, worker, task and actor."""

from __future__ import annotations

import contextvars
import os
from typing import TYPE_CHECKING, Any

from ray._runtime import RUNTIME
from ray.actor import ActorHandle, rebuild_handle

if TYPE_CHECKING:
    from ray._raylet import Call, Core

# The call that an asyncio actor's coroutine belongs to: many share one thread, each has a context
# of its own.
CURRENT_CALL: contextvars.ContextVar[Call | None] = contextvars.ContextVar(
    "ray_current_call", default=None
)


class RuntimeContext:
    """What is known of the process, task and actor that runs. Get it with
    ``ray.get_runtime_context()``.

    Ids are in hex. Threads: any; what is said of the task holds for the calling thread (or
    coroutine).

    Source: https://docs.ray.io/en/latest/ray-core/api/runtime-context.html, conformance
    core/test_core_context.py, actors/test_context_metrics_dag.py.
    """

    def __init__(self, core: Core) -> None:
        self._core = core

    def get_job_id(self) -> str:
        """Id of the job: 8 hex digits."""
        return self._core.job_id.hex()

    def get_node_id(self) -> str:
        """Id of the node this process runs on: 56 hex digits."""
        return self._core.node_id.hex()

    def get_worker_id(self) -> str:
        """Id of this process: 56 hex digits."""
        return self._core.worker_id.hex()

    def get_task_id(self) -> str | None:
        """Id of the running task or actor call: 48 hex digits. None in the driver."""
        call = CURRENT_CALL.get()
        task_id: bytes = call.task_id if call is not None else self._task()["task_id"]
        return None if self._core.is_driver else task_id.hex()

    def get_task_name(self) -> str | None:
        """Name of the running task: the function's, ``Class.method``, or the ``name`` option. None
        in the driver."""
        call = CURRENT_CALL.get()
        name: str = call.name if call is not None else self._task()["task_name"]
        return None if self._core.is_driver else name

    def get_actor_id(self) -> str | None:
        """Id of the actor this is: 32 hex digits. None outside an actor."""
        return None if RUNTIME.actor is None else RUNTIME.actor["actor_id"].hex()

    def get_actor_name(self) -> str | None:
        """Name of the actor this is; "" for an unnamed one. None outside an actor."""
        return None if RUNTIME.actor is None else RUNTIME.actor["name"]

    def get_placement_group_id(self) -> str | None:
        """Id of the placement group that the running task or actor was placed in; None without
        one."""
        return None

    def get_session_name(self) -> str:
        """Name of the session: the name of its folder."""
        return os.path.basename(self._core.session_dir)

    def get_temp_dir(self) -> str:
        """The folder that holds the session's folder."""
        return os.path.dirname(self._core.session_dir)

    def get_node_labels(self) -> dict[str, str]:
        """Labels of this node. Blocks for one request to the raylet."""
        node_id = self.get_node_id()
        labels = next(n["labels"] for n in self._core.cluster_state() if n["node_id"] == node_id)
        return {"ray.io/node-id": node_id, **labels}

    def get_assigned_resources(self) -> dict[str, float]:
        """What the running task or actor holds, by resource.

        Raises:
            AssertionError: in the driver, which holds nothing.
        """
        self._require_worker()
        return dict(self._task()["resources"])

    def get_accelerator_ids(self) -> dict[str, list[str]]:
        """Ids of the accelerators the running task or actor holds, by resource name.

        Raises:
            AssertionError: in the driver.
        """
        self._require_worker()
        return {"GPU": [str(gpu) for gpu in self._task()["gpu_ids"]]}

    @property
    def namespace(self) -> str:
        """Namespace of the job."""
        return self._core.namespace

    @property
    def gcs_address(self) -> str:
        """Address of the cluster's control plane."""
        return self._core.gcs_address

    @property
    def current_actor(self) -> ActorHandle[Any]:
        """A handle to the actor this is, which does not keep it alive.

        Raises:
            RuntimeError: outside an actor.
        """
        if RUNTIME.actor is None:
            raise RuntimeError("This is only available in an actor.")
        return rebuild_handle(RUNTIME.actor["actor_id"], RUNTIME.actor["handle_blob"], None)

    @property
    def was_current_actor_reconstructed(self) -> bool:
        """Whether this actor's process is not its first: it was restarted.

        Raises:
            AssertionError: in the driver.
            RuntimeError: outside an actor.
        """
        self._require_worker()
        if RUNTIME.actor is None:
            raise RuntimeError("This is only available in an actor.")
        return RUNTIME.actor["num_restarts"] > 0

    def _task(self) -> dict[str, Any]:
        return self._core.current_task()

    def _require_worker(self) -> None:
        if self._core.is_driver:
            raise AssertionError("This is only available in a task or an actor, not in the driver.")


def get_runtime_context() -> RuntimeContext:
    """Where this code runs. Starts a session if there is none.

    Source:
        https://docs.ray.io/en/latest/ray-core/api/doc/ray.runtime_context.get_runtime_context.html.
    """
    return RuntimeContext(RUNTIME.require())


def get_gpu_ids() -> list[int | str]:
    """Ids of the GPUs that the running task or actor holds; none in the driver.

    Source: https://docs.ray.io/en/latest/ray-core/api/doc/ray.get_gpu_ids.html.
    """
    return list(RUNTIME.require().current_task()["gpu_ids"])
