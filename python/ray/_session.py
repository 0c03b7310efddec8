"""Sessions: ``ray.init`` and ``ray.shutdown``.

Source: https://docs.ray.io/en/latest/ray-core/api/doc/ray.init.html, conformance
    core/test_core_lifecycle.py,
actors/test_namespaces.py.
"""

from __future__ import annotations

import atexit
import logging
import os
import sys
import warnings
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from ray import _raylet
from ray._job_record import JobRecord
from ray._operations import check_namespace
from ray._runtime import RUNTIME
from ray._stderr_handler import StderrHandler
from ray._version import RAY_VERSION
from ray.job_config import JobConfig

if TYPE_CHECKING:
    from ray._log_printer import LogPrinter
    from ray._logging_config import LoggingConfig
    from ray._node import Node, NodeOptions, TlsFiles
    from ray._node_records import NodeRecord

_OBJECT_STORE_MEMORY_MIN = 75 * 1024 * 1024

# Lines that workers have printed reach the driver before it leaves, unless that takes longer.
_FLUSH_TIMEOUT_S = 1.0

_LOG_FORMAT = "%(asctime)s\t%(levelname)s %(filename)s:%(lineno)s -- %(message)s"

_logger = logging.getLogger("ray")


class RayContext(Mapping[str, Any]):
    """What ``ray.init`` returns: the addresses of the session. Usable in ``with``, which then ends
    the session.

    Attributes:
        address_info: address, gcs_address, node_id (hex), node_ip_address, session_dir,
            raylet_socket_name, object_store_address, webui_url.
        dashboard_url: address of the dashboard; "" without one.
        python_version: of this process.
        ray_version: the version of Ray whose interface this is.
    """

    def __init__(self, address_info: dict[str, Any]) -> None:
        self.address_info = address_info
        self.dashboard_url: str = address_info["webui_url"]
        self.python_version = "{}.{}.{}".format(*sys.version_info)
        self.ray_version = RAY_VERSION

    def __getitem__(self, key: str) -> Any:
        warnings.warn(
            f'context["{key}"] is deprecated; use context.address_info["{key}"].',
            DeprecationWarning,
            stacklevel=2,
        )
        return self.address_info[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self.address_info)

    def __len__(self) -> int:
        return len(self.address_info)

    def __enter__(self) -> RayContext:
        return self

    def __exit__(self, *exception: object) -> None:
        self.disconnect()

    def disconnect(self) -> None:
        """Ends the session, as ``ray.shutdown``."""
        shutdown()

    def __repr__(self) -> str:
        return (
            f"RayContext(dashboard_url={self.dashboard_url!r},"
            f" python_version={self.python_version!r}, ray_version={self.ray_version!r})"
        )


class Session:
    """What a driver has to end: its threads, and its node if it has started one. Threads: the
    caller holds RUNTIME.lock."""

    def __init__(
        self,
        core: _raylet.Core,
        gcs_address: str,
        node: Node | None,
        log_to_driver: bool,
        structured_logs: bool,
    ) -> None:
        self.context = RayContext(_address_info(core, gcs_address))
        self._node = node
        self._core = core
        self._printer: LogPrinter | None = None
        if log_to_driver:
            from ray._log_printer import LogPrinter

            self._printer = LogPrinter(core, core.node_ip, structured_logs)

    def end(self) -> None:
        """Blocks until no process, socket or thread of the session is left. A cluster that was
        joined goes on. Ctrl-C spares the wait for what workers have printed, and nothing else."""
        try:
            if self._printer is not None:
                self._core.flush_logs(_FLUSH_TIMEOUT_S)
        finally:
            self._core.shutdown()
            if self._printer is not None:
                self._printer.join()
            if self._node is not None:
                self._node.stop()


