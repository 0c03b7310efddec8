"""What the native worker loop calls in Python.

``Core.serve`` is given one object with these methods. Everything runs with the GIL held. An
exception that leaves ``load_function`` or ``get_method`` is the error of the call that needed it;
one that leaves ``create_actor`` is the actor's creation error (``Hooks.task_error`` makes it
picklable, as for a task).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, TypedDict


class ActorCreation(TypedDict):
    """What the native side knows of the actor that this worker becomes."""

    actor_id: bytes
    class_name: str
    name: str  # "" = unnamed
    namespace: str
    max_concurrency: int  # of the default group; a plain actor has 1
    is_asyncio: bool
    num_restarts: int  # 0 = the first incarnation
    handle_blob: bytes


class WorkerCallbacks(Protocol):
    """The contract between ``Core.serve`` and Python.

    Threads: ``load_function`` and ``get_method`` may be called from any thread that runs calls
        (serve,
    serve_thread, take_calls); ``create_actor`` from the thread that is in ``serve``. Their results
    are cached by the native side: ``load_function`` by template, ``get_method`` by method name.
    """

    def use_devices(self, ids: dict[str, list[str]], environment: dict[str, str]) -> None:
        """The devices that the next calls may use, by resource name, and the variables that confine
        a process to them. Comes before the first call of their lease, and before an actor is
        created."""

    def enter_job(self) -> None:
        """Makes this process one of its job's: import path, logging, set-up hook. Comes before an
        actor's arguments are unpickled; ``load_function`` does the same for a task."""

    def load_function(self, blob: bytes) -> Callable[..., Any]:
        """The function of a task, from ``TaskTemplate.function``. The caller then runs ``fn(*args,
        **kwargs)``."""

    def capture_child_tasks(self) -> None:
        """What is about to run keeps its children in its placement group. Called once for each
        function or actor of that kind."""

    def create_actor(
        self, class_blob: bytes, args: tuple[Any, ...], kwargs: dict[str, Any], info: ActorCreation
    ) -> tuple[Any, bool, dict[str, int]]:
        """Makes the instance: ``(instance, is_asyncio, groups)``.

        ``groups`` has the number of calls that may run at once, by concurrency group; "" is the
        default group and always there. A call that names an unknown group fails (ValueError), it
        does not end the process. Who runs the calls:

        * ``is_asyncio``: ``serve`` returns "asyncio" and this thread runs an event loop.
          ``take_calls`` gives out at most as many unfinished calls of a group as ``groups`` allows.
          A call that is cancelled while it runs is given once more, as the same ``Call`` object,
          with ``cancelled`` set. ``take_calls`` returns None when the worker is to exit.
        * ``groups == {"": 1}``: the thread that is in ``serve``.
        * else: threads that this method has started, ``sum(groups.values())`` of them. Each is in
          ``Core.serve_thread`` (maybe before this method returns: it waits there for calls) and
          runs calls of any group, within the limits. The thread in ``serve`` then runs no calls,
          but returns when the actor ends.
        """

    def get_method(self, instance: Any, name: str) -> Callable[..., Any]:
        """The bound method for an actor call, from the method's name (``TaskTemplate.function``).

        Also answers the names every actor has: ``__ray_ready__``, ``__ray_call__`` and
        ``__ray_terminate__`` (which calls ``Core.exit_actor``). A SystemExit that leaves a method
        ends the actor as an intended exit, as ``Core.exit_actor`` does; the call itself then fails
        with ACTOR_DIED and that reason.
        """
