"""Where this code runs: job, node, worker, task and actor."""

from __future__ import annotations

import contextvars
import json
import os
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ray._devices import assigned_devices
from ray._ids import ActorID, JobID, NodeID, PlacementGroupID, TaskID
from ray._runtime import RUNTIME
from ray._runtime_env.resolution import current_environment_text
from ray.actor import ActorHandle, rebuild_handle

if TYPE_CHECKING:
    from ray._raylet import Call, Core
    from ray.runtime_env import RuntimeEnv

# The resources that are kinds of accelerators.
_ACCELERATORS = ("FURIOSA", "GPU", "HPU", "MBLT", "NPU", "RBLN", "TPU", "TTNPU", "neuron_cores")

# The call that an asyncio actor's coroutine belongs to: many share one thread, each has a context
# of its own.
CURRENT_CALL: contextvars.ContextVar[Call | None] = contextvars.ContextVar(
    "ray_current_call", default=None
)


class RuntimeContext:
    """What is known of the process, task and actor that runs. Get it with
    ``ray.get_runtime_context()``.

    >>> import ray
    >>> context = ray.get_runtime_context()
    >>> len(context.get_job_id()), len(context.get_node_id()), context.get_task_id()
    (8, 56, None)

    Ids are in hex. Threads: any; what is said of the task holds for the calling thread (or
    coroutine).

    Source: https://docs.ray.io/en/latest/ray-core/api/runtime-context.html, conformance
    core/test_core_context.py, actors/test_context_metrics_dag.py.
    """

    def __init__(self, worker: Core) -> None:
        """``worker`` is the native core of this process; programs have no use for it."""
        self.worker = worker

    def get_job_id(self) -> str:
        """Id of the job: 8 hex digits."""
        return self.worker.job_id.hex()

    def get_node_id(self) -> str:
        """Id of the node this process runs on: 56 hex digits."""
        return self.worker.node_id.hex()

    def get_worker_id(self) -> str:
        """Id of this process: 56 hex digits."""
        return self.worker.worker_id.hex()

    def get_task_id(self) -> str | None:
        """Id of the running task or actor call: 48 hex digits. None in the driver."""
        if self.worker.is_driver:
            return None
        call = CURRENT_CALL.get()
        task_id: bytes = call.task_id if call is not None else self._task()["task_id"]
        return task_id.hex()

    def get_task_name(self) -> str | None:
        """Name of the running task: the function's, ``Class.method``, or the ``name`` option. None
        in the driver."""
        if self.worker.is_driver:
            return None
        call = CURRENT_CALL.get()
        name: str = call.name if call is not None else self._task()["task_name"]
        return name

    def get_task_function_name(self) -> str | None:
        """Name of the function or method that the running task calls, with its module, whatever the
        ``name`` option says. None in the driver."""
        if self.worker.is_driver:
            return None
        call = CURRENT_CALL.get()
        function = call.method if call is not None else self._task().get("function")
        return None if function is None else _full_name(function)

    def get_actor_id(self) -> str | None:
        """Id of the actor this is: 32 hex digits. None outside an actor."""
        return None if RUNTIME.actor is None else RUNTIME.actor["actor_id"].hex()

    def get_actor_name(self) -> str | None:
        """Name of the actor this is; "" for an unnamed one. None outside an actor."""
        return None if RUNTIME.actor is None else RUNTIME.actor["name"]

    def get_placement_group_id(self) -> str | None:
        """Id of the placement group that the running task or actor was placed in; None without
        one."""
        placement = self._task().get("placement_group")
        return None if placement is None else placement[0].hex()

    @property
    def should_capture_child_tasks_in_placement_group(self) -> bool:
        """Whether tasks and actors that are submitted here are placed in the placement group of the
        running one, unless they say otherwise."""
        placement = self._task().get("placement_group")
        return placement is not None and placement[1]

    def get_runtime_env_string(self) -> str:
        """The runtime environment of this process as JSON: a worker's own, the job's in the
        driver."""
        return current_environment_text()

    @property
    def runtime_env(self) -> RuntimeEnv:
        """The runtime environment of this process: a worker's own, the job's in the driver."""
        from ray.runtime_env import RuntimeEnv

        return RuntimeEnv(**json.loads(self.get_runtime_env_string()))

    def is_canceled(self) -> bool:
        """Whether ``ray.cancel`` was called for the running task; one that goes on nevertheless can
        ask from time to time.

        Raises:
            RuntimeError: in the driver.
        """
        if self.worker.is_driver:
            raise RuntimeError("This is only available in a task or an actor, not in the driver.")
        call = CURRENT_CALL.get()
        return call.cancelled if call is not None else self._task().get("cancelled", False)

    def get_session_name(self) -> str:
        """Name of the session: the name of its folder."""
        return os.path.basename(self.worker.session_dir)

    def get_temp_dir(self) -> str:
        """The folder that holds the session's folder."""
        return os.path.dirname(self.worker.session_dir)

    def get_node_labels(self) -> dict[str, str]:
        """Labels of this node. Blocks for one request to the raylet."""
        node_id = self.get_node_id()
        labels = next(
            n["labels"] for n in self.worker.cluster_state()["nodes"] if n["node_id"] == node_id
        )
        return {"ray.io/node-id": node_id, **labels}

    def get_assigned_resources(self) -> dict[str, float]:
        """What the running task or actor holds, by resource.

        Raises:
            AssertionError: in the driver, which holds nothing.
        """
        self._require_worker()
        return dict(self._task()["resources"])

    def get_accelerator_ids(self) -> dict[str, list[str]]:
        """Ids of the accelerators that the running task or actor holds, by the name of each kind of
        accelerator. Empty lists in the driver."""
        return {resource: assigned_devices(resource) for resource in _ACCELERATORS}

    @property
    def namespace(self) -> str:
        """Namespace of the job."""
        return self.worker.namespace

    @property
    def gcs_address(self) -> str:
        """Address of the cluster's control plane, for ``ray.init`` and ``ray start``: HOST:PORT."""
        from ray._node_records import cluster_address  # Rarely needed.

        return cluster_address(self.worker.session_dir) or self.worker.gcs_address

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

    # -- deprecated, with ids as objects

    def get(self) -> dict[str, Any]:
        """Deprecated: ids as objects, and the namespace. Use the ``get_..._id`` methods."""
        _warn_deprecated("get", "the get_..._id methods")
        ids = {
            "job_id": self._job_id(),
            "node_id": self._node_id(),
            "namespace": self.namespace,
            "task_id": self._task_id(),
            "actor_id": self._actor_id(),
        }
        return {name: value for name, value in ids.items() if value is not None}

    @property
    def job_id(self) -> JobID:
        """Deprecated: use ``get_job_id``."""
        _warn_deprecated("job_id", "get_job_id()")
        return self._job_id()

    @property
    def node_id(self) -> NodeID:
        """Deprecated: use ``get_node_id``."""
        _warn_deprecated("node_id", "get_node_id()")
        return self._node_id()

    @property
    def task_id(self) -> TaskID | None:
        """Deprecated: use ``get_task_id``.

        Raises:
            AssertionError: in the driver.
        """
        _warn_deprecated("task_id", "get_task_id()")
        self._require_worker()
        return self._task_id()

    @property
    def actor_id(self) -> ActorID | None:
        """Deprecated: use ``get_actor_id``.

        Raises:
            AssertionError: in the driver.
        """
        _warn_deprecated("actor_id", "get_actor_id()")
        self._require_worker()
        return self._actor_id()

    @property
    def current_placement_group_id(self) -> PlacementGroupID:
        """Deprecated: use ``get_placement_group_id``. The nil id without a group."""
        _warn_deprecated("current_placement_group_id", "get_placement_group_id()")
        placement = self._task().get("placement_group")
        nil = bytes([0xFF]) * PlacementGroupID.SIZE
        return PlacementGroupID(nil if placement is None else placement[0])

    def get_resource_ids(self) -> dict[str, list[str]]:
        """Deprecated: use ``get_accelerator_ids``."""
        _warn_deprecated("get_resource_ids", "get_accelerator_ids()")
        return self.get_accelerator_ids()

    def _job_id(self) -> JobID:
        return JobID(self.worker.job_id)

    def _node_id(self) -> NodeID:
        return NodeID(self.worker.node_id)

    def _task_id(self) -> TaskID | None:
        text = self.get_task_id()
        return None if text is None else TaskID(bytes.fromhex(text))

    def _actor_id(self) -> ActorID | None:
        return None if RUNTIME.actor is None else ActorID(RUNTIME.actor["actor_id"])

    def _task(self) -> dict[str, Any]:
        return self.worker.current_task()

    def _require_worker(self) -> None:
        if self.worker.is_driver:
            raise AssertionError("This is only available in a task or an actor, not in the driver.")