def init(
    address: str | None = None,
    *,
    num_cpus: float | None = None,
    num_gpus: float | None = None,
    resources: dict[str, float] | None = None,
    labels: dict[str, str] | None = None,
    object_store_memory: int | None = None,
    local_mode: bool = False,
    ignore_reinit_error: bool = False,
    include_dashboard: bool | None = None,
    dashboard_host: str = "127.0.0.1",
    dashboard_port: int | None = None,
    job_config: JobConfig | None = None,
    runtime_env: dict[str, Any] | None = None,
    configure_logging: bool = True,
    logging_level: int | str = "info",
    logging_format: str | None = None,
    logging_config: LoggingConfig | None = None,
    log_to_driver: bool | None = None,
    namespace: str | None = None,
    enable_resource_isolation: bool = False,
    cgroup_path: str | None = None,
    system_reserved_cpu: float | None = None,
    system_reserved_memory: int | None = None,
    proxy_server_url: str | None = None,
    **kwargs: Any,
) -> RayContext:
    """Makes this process a driver: of the cluster that runs on this machine, or of a new local one.

    A new one is a node of its own, ready in well under a second, that only this machine can reach.
    It ends with the session: with ``ray.shutdown``, at the exit of the process, or with its death.
    A cluster that was joined goes on without the driver, and so do its detached actors.

    >>> import ray
    >>> context = ray.init(num_cpus=2, ignore_reinit_error=True)
    >>> len(context.address_info["node_id"])
    56

    Args:
        address: "local": a new cluster. "auto": the latest one that runs on this machine, made by
            ``ray start`` or by another program. HOST:PORT: the cluster whose head listens there; a
            node of it must run on this machine. None: what the environment variable RAY_ADDRESS
            says, else the cluster that ``ray start`` has made on this machine, else a new one.
        num_cpus: CPUs the node offers; the machine's by default.
        num_gpus: GPUs the node offers; by default those found.
        resources: further resources the node offers, by name.
        labels: labels of the node, by key: up to 63 letters, digits, "-", "_" and "." each; a key
            may have a domain and a slash in front.
        object_store_memory: size of the object store in bytes, at least 75 MiB; a share of the
            memory by default.
        local_mode: accepted, with a warning: tasks and actors run in processes of their own
            nevertheless.
        ignore_reinit_error: return the session that exists, if there is one, instead of raising.
        include_dashboard: accepted; there is no dashboard.
        dashboard_host: accepted, as include_dashboard.
        dashboard_port: accepted, as include_dashboard.
        job_config: what all processes of the job follow: import path, default lifetime of actors,
            logging, and what ``namespace`` is if it is not given here.
        runtime_env: the runtime environment of the job's workers: a dict or RuntimeEnv. Its fields
            replace those that ``job_config`` has.
        configure_logging: whether to set up the logger "ray": its level, and a handler if it has
            none.
        logging_level: level of that logger.
        logging_format: format of that handler.
        logging_config: structured logging in this process and in the job's workers, instead of the
            three arguments above.
        log_to_driver: whether what workers print is printed here; the default.
        namespace: namespace of named actors; one of its own by default.
        enable_resource_isolation: must be False: control groups are not supported.
        cgroup_path: as enable_resource_isolation: must be None.
        system_reserved_cpu: as cgroup_path.
        system_reserved_memory: as cgroup_path.
        proxy_server_url: accepted, as include_dashboard.
        **kwargs: ``_system_config`` (flags of the runtime, by name), ``_temp_dir`` (where the
            session's folder is made, or that of the cluster to join lies), ``_memory`` (bytes for
            tasks and actors to demand), ``object_spilling_directory`` (the folder for objects that
            memory has no room for).

    Returns:
        The session's addresses.

    Raises:
        RuntimeError: there is a session already, an unknown keyword, or called in a forked process.
        ConnectionError: no node of the cluster at ``address`` runs on this machine.
        ValueError: a value out of range, or one of what a new node offers (num_cpus to
            object_store_memory) for a cluster that runs already.
        TypeError: a value of a wrong type.
        RaySystemError: the node could not be started; the message has the end of its logs.

    Source: https://docs.ray.io/en/latest/ray-core/api/doc/ray.init.html, conformance
        core/test_core_lifecycle.py.
    """
    known = {"_system_config", "_temp_dir", "_memory", "object_spilling_directory"}
    unknown = sorted(set(kwargs) - known)
    if unknown:
        raise RuntimeError(f"Unknown keyword argument(s): {', '.join(unknown)}")
    _check_job_arguments(job_config, logging_config)
    _refuse_isolation(
        enable_resource_isolation=enable_resource_isolation,
        cgroup_path=cgroup_path,
        system_reserved_cpu=system_reserved_cpu,
        system_reserved_memory=system_reserved_memory,
    )
    if local_mode:
        warnings.warn(
            "local_mode is ignored: tasks and actors run in processes of their own. Call the plain"
            " functions to debug them in this process.",
            DeprecationWarning,
            stacklevel=2,
        )
    job_config = job_config or JobConfig()
    job_config.ensure_logging_config(logging_config)
    environment = _job_environment(job_config, runtime_env)
    if job_config.py_logging_config is not None:
        job_config.py_logging_config.apply()
    elif configure_logging:
        _configure_logging(logging_level, logging_format)
    with RUNTIME.lock:
        RUNTIME.refuse_after_fork()
        if RUNTIME.core is not None:
            return _running_context(ignore_reinit_error)
        if namespace is None:
            namespace = job_config.ray_namespace
        check_namespace(namespace)
        node = _existing_node(
            address,
            kwargs.get("_temp_dir"),
            {
                "num_cpus": num_cpus,
                "num_gpus": num_gpus,
                "resources": resources,
                "labels": labels,
                "object_store_memory": object_store_memory,
                "_system_config": kwargs.get("_system_config"),
            },
        ) or _new_node(
            num_cpus=num_cpus,
            num_gpus=num_gpus,
            memory=kwargs.get("_memory"),
            object_store_memory=object_store_memory,
            resources=resources,
            labels=labels,
            config=kwargs.get("_system_config"),
            temp_folder=kwargs.get("_temp_dir"),
            spilling_directory=kwargs.get("object_spilling_directory"),
        )
        return _enter(node, namespace or "", log_to_driver is not False, job_config, environment)


