"""The one runtime handle of this process: which session it is in, and the native core that serves
it."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn

from ray._metrics import MetricRegistry

if TYPE_CHECKING:
    from ray._job_record import JobRecord
    from ray._raylet import Core
    from ray._session import Session
    from ray._worker_callbacks import ActorCreation

# A pair of functions: object -> picklable value, and back.
CustomSerializer = tuple[Callable[[Any], Any], Callable[[Any], Any]]


class Runtime:
    """State of this process. There is one instance, RUNTIME.

    Threads: ``core`` and ``epoch`` may be read by any thread without a lock (one attribute each);
        ``attach`` and
    ``detach`` take ``lock``, which ``ray.init`` and ``ray.shutdown`` hold for their whole time.
    """

    def __init__(self) -> None:
        # Reentrant: ray.init() calls ray.shutdown() when it fails halfway.
        self.lock = threading.RLock()
        self.core: Core | None = None
        # 0 = no session; else a number that no other session of this process had. What is bound to
        # a session (a pickled function, for one) keeps the epoch it was made in and compares.
        self.epoch = 0
        # The driver's processes and threads; None in a worker, and while there is no session.
        self.session: Session | None = None
        # What the processes of this job follow. None while there is no session, and in a worker
        # that has not loaded a function yet.
        self.job: JobRecord | None = None
        # The runtime environment as text, "" for the default one: of this worker, or of the job of
        # this driver. And the folders that it puts at the front of the import path.
        self.environment = ""
        self.import_path: list[str] = []
        # Which actor this worker is; None elsewhere.
        self.actor: ActorCreation | None = None
        # Whether something that ran here keeps its children in its placement group: then each
        # submission without a strategy of its own asks for the group of who submits.
        self.captures_children = False
        self.custom_serializers: dict[type, CustomSerializer] = {}
        # What modules that only some programs load have to do in a driver, once its session has
        # begun, and before it ends.
        self.at_session_start: list[Callable[[], None]] = []
        self.at_session_end: list[Callable[[], None]] = []
        self.metrics = MetricRegistry()
        # Set in a process that was forked from one with a session: it must not touch the parent's
        # sockets. Keeps the parent's core, so that its destructor never runs here.
        self._inherited: Core | None = None
        self._epochs = 0
        os.register_at_fork(after_in_child=self._after_fork)

    def attach(self, core: Core, session: Session | None) -> None:
        """Enters a session; ``session`` is given in a driver that started the node itself."""
        with self.lock:
            self._epochs += 1
            self.session = session
            self.core = core
            self.epoch = self._epochs

    def detach(self) -> tuple[Core | None, Session | None]:
        """Leaves the session and returns what the caller has to shut down."""
        with self.lock:
            for run in self.at_session_end:
                run()
            left = self.core, self.session
            self.core, self.session, self.epoch, self.job = None, None, 0, None
            self.enter_environment("", [])
            return left

    def enter_environment(self, text: str, import_path: list[str]) -> None:
        """Says what this process runs in, and thereby what it submits by default."""
        self.environment = text
        self.import_path = import_path

    def capture_children(self) -> None:
        """From now on children may belong to a placement group; what was prepared is forgotten."""
        with self.lock:
            if self.captures_children:
                return
            self.captures_children = True
            self._epochs += 1
            self.epoch = self._epochs

    def require(self) -> Core:
        """The core of the session; starts a session first if there is none.

        Raises:
            RuntimeError: in a process that was forked from one with a session.
        """
        with self.lock:
            if self.core is None:
                self.refuse_after_fork()
                from ray._session import init

                init()
            assert self.core is not None
            return self.core

    def refuse_after_fork(self) -> None:
        """Raises RuntimeError if this process inherited a session by fork."""
        if self._inherited is not None:
            self._refuse()

    @staticmethod
    def _refuse() -> NoReturn:
        raise RuntimeError(
            "This process was forked (os.fork or multiprocessing) from a process that uses ray, and"
            " cannot use the session it inherited. Use ray only in the parent, or start the child"
            " with the 'spawn' method (multiprocessing.get_context('spawn')), or as a ray task."
        )

    def _after_fork(self) -> None:
        # The one inherited may be held by a thread that does not exist here.
        self.lock = threading.RLock()
        self.metrics = MetricRegistry()
        if self.core is not None:
            self._inherited = self.core
            self.core, self.session, self.epoch = None, None, 0


RUNTIME = Runtime()
