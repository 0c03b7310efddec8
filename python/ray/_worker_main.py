"""What a forked worker does: connects to the raylet, runs calls, ends."""

from __future__ import annotations

import atexit
import functools
import os
import pickle
import sys
import threading
import traceback
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn

from ray import _raylet
from ray._devices import use_devices
from ray._job_record import JobRecord
from ray._runtime import RUNTIME
from ray._task_output import MarkedOutput
from ray._worker_callbacks import ActorCreation, WorkerCallbacks
from ray.actor import exit_actor

if TYPE_CHECKING:
    from ray._actor_loop import ActorLoop

__all__ = ["WorkerCallbacks", "main"]


class Worker:
    """The callbacks of ``Core.serve``; the contract is WorkerCallbacks."""

    def __init__(self, core: _raylet.Core) -> None:
        self._core = core
        # What the lines of an actor are marked with, once it is one.
        self._actor_label: str | None = None
        self._loop: ActorLoop | None = None

    def run(self) -> None:
        """Blocks until the worker is to exit."""
        if self._core.serve(self) == "asyncio":
            assert self._loop is not None
            self._loop.run()

    def name_of_writer(self) -> str:
        """Whom the lines that this thread prints belong to."""
        if self._actor_label is not None:
            return self._actor_label
        name: str = self._core.current_task()["task_name"]
        return name

    def use_devices(self, ids: dict[str, list[str]], environment: dict[str, str]) -> None:
        use_devices(ids, environment)

    def enter_job(self) -> None:
        if RUNTIME.job is None:
            self._enter_job()

    def load_function(self, blob: bytes) -> Callable[..., Any]:
        function: Callable[..., Any] = self._load_definition(blob)
        return function

    def capture_child_tasks(self) -> None:
        RUNTIME.capture_children()

    def create_actor(
        self, class_blob: bytes, args: tuple[Any, ...], kwargs: dict[str, Any], info: ActorCreation
    ) -> tuple[Any, bool, dict[str, int]]:
        RUNTIME.actor = info
        self._actor_label = info["class_name"]
        try:
            definition, declared_groups = pickle.loads(class_blob)
            make = functools.partial(self._load_definition(definition), *args, **kwargs)
            if info["is_asyncio"]:
                from ray._actor_loop import ActorLoop  # Loads asyncio: 7 MB for each worker.

                self._loop = ActorLoop(self._core)
                instance = self._loop.construct(make)
            else:
                instance = make()
        except Exception:
            # Also for the driver's eyes: callers see it only if they call.
            traceback.print_exc()
            raise
        self._actor_label = _label_of(instance, info["class_name"])
        groups = {"": info["max_concurrency"], **declared_groups}
        if not info["is_asyncio"] and groups != {"": 1}:
            self._start_threads(sum(groups.values()))
        return instance, info["is_asyncio"], groups

    def get_method(self, instance: Any, name: str) -> Callable[..., Any]:
        every_actors: dict[str, Callable[..., Any]] = {
            "__ray_ready__": _ready,
            "__ray_call__": functools.partial(_call, instance),
            "__ray_terminate__": exit_actor,
        }
        name, _, transport = name.partition("@")  # As call_key has joined them.
        method = every_actors.get(name) or getattr(instance, name)
        if not transport:
            return method
        from ray.experimental.rdt.direct_objects import returning_directly  # Few need it.

        return returning_directly(method, transport)

    def _load_definition(self, blob: bytes) -> Any:
        self.enter_job()
        return pickle.loads(blob)

    def _enter_job(self) -> None:
        RUNTIME.job = job = JobRecord.read(self._core)
        # What the environment installs hides what is installed beside the driver.
        sys.path[:] = dict.fromkeys([*RUNTIME.import_path, *job.import_path, *sys.path])
        job.configure_logging()
        if RUNTIME.environment:
            from ray._runtime_env.setup import run_setup_hook

            try:
                run_setup_hook(self._core)
            except BaseException:
                RUNTIME.job = None  # What comes next does not run without it, either.
                raise

    def _start_threads(self, count: int) -> None:
        for index in range(count):
            threading.Thread(
                target=self._core.serve_thread, name=f"ray_actor_{index}", daemon=True
            ).start()


def _break() -> None:
    from ray.util import rpdb  # Few programs need a debugger.

    rpdb.break_at(sys._getframe(1))


def _ready() -> bool:
    return True


def _call(instance: Any, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    return function(instance, *args, **kwargs)


def _label_of(instance: Any, class_name: str) -> str:
    """An actor's lines are marked with its class, or as its own ``__repr__`` says."""
    if type(instance).__repr__ is object.__repr__:  # type: ignore[comparison-overlap]
        return class_name
    return repr(instance).replace("\n", " ")


def main(startup_token: int) -> NoReturn:
    """Runs a worker in this process, to its end.

    Args:
        startup_token: the number of the raylet's fork request.
    """
    session_dir = os.environ["RAY_SESSION_DIR"]
    core = _raylet.Core.connect_worker(
        os.environ["RAY_RAYLET_ENDPOINT"],
        startup_token=startup_token,
        listen_host=os.environ["RAY_LISTEN_HOST"],
        log_file=os.path.join(session_dir, "logs", f"core-worker-{os.getpid()}.log"),
    )
    _raylet.set_current_core(core)
    RUNTIME.attach(core, None)
    worker = Worker(core)
    sys.stdout = MarkedOutput(1, worker.name_of_writer)
    sys.stderr = MarkedOutput(2, worker.name_of_writer)
    if "PYTHONBREAKPOINT" not in os.environ:
        sys.breakpointhook = _break
    try:
        worker.run()
        atexit._run_exitfuncs()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        core.shutdown()
        os._exit(0)