def _existing_node(
    address: str | None, temp_folder: str | None, arguments: dict[str, Any]
) -> NodeRecord | None:
    """The running node to connect to, if there is one; such a node cannot be told what it offers.

    Raises:
        ConnectionError: no node of the cluster at this address runs on this machine.
        ValueError: one of the arguments, which are for a new node, is given.
    """
    from ray._joining import node_for_driver  # Workers never need it, nor what follows.

    record = node_for_driver(address, temp_folder)
    given = [name for name, value in arguments.items() if value is not None]
    if record is not None and given:
        # These two are named together.
        names = "num_cpus and num_gpus" if given[0] in ("num_cpus", "num_gpus") else given[0]
        raise ValueError(
            f"When connecting to an existing cluster, {names} must not be provided. Leave"
            f" {'them' if ' ' in names else 'it'} out to use the cluster at {record.gcs_address},"
            " or pass address='local' to start a new one."
        )
    return record


def _new_node(**offer: Any) -> Node:
    from ray._node import NewCluster, Node
    from ray._node_records import RAY_INIT

    # Workers of a program without numpy rarely need it, and it is a third of what a zygote holds.
    preload = ("numpy",) if "numpy" in sys.modules else ()
    options = node_options(**offer)._replace(preload=preload)
    return Node(options, NewCluster(), started_by=RAY_INIT)


