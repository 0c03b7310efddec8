"""Types of the native module. Only conversions and the GIL live behind it; see cpp/ray/bindings."""

import asyncio
import concurrent.futures
from collections.abc import Callable, Generator, Sequence
from contextvars import ContextVar
from typing import Any, Generic, TypeVar, final

from ray._ids import JobID, TaskID

T = TypeVar("T")

# Where a task or actor may run, all parts optional: "spread" (bool), "node" (id, and whether soft,
# to spill and to fail where there is no room), "bundle" (group id, index or -1, whether it captures
# children), "required_labels" and "preferred_labels" (conditions), "fallback_labels" (lists of
# conditions). A condition is (key, kind, values); the kinds are "in", "not_in", "exists",
# "does_not_exist".
Strategy = dict[str, Any]

PROTOCOL_VERSION: int
NODE_BINARY_NAMES: tuple[str, ...]

@final
class ObjectRef(Generic[T]):
    """A reference to an object that exists or will exist. Prints as ``ObjectRef(<56 hex
    digits>)``; compares and hashes by the object. Made by ``.remote()`` and ``ray.put``; examples
    are in ``ray.types``.

    Threads: any.   Source: https://docs.ray.io/en/latest/ray-core/objects.html, conformance
    core/test_core_objects.py.
    """

    def __init__(self, binary: bytes) -> None:
        """``binary`` is 28 bytes. A reference made of bytes keeps nothing alive. Raises ValueError
        for another number of bytes."""
    @classmethod
    def from_binary(cls, id_bytes: bytes) -> ObjectRef[Any]:
        """As the constructor."""
    @classmethod
    def from_hex(cls, hex_id: str) -> ObjectRef[Any]:
        """The inverse of ``hex``. Raises ValueError for other text."""
    @classmethod
    def from_random(cls) -> ObjectRef[Any]:
        """A reference to no object, as good as unique."""
    @classmethod
    def nil(cls) -> ObjectRef[Any]:
        """The reference to nothing."""
    @classmethod
    def size(cls) -> int:
        """Bytes of an id: 28."""
    def binary(self) -> bytes:
        """The object's id: the task's, then the number of the return value."""
    def hex(self) -> str:
        """The object's id, two hex digits a byte."""
    def is_nil(self) -> bool:
        """Whether this refers to nothing."""
    def redis_shard_hash(self) -> int:
        """A number that is the same for equal references, in every process."""
    def task_id(self) -> TaskID:
        """Id of the task that makes the object; of no task for what was put."""
    def job_id(self) -> JobID:
        """Id of the job that the object belongs to."""
    def __await__(self) -> Generator[Any, None, T]:
        """``await ref``: the value, or its error raised, in the running event loop."""
    def as_future(self) -> asyncio.Future[T]:
        """Of the running event loop."""
    def future(self) -> concurrent.futures.Future[T]:
        """Of any thread."""
    def tensor_transport(self) -> str | None:
        """The name of the transport that brings the tensors inside the object
        (``ray.experimental.rdt``); None: they travel with it, or nobody has told this process and
        the object is not ready."""
    def owner_address(self) -> bytes:
        """The serialized wire.v1.Address of the owner; empty for a ref made from bytes alone."""

class SystemError(Exception):
    """Raised by the native side for a failed operation: ``code`` is the absl status name
    ("NOT_FOUND", ...), ``message`` says what happened. Python turns it into the public exception
    where there is one."""

    code: str
    message: str

class TaskTemplate:
    """The constant part of the calls of one remote function or actor method with one set of
    options. Valid in every session (the function itself is pickled again in a new session by its
    owner, who makes a new template)."""

    def __init__(
        self,
        *,
        name: str,  # shown in errors: function name or "Class.method"
        function: bytes,  # a task: the pickled function; an actor call: the method's name in UTF-8
        num_returns: int,  # 0, 1, n; -1 = streaming, -2 = dynamic
        resources: dict[str, float],  # held while it runs; empty for an actor call
        max_retries: int,  # -1 = without limit. Actor call: max_task_retries
        retry_exceptions: bool,
        exception_types: bytes = b"",  # pickled tuple; b"" = all (if retry_exceptions)
        concurrency_group: str = "",
        # references inside the pickled function, kept while it lives
        contained_refs: Sequence[ObjectRef[Any]] = (),
        stream_backpressure: int = 0,
        runtime_env_hash: bytes = b"",
        runtime_env: str = "",  # what the hash is of
        max_calls: int = 0,  # a worker ends after so many calls; 0 = never
        strategy: Strategy = ...,
        objects_per_yield: int = 0,  # a yield is so many items; 0 = it is one
    ) -> None: ...

