"""What a whole job is configured with, for ``ray.init(job_config=...)``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ray._logging_config import LoggingConfig
    from ray.runtime_env import RuntimeEnv

__all__ = ["JobConfig", "LoggingConfig"]

_LIFETIMES = ("detached", "non_detached")


class JobConfig:
    """The configuration of a job; every process of the job follows it.

    To be passed to ``ray.init``.

    >>> from ray.job_config import JobConfig
    >>> config = JobConfig(ray_namespace="shop", metadata={"team": "search"})
    >>> config.ray_namespace
    'shop'

    Args:
        jvm_options: options of Java workers; kept, but there are none.
        code_search_path: folders that workers find modules in, before the driver's ``sys.path``.
        runtime_env: the environment of the job's workers, unless ``ray.init`` is given one.
        metadata: facts about the job, strings by name.
        ray_namespace: namespace of the job's named actors, unless ``ray.init`` is given one.
        default_actor_lifetime: "detached" or "non_detached": the lifetime of actors that do not say
            theirs.
        _client_job: accepted.
        _disable_job_level_lineage_reconstruction: accepted.
        _py_driver_sys_path: further folders for ``sys.path`` of workers, before the driver's own.

    Attributes:
        py_logging_config: how the job's processes log; None: as Python does by default.

    Raises:
        TypeError: ``code_search_path`` is not a list or tuple, or ``metadata`` not a mapping of
            strings.
        ValueError: an unknown lifetime.

    Source: https://docs.ray.io/en/latest/ray-core/api/doc/ray.job_config.JobConfig.html.
    """

    def __init__(
        self,
        jvm_options: list[str] | None = None,
        code_search_path: list[str] | None = None,
        runtime_env: RuntimeEnv | dict[str, Any] | None = None,
        _client_job: bool = False,
        metadata: dict[str, str] | None = None,
        ray_namespace: str | None = None,
        default_actor_lifetime: str = "non_detached",
        _disable_job_level_lineage_reconstruction: bool = False,
        _py_driver_sys_path: list[str] | None = None,
    ) -> None:
        self.jvm_options = jvm_options or []
        self.code_search_path = code_search_path or []
        if not isinstance(self.code_search_path, (list, tuple)):
            raise TypeError(
                f"The type of code search path is incorrect: {type(code_search_path)}. Pass a list"
                " of folders."
            )
        self.metadata: dict[str, str] = {}
        for key, value in (metadata or {}).items():
            self.set_metadata(key, value)
        self.set_ray_namespace(ray_namespace)
        self.set_runtime_env(runtime_env)
        self.set_default_actor_lifetime(default_actor_lifetime)
        self.py_logging_config: LoggingConfig | None = None
        self._client_job = _client_job
        self._disable_job_level_lineage_reconstruction = _disable_job_level_lineage_reconstruction
        self._py_driver_sys_path = _py_driver_sys_path or []

    def set_metadata(self, key: str, value: str) -> None:
        """Adds a fact about the job.

        Args:
            key: its name.
            value: the fact.

        Raises:
            TypeError: not strings.
        """
        if not isinstance(key, str) or not isinstance(value, str):
            raise TypeError(f"The metadata of a job must be strings, not {key!r}: {value!r}.")
        self.metadata[key] = value

    def set_ray_namespace(self, ray_namespace: str | None) -> None:
        """Sets the namespace of the job's named actors; None: one of its own.

        Raises:
            TypeError: not a string.
        """
        if ray_namespace is not None and not isinstance(ray_namespace, str):
            raise TypeError(f"A namespace must be a string, not {type(ray_namespace).__name__}.")
        self.ray_namespace = ray_namespace

    def set_runtime_env(
        self, runtime_env: RuntimeEnv | dict[str, Any] | None, validate: bool = False
    ) -> None:
        """Sets the environment of the job's workers.

        Args:
            runtime_env: the environment; None: the default one.
            validate: check it now instead of in ``ray.init``.

        Raises:
            TypeError: a field of a wrong type, with ``validate``.
            ValueError: a bad value, with ``validate``.
        """
        self.runtime_env: RuntimeEnv | dict[str, Any] = runtime_env or {}
        if validate:
            from ray.runtime_env import RuntimeEnv

            self.runtime_env = RuntimeEnv(**self.runtime_env)

    def set_default_actor_lifetime(self, default_actor_lifetime: str) -> None:
        """Sets the lifetime of actors that do not say theirs.

        Raises:
            ValueError: neither "detached" nor "non_detached".
        """
        if default_actor_lifetime not in _LIFETIMES:
            raise ValueError(
                "Default actor lifetime must be one of `detached`, `non_detached`, not"
                f" {default_actor_lifetime!r}."
            )
        self._default_actor_lifetime = default_actor_lifetime

    def set_py_logging_config(self, logging_config: LoggingConfig | None = None) -> None:
        """Sets how the job's processes log; ``logging_config`` of None: as Python does by
        default."""
        self.py_logging_config = logging_config

    def ensure_logging_config(self, logging_config: LoggingConfig | None = None) -> None:
        """Sets how the job's processes log to ``logging_config``, unless that is set already."""
        if self.py_logging_config is None:
            self.py_logging_config = logging_config

    @classmethod
    def from_json(cls, job_config_json: Mapping[str, Any]) -> JobConfig:
        """A configuration from a JSON object.

        >>> JobConfig.from_json({"ray_namespace": "shop"}).ray_namespace
        'shop'

        Args:
            job_config_json: the object, parsed: arguments of the constructor by name. Other keys
                are ignored.

        Raises:
            TypeError, ValueError: as the constructor.
        """
        given = {name: job_config_json[name] for name in _JSON_FIELDS if name in job_config_json}
        return cls(**given)


_JSON_FIELDS = (
    "jvm_options",
    "code_search_path",
    "runtime_env",
    "metadata",
    "ray_namespace",
    "_client_job",
    "_py_driver_sys_path",
)


def __getattr__(name: str) -> Any:
    if name == "LoggingConfig":  # Few programs need it, and what it loads.
        from ray._logging_config import LoggingConfig

        return LoggingConfig
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