def _enter(
    node: Node | NodeRecord,
    namespace: str,
    log_to_driver: bool,
    job_config: JobConfig,
    environment: Mapping[str, Any],
) -> RayContext:
    """Makes this process a driver at the node."""
    from ray._node import Node

    own_node = node if isinstance(node, Node) else None
    try:
        core = _raylet.Core.connect_driver(
            node.raylet_endpoint,
            namespace=namespace,
            entrypoint=" ".join(sys.argv),
            log_to_driver=log_to_driver,
            log_file=f"{node.session_dir}/logs/driver-{os.getpid()}.log",
        )
    except BaseException:
        if own_node is not None:
            own_node.stop()
        raise
    _raylet.set_current_core(core)
    is_structured = job_config.py_logging_config is not None
    session = Session(core, node.gcs_address, own_node, log_to_driver, is_structured)
    RUNTIME.attach(core, session)
    atexit.unregister(shutdown)  # At most once, and before what the program registers from now on.
    atexit.register(shutdown)
    RUNTIME.job = JobRecord.of_driver(job_config)
    RUNTIME.job.publish(core)
    try:
        for run in RUNTIME.at_session_start:
            run()
        if environment:
            from ray._runtime_env.eager import set_up_on_nodes
            from ray._runtime_env.resolution import resolve

            RUNTIME.enter_environment(resolve(environment).text, [])
            set_up_on_nodes()
    except BaseException:
        shutdown()
        raise
    if own_node is None:
        _logger.info("Connected to the Ray cluster at %s.", node.gcs_address)
    else:
        _logger.info("Started a local Ray instance.")
    return session.context


def shutdown(*, wait_for_processes: bool = False, _exiting_interpreter: bool = False) -> None:
    """Ends the session, if there is one: its actors, workers and daemons. References become
    invalid.

    Blocks until all of it is gone. Does nothing without a session, and in workers.

    >>> import ray
    >>> ray.shutdown()
    >>> ray.is_initialized()
    False

    Args:
        wait_for_processes: accepted; the processes are always waited for.

    Source: https://docs.ray.io/en/latest/ray-core/api/doc/ray.shutdown.html, conformance
        core/test_core_lifecycle.py.
    """
    with RUNTIME.lock:
        if RUNTIME.session is None:
            return
        _, session = RUNTIME.detach()
        assert session is not None
        try:
            session.end()
        finally:
            _raylet.set_current_core(None)


def is_initialized() -> bool:
    """Whether this process is in a session. Does not block.

    >>> import ray
    >>> with ray.init(num_cpus=1, ignore_reinit_error=True):
    ...     ray.is_initialized()
    True

    Source: https://docs.ray.io/en/latest/ray-core/api/doc/ray.is_initialized.html.
    """
    return RUNTIME.core is not None


def _running_context(ignore_reinit_error: bool) -> RayContext:
    if not ignore_reinit_error:
        raise RuntimeError(
            "Maybe you called ray.init twice by accident? There is a session already. Pass"
            " 'ignore_reinit_error=True' to use it, or end it with 'ray.shutdown()' first."
        )
    _logger.info("Calling ray.init() again after it has already been called.")
    if RUNTIME.session is not None:
        return RUNTIME.session.context
    assert RUNTIME.core is not None
    from ray.runtime_context import RuntimeContext

    address = RuntimeContext(RUNTIME.core).gcs_address
    return RayContext(_address_info(RUNTIME.core, address))


def _address_info(core: _raylet.Core, gcs_address: str) -> dict[str, Any]:
    return {
        "node_ip_address": core.node_ip,
        "redis_address": None,
        "object_store_address": f"{core.session_dir}/sockets/raylet",
        "raylet_socket_name": f"{core.session_dir}/sockets/raylet",
        "webui_url": "",
        "session_dir": core.session_dir,
        "gcs_address": gcs_address,
        "address": gcs_address,
        "node_id": core.node_id.hex(),
    }


def _check_job_arguments(
    job_config: JobConfig | None, logging_config: LoggingConfig | None
) -> None:
    if job_config is not None and not isinstance(job_config, JobConfig):
        raise TypeError(
            "job_config must be a ray.job_config.JobConfig, not"
            f" {type(job_config).__name__}. JobConfig.from_json makes one of a dict."
        )
    if logging_config is None:
        return
    from ray._logging_config import LoggingConfig

    if not isinstance(logging_config, LoggingConfig):
        raise TypeError(
            f"logging_config must be a ray.LoggingConfig, not {type(logging_config).__name__}."
            " LoggingConfig.from_dict makes one of a dict."
        )