class ObjectStream:
    """The reader of a generator task's items; see cpp/ray/core/stream_table.h. Ends with the
    object."""

    def next(self, timeout: float | None) -> ObjectRef[Any] | None:
        """Blocks until the next item has come, and goes on to the one after. None after ``timeout``
        seconds; StopIteration at the end."""
    def peek(self) -> ObjectRef[Any]:
        """The next item's reference, whether it has come or not. Becomes ready at the end, too."""
    def advance(self, peeked: ObjectRef[Any]) -> str:
        """Goes on after ``peeked``: "item", "end", or "not yet" if it has not come or was taken."""
    def completed(self) -> ObjectRef[None]: ...
    def task_id(self) -> bytes: ...

class ReadyQueue:
    """Completions for an event loop: ``fileno()`` becomes readable when tokens wait."""

    def __init__(self) -> None: ...
    def fileno(self) -> int: ...
    def drain(self) -> list[int]: ...
    def wait(self) -> list[int]:
        """Blocks (without the GIL) until there are tokens; an empty list means the queue was
        closed."""
    def close(self) -> None: ...

class ActorClient:
    """This process's way to one actor: ordered calls, resends after a restart."""

    actor_id: bytes
    def submit(
        self, template: TaskTemplate, args: tuple[Any, ...], kwargs: dict[str, Any] | None
    ) -> Any:
        """As Core.submit_task. Raises ray.exceptions.PendingCallsLimitExceeded over the limit."""
    def state(self) -> str:
        """ "PENDING_CREATION", "ALIVE", "RESTARTING" or "DEAD" as last heard."""

class Call:
    """A call that an event loop runs: taken from Core.take_calls, ended by exactly one of reply and
    fail."""

    method: Callable[..., Any]  # bound method (or function)
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    name: str
    task_id: bytes
    cancelled: bool
    is_stream: bool  # ended by end_stream or fail
    def reply(self, value: Any) -> None: ...
    def send_item(self, item: Any) -> None: ...
    def has_room(self) -> bool:
        """Whether the reader has read enough for another item. take_calls is due whenever that may
        have changed."""
    def end_stream(self) -> None: ...
    def fail(self, error: BaseException) -> None: ...