def _full_name(function: Callable[..., Any]) -> str:
    """``module.Class.method``; the main module is called by its file, as others would import it."""
    module = function.__module__
    if module == "__main__" and RUNTIME.job is not None:
        module = RUNTIME.job.main_module
    return f"{module}.{function.__qualname__}"


def _warn_deprecated(name: str, instead: str) -> None:
    warnings.warn(
        f"RuntimeContext.{name} is deprecated. Use {instead} instead.",
        DeprecationWarning,
        stacklevel=3,
    )


def get_runtime_context() -> RuntimeContext:
    """Where this code runs. Starts a session if there is none.

    >>> import ray
    >>> @ray.remote
    ... def name():
    ...     return ray.get_runtime_context().get_task_name()
    >>> ray.get(name.remote())
    'name'

    Source:
        https://docs.ray.io/en/latest/ray-core/api/doc/ray.runtime_context.get_runtime_context.html.
    """
    return RuntimeContext(RUNTIME.require())


def get_gpu_ids() -> list[int | str]:
    """Ids of the GPUs that the running task or actor holds; none in the driver.

    >>> import ray
    >>> ray.get_gpu_ids()
    []

    Source: https://docs.ray.io/en/latest/ray-core/api/doc/ray.get_gpu_ids.html.
    """
    RUNTIME.require()
    return [int(gpu) if gpu.isdecimal() else gpu for gpu in assigned_devices("GPU")]