def _job_environment(
    job_config: JobConfig, runtime_env: Mapping[str, Any] | None
) -> Mapping[str, Any]:
    """What the user asked for, checked before anything is started."""
    wishes = [wish for wish in (job_config.runtime_env, runtime_env) if wish is not None]
    if not wishes:
        return {}
    from ray._runtime_env.resolution import check, merge

    environment: dict[str, Any] = {}
    for wish in wishes:
        if not isinstance(wish, dict):
            raise TypeError(
                f"runtime_env must be a dict or a RuntimeEnv, not {type(wish).__name__}."
            )
        check(wish)
        environment = merge(environment, wish)
    return environment


def _refuse_isolation(**arguments: Any) -> None:
    given = sorted(name for name, value in arguments.items() if value not in (None, False))
    if given:
        raise ValueError(
            f"Isolation by control groups is not supported. Leave out {', '.join(given)}; run the"
            " program in a container to limit what the whole node may use."
        )


def _configure_logging(level: int | str, format_: str | None) -> None:
    _logger.setLevel(level.upper() if isinstance(level, str) else level)
    if not _logger.handlers:
        handler = StderrHandler()
        handler.setFormatter(logging.Formatter(format_ or _LOG_FORMAT))
        _logger.addHandler(handler)
        _logger.propagate = False


def node_options(
    *,
    num_cpus: float | None = None,
    num_gpus: float | None = None,
    memory: float | None = None,
    object_store_memory: int | None = None,
    resources: dict[str, float] | None = None,
    labels: dict[str, str] | None = None,
    config: dict[str, Any] | None = None,
    temp_folder: str | None = None,
    node_ip: str | None = None,
    port: int = 0,
    env_vars: dict[str, str] | None = None,
    spilling_directory: str | None = None,
    tls: TlsFiles | None = None,
) -> NodeOptions:
    """What a node offers, checked and with defaults; the arguments are those of ``init``, and where
    the raylet listens for other nodes (loopback by default).

    Raises:
        ValueError: a value out of range.
        TypeError: a value of a wrong type.
    """
    from ray._labels import check_node_labels
    from ray._node import LOOPBACK, NodeOptions
    from ray._session_folder import default_temp_folder
    from ray._spilling import with_spilling

    return NodeOptions(
        num_cpus=_quantity("num_cpus", num_cpus, os.cpu_count() or 1),
        num_gpus=_quantity("num_gpus", num_gpus, None),
        memory=_quantity("_memory", memory, None),
        object_store_memory=_store_size(object_store_memory),
        resources=_resources(resources),
        labels=check_node_labels(labels),
        config=with_spilling(config or {}, spilling_directory),
        # One name for a folder: records of nodes are compared by it.
        temp_folder=os.path.realpath(temp_folder or default_temp_folder()),
        node_ip=node_ip or LOOPBACK,
        port=port,
        env_vars=env_vars or {},
        tls=tls,
    )


def _quantity(name: str, value: float | None, default: Any) -> Any:
    if value is None:
        return default
    if not isinstance(value, (int, float)):
        raise TypeError(f"{name} must be a number, not {type(value).__name__}.")
    if value < 0:
        raise ValueError(f"{name} must not be negative, but is {value}.")
    return value


def _store_size(size: int | None) -> int | None:
    size = _quantity("object_store_memory", size, None)
    if size is not None and size < _OBJECT_STORE_MEMORY_MIN:
        raise ValueError(
            f"object_store_memory must be at least {_OBJECT_STORE_MEMORY_MIN} bytes (75 MiB), but"
            f" is {size}."
        )
    return None if size is None else int(size)


def _resources(resources: dict[str, float] | None) -> dict[str, float]:
    for name, quantity in (resources or {}).items():
        if name in ("CPU", "GPU", "memory", "object_store_memory"):
            raise ValueError(
                f"resources must not name {name}: ray.init has a keyword for it (num_cpus,"
                " num_gpus, _memory, object_store_memory)."
            )
        _quantity(f"resources[{name!r}]", quantity, None)
    return resources or {}