class Core:
    """The core worker of this process: one a session. Thread-safe. Methods that can block release
    the GIL and answer Ctrl-C at once (KeyboardInterrupt)."""

    # -- identity
    node_id: bytes
    worker_id: bytes
    job_id: bytes
    node_ip: str
    session_dir: str
    gcs_address: str
    namespace: str
    is_driver: bool
    config: dict[str, str]

    @staticmethod
    def connect_driver(
        raylet_endpoint: str,  # "unix:PATH"
        *,
        namespace: str,
        entrypoint: str,
        log_to_driver: bool,
        log_file: str,
    ) -> Core: ...
    @staticmethod
    def connect_worker(
        raylet_endpoint: str, *, startup_token: int, listen_host: str, log_file: str
    ) -> Core: ...
    @staticmethod
    def connect_setup(raylet_endpoint: str, *, startup_token: int, log_file: str) -> Core:
        """For a forked process that sets its runtime environment up before it becomes a worker:
        only kv_get and report_environment_error are of use. Shut it down before connect_worker."""
    @staticmethod
    def connect_tool(raylet_endpoint: str) -> Core:
        """For a process without a job: only cluster_state, drain_node and the kv calls are of
        use."""
    def report_environment_error(self, message: str) -> None:
        """Whoever waits for a worker with this environment gets RuntimeEnvSetupError with this
        message. The process should end then."""
    def shutdown(self) -> None:
        """Ends the session of this process: pending gets raise, sockets close, threads join.
        Idempotent."""

    # -- objects
    def put(self, value: Any) -> ObjectRef[Any]: ...
    def get(self, refs: list[ObjectRef[Any]], timeout: float | None) -> list[Any]:
        """Values in order. Raises the first error among them; GetTimeoutError. TypeError for a
        non-ref."""
    def get_one(self, ref: ObjectRef[Any], timeout: float | None) -> Any: ...
    def wait(
        self,
        waitables: list[ObjectRef[Any]],
        num_returns: int,
        timeout: float | None,
        fetch_local: bool,
    ) -> tuple[list[ObjectRef[Any]], list[ObjectRef[Any]]]: ...
    def notify_when_ready(
        self, ref: ObjectRef[Any], queue: ReadyQueue, token: int, flush: bool
    ) -> bool:
        """True: it is ready now and no token will come. Else the token comes once it is."""
    def await_ready(self, queue: ReadyQueue) -> list[int]:
        """As ``queue.wait()``, but drives the session's loop meanwhile where no other thread does.
        Empty: the queue was closed, or the session has ended."""
    def defer(self, queue: ReadyQueue | None, wanted: int = 0, gone: int = 0) -> ObjectRef[Any]:
        """A new object whose value is made when somebody asks for it. ``queue`` gets ``wanted``
        then (again if the value was lost with its node), and ``gone``, once, when no reference is
        left anywhere. None: for who gives it its value before anybody else knows of it."""
    def fulfil(self, object_id: bytes, value: Any, is_error: bool = False) -> None:
        """Gives what ``defer`` made its value, or an exception to raise; a second one is ignored.
        Blocks while the object store is full. TypeError for what cannot be serialized."""
    def ref_counts(self) -> dict[str, tuple[int, int]]:
        """hex id -> (local references, other holds: tasks, borrowers, containing objects). For
        tests and ray memory."""

    # -- tasks
    def submit_task(
        self, template: TaskTemplate, args: tuple[Any, ...], kwargs: dict[str, Any] | None
    ) -> Any:
        """One ObjectRef for num_returns=1, a list for n > 1, None for 0, what Hooks.stream_reader
        makes of an ObjectStream for -1. TypeError for an argument
        that cannot be serialized (the message names the argument)."""
    def why_pending(self, ref: ObjectRef[Any]) -> str:
        """What the object waits for, in whole sentences; "" if it is ready."""
    def cancel(self, ref: ObjectRef[Any], force: bool, recursive: bool) -> None: ...
    def cancel_unless_started(self, ref: ObjectRef[Any]) -> None: ...

    # -- actors
    def create_actor(
        self,
        *,
        class_blob: bytes,
        class_name: str,
        args: tuple[Any, ...],
        kwargs: dict[str, Any] | None,
        name: str,
        namespace: str,
        detached: bool,
        get_if_exists: bool,
        creation_resources: dict[str, float],
        lifetime_resources: dict[str, float],
        max_restarts: int,
        max_task_retries: int,
        max_concurrency: int,
        concurrency_groups: dict[str, int],
        is_asyncio: bool,
        max_pending_calls: int,
        stream_backpressure: int,  # unread items of all its generators; 0 = no limit
        handle_blob: bytes,
        contained_refs: Sequence[ObjectRef[Any]] = (),
        runtime_env_hash: bytes = b"",
        runtime_env: str = "",
        strategy: Strategy = ...,
    ) -> tuple[ActorClient, ObjectRef[Any] | None, bytes | None]:
        """(client, the reference whose life is the handles' life, None), or with get_if_exists and
        an actor of that
        name: (client, None, handle_blob of the existing one). SystemError ALREADY_EXISTS if the
            name is taken.
        Unnamed actors return without waiting for anybody."""
    def actor_client(self, actor_id: bytes) -> ActorClient: ...
    def get_named_actor(self, name: str, namespace: str) -> tuple[bytes, bytes]:
        """(actor id, handle_blob); SystemError NOT_FOUND."""
    def list_named_actors(self, all_namespaces: bool) -> list[tuple[str, str]]:
        """(name, namespace) pairs."""
    def kill_actor(self, actor_id: bytes, no_restart: bool) -> None: ...

    # -- placement groups
    def create_placement_group(
        self,
        *,
        name: str,  # "" = unnamed: returns without waiting for anybody
        namespace: str,
        strategy: str,  # "PACK", "SPREAD", "STRICT_PACK" or "STRICT_SPREAD"
        bundles: list[dict[str, float]],
        labels: list[list[tuple[str, str, list[str]]]],  # conditions of each bundle, or []
        detached: bool,
        soft_target_node: bytes,  # b"" = none
    ) -> bytes:
        """The id. SystemError ALREADY_EXISTS if the name is taken."""
    def remove_placement_group(self, group_id: bytes) -> None:
        """What this node asks later finds it removed. Nothing happens if it is unknown."""
    def wait_placement_group(self, group_id: bytes, timeout: float | None) -> str | None:
        """Blocks until its state is "CREATED" or "REMOVED". After ``timeout`` seconds: its present
        state, or None. SystemError NOT_FOUND."""
    def placement_group_ready(self, group_id: bytes, value: T) -> ObjectRef[T]:
        """A new object: ``value`` once the group is created, an error if it is removed before."""
    def list_placement_groups(
        self, group_id: bytes = b"", name: str = "", namespace: str = ""
    ) -> list[dict[str, Any]]:
        """One dict a group: placement_group_id(bytes) name namespace strategy state bundles(list of
        dict) nodes(list of hex, "" = nowhere) detached pending_reason create_time_ms. By id, by
        name, or all. SystemError NOT_FOUND."""

    # -- cluster
    def cluster_state(self) -> dict[str, list[dict[str, Any]]]:
        """nodes: one dict a node: node_id(hex) alive draining death_reason ip hostname endpoint
        tcp_endpoint session_dir total available labels is_head pid store_used_bytes spilled_bytes
        demands; total and available are dict[str, float]; demands are dicts of resources count
        infeasible reason.
        pending_actors: actor_id(hex) class_name name state pending_reason.
        pending_groups: rows as of list_placement_groups."""
    def drain_node(self, node_id: bytes, *, reason: str, deadline_ms: int) -> None:
        """Nothing new is placed on the node, and it leaves once it is idle. deadline_ms: unix time
        after which it may be cut off; 0: none."""
    def kv_get(self, key: bytes, namespace: str) -> bytes | None: ...
    def kv_put(self, key: bytes, value: bytes, overwrite: bool, namespace: str) -> bool:
        """True if the key existed before."""
    def kv_del(self, key: bytes, by_prefix: bool, namespace: str) -> int: ...
    def kv_exists(self, key: bytes, namespace: str) -> bool: ...
    def kv_keys(self, prefix: bytes, namespace: str) -> list[bytes]: ...
    def store_stats(self) -> dict[str, Any]: ...

    # -- logs and warnings (driver)
    def next_messages(
        self, timeout: float | None = None
    ) -> list[tuple[str, int, str, str, bool, list[str]]] | None:
        """Blocks without the GIL until something is there: (kind, pid, name, ip, is_stderr, lines),
        kind "log" or "warning". An empty list after ``timeout`` seconds. None once the session has
        ended."""
    def task_events(
        self,
    ) -> tuple[list[tuple[bytes, int, bytes, bytes, str, int, int, bool, int]], int]:
        """What the workers of this node have run lately, and how many calls were dropped: (worker
        id, pid, task id, actor id or b"", name, start and end in microseconds since 1970, whether
        it failed, attempt)."""
    def flush_logs(self, timeout: float) -> None: ...

    # -- worker side
    def serve(self, callbacks: Any) -> str | None:
        """The main loop of a worker: runs tasks until told to exit. Returns "asyncio" after an
        asyncio actor was
        created: the caller then runs an event loop over await_events / take_calls. Returns
            None to exit."""
    def serve_thread(self) -> None:
        """Runs the calls of a threaded actor or concurrency group in the calling thread until the
        actor ends."""
    def watch_other_loop(self, fd: int) -> None:
        """Makes ``await_events`` wait for an event loop of Python's, too, by its descriptor."""
    def await_events(self, timeout: float | None) -> tuple[bool, bool]:
        """Blocks until ``take_calls`` has something to give, or the other loop's descriptor is
        readable, for at most ``timeout`` seconds: whether each of them is so. Looks once if the
        timeout is 0 or less."""
    def take_calls(self, limit: int) -> list[Call] | None:
        """Calls that may run now; a running call that was cancelled comes once more with
        ``cancelled`` set. None: the worker is to exit. Does not block."""
    def exit_actor(self, reason: str) -> None:
        """Marks this actor as leaving on purpose: no restart; the process ends after the current
        call."""

    # -- context of the calling thread
    def current_task(self) -> dict[str, Any]:
        """task_id(bytes) task_name actor_id(bytes) attempt resources(dict) num_restarts
        placement_group((id, whether it captures children) or None); while a call runs also
        cancelled(bool) and function (what it calls)."""

def rebuild_object_ref(binary: bytes, owner_address: bytes) -> ObjectRef[Any]:
    """What a pickled ObjectRef becomes: registers the borrow."""

def set_current_call_variable(variable: ContextVar[Any]) -> None:
    """Where an asyncio actor keeps the Call that a coroutine runs for."""

def set_current_core(core: Core | None) -> None: ...
def begin_collecting_refs() -> None:
    """ObjectRefs pickled by this thread from here on are collected (used when pickling functions
    and classes)."""

def end_collecting_refs() -> list[ObjectRef[Any]]: ...
def set_hooks(hooks: Any) -> None:
    """Python functions that the native side calls; see ray/_hooks.py for the list and their
    contracts."""
