"""The fields of a runtime environment: what users may write, checked and normalised.

Source: https://docs.ray.io/en/latest/ray-core/handling-dependencies.html, conformance
cluster/test_runtime_env.py.
"""

from __future__ import annotations

import importlib
import json
import logging
import os
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

# Where files may come from. What other schemes name cannot be fetched.
URI_SCHEMES = ("gcs", "https", "s3", "gs", "azure", "abfss", "file")
ARCHIVE_SUFFIXES = (".zip", ".tar.gz", ".tgz", ".tar.xz")

# Each says which Python runs, so that an environment has at most one of them.
PACKAGE_MANAGERS = ("pip", "uv", "conda")
_CONTAINERS = ("container", "image_uri")
# What may stand beside a container: the container decides the rest.
_BESIDE_CONTAINERS = ("config", "env_vars")

_logger = logging.getLogger("ray")


def check_fields(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of an environment in their normal form; those that are None are left out.

    Fields that are not known are kept as they are.

    Raises:
        TypeError: a value of a wrong type.
        ValueError: a value that cannot be used: a file that is not there, fields that exclude each
            other.
    """
    checked = {}
    for name, value in fields.items():
        normal = None if value is None else check_field(name, value)
        if normal is not None:
            checked[name] = normal
    _check_together(checked)
    return checked


def check_field(name: str, value: Any) -> Any:
    """One field in its normal form, None if it says nothing; as ``check_fields``."""
    check = _CHECKS.get(name)
    return value if check is None else check(value)


def _check_together(fields: Mapping[str, Any]) -> None:
    if sum(name in fields for name in PACKAGE_MANAGERS) > 1:
        said = "\n".join(f"specified {name} field: {fields.get(name)}" for name in PACKAGE_MANAGERS)
        raise ValueError(
            "The 'pip' field, 'uv' field, and 'conda' field of runtime_env cannot be specified at"
            f" the same time.\n{said}\nTo have pip packages in a conda environment, list them in"
            " the dependencies of the 'conda' field."
        )
    for container in _CONTAINERS:
        others = set(fields) - {container, *_BESIDE_CONTAINERS}
        if container in fields and others:
            raise ValueError(
                f"The {container!r} field currently cannot be used together with other fields of"
                f" runtime_env. Specified fields: {others}"
            )


def _env_vars(value: Any) -> dict[str, str] | None:
    if not isinstance(value, dict):
        raise TypeError(
            f"runtime_env['env_vars'] must be of type Dict[str, str], got {type(value)}"
        )
    for name, text in value.items():
        for what, item in (("key", name), ("value", text)):
            if not isinstance(item, str):
                raise TypeError(
                    "runtime_env['env_vars'] must be of type Dict[str, str], but the"
                    f" {what} {item!r} is of type {type(item)}"
                )
    return dict(value) or None


def _working_dir(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"`working_dir` must be a string, got {type(value)}.")
    if value:
        _check_location("working_dir", value, ARCHIVE_SUFFIXES)
    return value


def _py_modules(value: Any) -> list[str | ModuleType]:
    if not isinstance(value, list):
        raise TypeError(f"`py_modules` must be a list of strings, got {type(value)}.")
    for item in value:
        if isinstance(item, ModuleType):
            continue
        if not isinstance(item, str):
            raise TypeError(f"`py_module` must be a string, got {type(item)}.")
        _check_location("py_modules", item, (*ARCHIVE_SUFFIXES, ".whl"), (".py",))
    return list(value)


def _check_location(
    field: str, value: str, suffixes: tuple[str, ...], local_suffixes: tuple[str, ...] = ()
) -> None:
    """A folder or archive that is here, or the URI of an archive."""
    scheme, separator, _ = value.partition("://")
    if not separator:
        path = os.path.expanduser(value)
        if not os.path.exists(path):
            raise ValueError(f"{value} is not a valid path.")
        if not os.path.isdir(path) and not path.endswith((*suffixes, *local_suffixes)):
            raise ValueError(
                f"{value} is neither a folder nor a file that {field} can use"
                f" ({', '.join((*suffixes, *local_suffixes))})."
            )
        return
    if scheme not in URI_SCHEMES:
        raise ValueError(
            f"{value} is not a valid URI. {field} takes a folder, an archive or a URI that begins"
            f" with {', '.join(f'{s}://' for s in URI_SCHEMES)}."
        )
    if not value.endswith(suffixes):
        raise ValueError(
            f"Only {', '.join(suffixes)} files are supported for {field} URIs; got {value}."
        )


def _excludes(value: Any) -> list[str]:
    _check_strings("runtime_env['excludes']", value)
    return list(value)


def _check_strings(what: str, value: Any) -> None:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise TypeError(f"{what} must be of type List[str], got {type(value)}")


def _requirements(field: str, options: Mapping[str, type]) -> Callable[[Any], dict[str, Any]]:
    """The check of ``pip`` or ``uv``: a list, a requirements file, or a dict with options.

    Args:
        field: "pip" or "uv".
        options: what the dict may hold beside the packages, and of which type.
    """
    check_option = f"{field}_check"

    def check(value: Any) -> dict[str, Any]:
        if isinstance(value, (str, list)):
            value = {"packages": value}
        elif not isinstance(value, dict):
            raise TypeError(
                f"runtime_env[{field!r}] must be of type str or List[str], got {type(value)}"
            )
        if "packages" not in value:
            raise ValueError(
                f"runtime_env[{field!r}] must include field 'packages', but got {value}"
            )
        if not set(value) <= {"packages", *options}:
            raise ValueError(
                f"runtime_env[{field!r}] can only have these fields: packages,"
                f" {', '.join(options)}, but got: {list(value)}"
            )
        for name, type_ in options.items():
            if name in value and not isinstance(value[name], type_):
                raise TypeError(
                    f"runtime_env[{field!r}][{name!r}] must be of type {type_.__name__}, got"
                    f" {type(value[name])}"
                )
        return {
            **value,
            "packages": _packages(field, value["packages"]),
            check_option: value.get(check_option, False),
        }

    return check


def _packages(field: str, value: Any) -> list[str]:
    if isinstance(value, str):
        if not os.path.isfile(value):
            raise ValueError(f"{value} is not a valid file")
        with open(value) as file:
            lines = [line.strip() for line in file]
        value = [line for line in lines if line and not line.startswith("#")]
    _check_strings(f"runtime_env[{field!r}]['packages']", value)
    return list(dict.fromkeys(value))


def _conda(value: Any) -> str | dict[str, Any]:
    if isinstance(value, dict):
        return value
    if not isinstance(value, str):
        raise TypeError(f"runtime_env['conda'] must be of type str or dict, got {type(value)}.")
    if not value.endswith((".yml", ".yaml")):
        return value
    if not os.path.isfile(value):
        raise ValueError(f"Can't find conda YAML file {value}.")
    return _read_yaml(value)


def _read_yaml(path: str) -> dict[str, Any]:
    try:
        yaml = importlib.import_module("yaml")
    except ModuleNotFoundError:
        raise ValueError(
            f"Reading {path} needs the package PyYAML. Install it, or give runtime_env['conda'] as"
            " a dict."
        ) from None
    with open(path) as file:
        read: dict[str, Any] = yaml.safe_load(file)
    return read


def _config(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise TypeError(
            f"runtime_env['config'] must be of type dict or RuntimeEnvConfig, got: {type(value)}"
        )
    return check_config(value)


# The fields of ``config`` and their defaults.
CONFIG_DEFAULTS: Mapping[str, Any] = {
    "setup_timeout_seconds": 600,
    "eager_install": True,
    "log_files": [],
}


def check_config(value: Mapping[str, Any]) -> dict[str, Any]:
    """All fields of ``config``, with defaults; unknown ones are left out, with a warning.

    Raises:
        TypeError: a value of a wrong type.
        ValueError: a timeout that is neither positive nor -1.
    """
    unknown = set(value) - set(CONFIG_DEFAULTS)
    if unknown:
        _logger.warning(
            "The following unknown entries in the runtime_env_config dictionary will be ignored:"
            " %s.",
            unknown,
        )
    given = {name: value[name] for name in CONFIG_DEFAULTS if value.get(name) is not None}
    config = {**CONFIG_DEFAULTS, **given}
    timeout, eager, log_files = config.values()
    if not isinstance(timeout, int):
        raise TypeError(f"setup_timeout_seconds must be of type int, got: {type(timeout)}")
    if timeout <= 0 and timeout != -1:
        raise ValueError(
            f"setup_timeout_seconds must be greater than zero or equals to -1, got: {timeout}"
        )
    if not isinstance(eager, bool):
        raise TypeError(f"eager_install must be a boolean. got {type(eager)}")
    if not isinstance(log_files, list) or not all(isinstance(file, str) for file in log_files):
        raise TypeError(
            f"log_files must be a list of strings or None, got {log_files} with type"
            f" {type(log_files)}."
        )
    return config


def _py_executable(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"runtime_env['py_executable'] must be of type str, got {type(value)}")
    return value


def _setup_hook(value: Any) -> Any:
    if not isinstance(value, str) and not callable(value):
        raise TypeError(
            "runtime_env['worker_process_setup_hook'] must be a function, or its name as"
            f" 'module.function', got {type(value)}"
        )
    return value


_CHECKS: Mapping[str, Callable[[Any], Any]] = {
    "conda": _conda,
    "config": _config,
    "env_vars": _env_vars,
    "excludes": _excludes,
    "pip": _requirements(
        "pip", {"pip_check": bool, "pip_install_options": list, "pip_version": str}
    ),
    "py_executable": _py_executable,
    "py_modules": _py_modules,
    "uv": _requirements(
        "uv", {"uv_check": bool, "uv_pip_install_options": list, "uv_version": str}
    ),
    "worker_process_setup_hook": _setup_hook,
    "working_dir": _working_dir,
}


def canonical_json(value: Any) -> str:
    """The same text for equal values, whatever the order of their keys."""
    return json.dumps(value, sort_keys=True)
