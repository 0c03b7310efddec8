"""The classes of runtime environments: dictionaries that check what is put into them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from ray._runtime_env.fields import (
    CONFIG_DEFAULTS,
    canonical_json,
    check_config,
    check_field,
    check_fields,
)


class RuntimeEnvConfig(dict[str, Any]):
    """How an environment is set up. The ``config`` field of a RuntimeEnv.

    Args:
        setup_timeout_seconds: how long setting up an environment may take in a worker; -1 is
            without limit.
        eager_install: whether the environment of a job is set up on the nodes of the cluster as
            soon as the job starts. Those of tasks and actors are set up when they first need it.
        log_files: kept, and without effect, as in Ray. What installers print is in the session's
            logs, in ``runtime_env_setup-*.log``.

    Raises:
        TypeError: a value of a wrong type.
        ValueError: a timeout that is neither positive nor -1.

    >>> from ray.runtime_env import RuntimeEnvConfig
    >>> RuntimeEnvConfig(setup_timeout_seconds=60)["setup_timeout_seconds"]
    60

    Source: https://docs.ray.io/en/latest/ray-core/api/doc/ray.runtime_env.RuntimeEnvConfig.html.
    """

    known_fields: ClassVar[set[str]] = set(CONFIG_DEFAULTS)

    def __init__(
        self,
        setup_timeout_seconds: int = 600,
        eager_install: bool = True,
        log_files: list[str] | None = None,
    ) -> None:
        super().__init__(
            check_config(
                {
                    "setup_timeout_seconds": setup_timeout_seconds,
                    "eager_install": eager_install,
                    "log_files": log_files,
                }
            )
        )

    @staticmethod
    def parse_and_validate_runtime_env_config(
        config: dict[str, Any] | RuntimeEnvConfig,
    ) -> RuntimeEnvConfig:
        """A config as this class, from a dict or one of this class.

        Raises:
            TypeError: neither of these, or a field of a wrong type.
            ValueError: a field out of range.

        >>> RuntimeEnvConfig.parse_and_validate_runtime_env_config({"eager_install": False})
        {'setup_timeout_seconds': 600, 'eager_install': False, 'log_files': []}
        """
        checked = check_field("config", config)
        return config if isinstance(config, RuntimeEnvConfig) else RuntimeEnvConfig(**checked)

    @classmethod
    def default_config(cls) -> RuntimeEnvConfig:
        """A config with the default of every field.

        >>> RuntimeEnvConfig.default_config()["eager_install"]
        True
        """
        return cls()

    def to_dict(self) -> dict[str, Any]:
        """The fields as a plain dict.

        >>> RuntimeEnvConfig().to_dict()["log_files"]
        []
        """
        return dict(self)


class RuntimeEnv(dict[str, Any]):
    """A runtime environment: what a job, task or actor finds around it. Usable wherever a dict is.

    Args:
        py_modules: packages to import: folders, modules, wheels, archives or their URIs.
        py_executable: the command of the Python that runs workers, instead of this one.
        working_dir: a folder, archive or URI: a copy is the workers' current folder, on their
            import path.
        pip: packages to install with pip: a list of requirements, a requirements file, or a dict of
            ``packages``, ``pip_check``, ``pip_version``, ``pip_install_options``.
        conda: name or folder of a conda environment, a YAML file, or its content as a dict.
        container: refused: containers are not supported.
        env_vars: variables by name. ``${NAME}`` in a value stands for the variable NAME before.
        worker_process_setup_hook: a function without parameters, or its name as
            ``module.function``; runs in each worker before anything else of the program.
        nsight: refused: this profiler is not supported.
        rocprof_sys: refused: this profiler is not supported.
        config: a RuntimeEnvConfig or such a dict.
        image_uri: refused, as container.
        uv: as pip, with ``packages``, ``uv_check``, ``uv_version``, ``uv_pip_install_options``.
        **kwargs: ``excludes`` (gitignore patterns of files that working_dir and py_modules leave
            out). Others are kept and have no effect.

    Raises:
        TypeError: a value of a wrong type.
        ValueError: a file that is not there, or fields that exclude each other.

    >>> from ray.runtime_env import RuntimeEnv
    >>> RuntimeEnv(env_vars={"MODE": "fast"}, pip=["six"])["pip"]
    {'packages': ['six'], 'pip_check': False}

    Source: https://docs.ray.io/en/latest/ray-core/api/doc/ray.runtime_env.RuntimeEnv.html,
    conformance cluster/test_runtime_env.py.
    """

    known_fields: ClassVar[set[str]] = {
        "_inject_current_ray",
        "_nsight",
        "_ray_commit",
        "_ray_release",
        "_rocprof_sys",
        "conda",
        "config",
        "container",
        "env_vars",
        "excludes",
        "image_uri",
        "java_jars",
        "pip",
        "py_executable",
        "py_modules",
        "uv",
        "worker_process_setup_hook",
        "working_dir",
    }
    extensions_fields: ClassVar[set[str]] = {"_inject_current_ray", "_ray_commit", "_ray_release"}

    def __init__(
        self,
        *,
        py_modules: list[str] | None = None,
        py_executable: str | None = None,
        working_dir: str | None = None,
        pip: list[str] | str | dict[str, Any] | None = None,
        conda: dict[str, Any] | str | None = None,
        container: dict[str, str] | None = None,
        env_vars: dict[str, str] | None = None,
        worker_process_setup_hook: Callable[[], Any] | str | None = None,
        nsight: str | dict[str, str] | None = None,
        rocprof_sys: str | dict[str, Any] | None = None,
        config: dict[str, Any] | RuntimeEnvConfig | None = None,
        _validate: bool = True,
        image_uri: str | None = None,
        uv: list[str] | str | dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        fields = {
            "py_modules": py_modules,
            "py_executable": py_executable,
            "working_dir": working_dir,
            "pip": pip,
            "conda": conda,
            "container": container,
            "env_vars": env_vars,
            "worker_process_setup_hook": worker_process_setup_hook,
            "_nsight": nsight,
            "_rocprof_sys": rocprof_sys,
            "config": config,
            "image_uri": image_uri,
            "uv": uv,
            **kwargs,
        }
        given = {name: value for name, value in fields.items() if value is not None}
        super().__init__(check_fields(given) if _validate else given)

    @classmethod
    def _restored(cls, fields: Mapping[str, Any]) -> RuntimeEnv:
        """One that was checked elsewhere: its files need not be on this machine."""
        return cls(_validate=False, **fields)

    def __reduce__(self) -> tuple[Any, ...]:
        return RuntimeEnv._restored, (dict(self),)

    def __setitem__(self, key: str, value: Any) -> None:
        """Sets a field, checked.

        Raises:
            TypeError: a value of a wrong type.
            ValueError: a value that cannot be used.

        >>> env = RuntimeEnv()
        >>> env["env_vars"] = {"A": "1"}
        """
        super().__setitem__(key, check_field(key, value))

    def set(self, name: str, value: Any) -> None:
        """Sets a field, as ``env[name] = value``.

        Raises:
            TypeError: a value of a wrong type.
            ValueError: a value that cannot be used.

        >>> env = RuntimeEnv()
        >>> env.set("env_vars", {"A": "1"})
        """
        self[name] = value

    def get(self, name: str, default: Any = None, data_class: type | None = None) -> Any:
        """A field.

        Args:
            name: of the field.
            default: what to return if it is not set.
            data_class: makes the value, a dict, an object: it is called with the dict's items as
                keywords.

        >>> RuntimeEnv(env_vars={"A": "1"}).get("env_vars")
        {'A': '1'}
        """
        if name not in self:
            return default
        return self[name] if data_class is None else data_class(**self[name])

    def get_extension(self, key: str) -> str | None:
        """A field of those that only the runtime sets.

        Args:
            key: its name.

        Raises:
            ValueError: not the name of such a field.

        >>> RuntimeEnv().get_extension("_ray_commit")
        """
        if key not in self.extensions_fields:
            raise ValueError(f"Extension key must be one of {self.extensions_fields}, got: {key}")
        return super().get(key)

    def to_dict(self) -> dict[str, Any]:
        """The fields as a plain dict.

        >>> RuntimeEnv(env_vars={"A": "1"}).to_dict()
        {'env_vars': {'A': '1'}}
        """
        return dict(self)

    def serialize(self) -> str:
        """The environment as JSON, the same for equal ones.

        Raises:
            TypeError: it holds a function or module; JSON cannot.

        >>> RuntimeEnv(env_vars={"A": "1"}).serialize()
        '{"env_vars": {"A": "1"}}'
        """
        return canonical_json(self)

    @classmethod
    def deserialize(cls, serialized_runtime_env: str) -> RuntimeEnv:
        """The environment that ``serialize`` made ``serialized_runtime_env`` of. It is not checked
        again.

        >>> RuntimeEnv.deserialize('{"env_vars": {"A": "1"}}')
        {'env_vars': {'A': '1'}}
        """
        return cls._restored(json.loads(serialized_runtime_env))

    def env_vars(self) -> dict[str, str]:
        """The variables by name.

        >>> RuntimeEnv(env_vars={"A": "1"}).env_vars()
        {'A': '1'}
        """
        return dict(self.get("env_vars", {}))

    def working_dir(self) -> str:
        """The working directory as it was given; "" without one.

        >>> RuntimeEnv(working_dir="https://example.com/a.zip").working_dir()
        'https://example.com/a.zip'
        """
        return str(self.get("working_dir", ""))

    def has_working_dir(self) -> bool:
        """Whether there is a working directory.

        >>> RuntimeEnv().has_working_dir()
        False
        """
        return bool(self.get("working_dir"))

    def working_dir_uri(self) -> str | None:
        """The working directory as it was given; None without one.

        >>> RuntimeEnv().working_dir_uri()
        """
        return self.get("working_dir")  # type: ignore[no-any-return]

    def py_modules(self) -> list[str]:
        """The packages to import.

        >>> RuntimeEnv().py_modules()
        []
        """
        return list(self.get("py_modules", []))

    def py_modules_uris(self) -> list[str]:
        """As py_modules.

        >>> RuntimeEnv(py_modules=["https://example.com/a.whl"]).py_modules_uris()
        ['https://example.com/a.whl']
        """
        return self.py_modules()

    def py_executable(self) -> str | None:
        """The command of the Python that runs workers.

        >>> RuntimeEnv(py_executable="python3").py_executable()
        'python3'
        """
        return self.get("py_executable")  # type: ignore[no-any-return]

    def has_pip(self) -> bool:
        """Whether there is a field ``pip``.

        >>> RuntimeEnv(pip=["six"]).has_pip()
        True
        """
        return bool(self.get("pip"))

    def pip_config(self) -> dict[str, Any]:
        """The field ``pip``, in the form of a dict.

        >>> RuntimeEnv(pip=["six"]).pip_config()["packages"]
        ['six']
        """
        return dict(self.get("pip", {}))

    def pip_uri(self) -> str | None:
        """A name of what pip is to install, the same for the same packages; None without any.

        >>> RuntimeEnv().pip_uri()
        """
        return self._uri("pip")

    def has_uv(self) -> bool:
        """Whether there is a field ``uv``.

        >>> RuntimeEnv().has_uv()
        False
        """
        return bool(self.get("uv"))

    def uv_config(self) -> dict[str, Any]:
        """The field ``uv``, in the form of a dict.

        >>> RuntimeEnv(uv=["six"]).uv_config()["packages"]
        ['six']
        """
        return dict(self.get("uv", {}))

    def uv_uri(self) -> str | None:
        """As pip_uri, of ``uv``.

        >>> RuntimeEnv().uv_uri()
        """
        return self._uri("uv")

    def virtualenv_name(self) -> str | None:
        """None: virtual environments are named by their content.

        >>> RuntimeEnv(pip=["six"]).virtualenv_name()
        """
        return None

    def has_conda(self) -> bool:
        """Whether there is a field ``conda``.

        >>> RuntimeEnv(conda="base").has_conda()
        True
        """
        return bool(self.get("conda"))

    def conda_env_name(self) -> str | None:
        """The conda environment's name, if it has one.

        >>> RuntimeEnv(conda="base").conda_env_name()
        'base'
        """
        conda = self.get("conda")
        return conda if isinstance(conda, str) else None

    def conda_config(self) -> str | None:
        """The conda environment's definition as JSON, if it has no name.

        >>> RuntimeEnv(conda={"dependencies": ["pip"]}).conda_config()
        '{"dependencies": ["pip"]}'
        """
        conda = self.get("conda")
        return canonical_json(conda) if isinstance(conda, dict) else None

    def conda_uri(self) -> str | None:
        """As pip_uri, of ``conda``; None for an environment with a name.

        >>> RuntimeEnv(conda="base").conda_uri()
        """
        return None if self.conda_env_name() else self._uri("conda")

    def has_py_container(self) -> bool:
        """Whether there is a field ``container``.

        >>> RuntimeEnv().has_py_container()
        False
        """
        return bool(self.get("container"))

    def py_container_image(self) -> str | None:
        """The container's image.

        >>> RuntimeEnv(container={"image": "a"}).py_container_image()
        'a'
        """
        return self._of_container("image")  # type: ignore[no-any-return]

    def py_container_run_options(self) -> list[str]:
        """Options of the command that runs the container.

        >>> RuntimeEnv(container={"image": "a", "run_options": ["-v"]}).py_container_run_options()
        ['-v']
        """
        return list(self._of_container("run_options") or [])

    def py_container_worker_path(self) -> str | None:
        """Path of the worker's program in the container.

        >>> RuntimeEnv(container={"image": "a"}).py_container_worker_path()
        """
        return self._of_container("worker_path")  # type: ignore[no-any-return]

    def image_uri(self) -> str | None:
        """The container image's URI.

        >>> RuntimeEnv().image_uri()
        """
        return self.get("image_uri")  # type: ignore[no-any-return]

    def java_jars(self) -> list[str]:
        """Jars of Java workers.

        >>> RuntimeEnv().java_jars()
        []
        """
        return list(self.get("java_jars", []))

    def nsight(self) -> str | dict[str, str] | None:
        """The options of the profiler nsight.

        >>> RuntimeEnv(nsight="default").nsight()
        'default'
        """
        return self.get("_nsight")  # type: ignore[no-any-return]

    def rocprof_sys(self) -> str | dict[str, Any] | None:
        """The options of the profiler rocprof-sys.

        >>> RuntimeEnv().rocprof_sys()
        """
        return self.get("_rocprof_sys")  # type: ignore[no-any-return]

    def plugins(self) -> list[tuple[str, Any]]:
        """The fields that are not known, and their values.

        >>> RuntimeEnv(colour="red").plugins()
        [('colour', 'red')]
        """
        return [(name, value) for name, value in self.items() if name not in self.known_fields]

    def plugin_uris(self) -> list[str]:
        """URIs of those fields: none.

        >>> RuntimeEnv(colour="red").plugin_uris()
        []
        """
        return []

    def _uri(self, field: str) -> str | None:
        if not self.get(field):
            return None
        digest = hashlib.sha1(canonical_json(self[field]).encode(), usedforsecurity=False)
        return f"{field}://{digest.hexdigest()}"

    def _of_container(self, name: str) -> Any:
        return self.get("container", {}).get(name)
