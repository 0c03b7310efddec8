"""The list of specification tests that are known not to pass yet; see not_yet.txt."""

import importlib.util
import pathlib
import sys
import types

HERE = pathlib.Path(__file__).resolve().parent

# What files of the specification import for some of their tests, and `ray` does not have yet.
MISSING_MODULES = ["ray.util.state"]


def entries() -> list[str]:
    lines = (HERE / "not_yet.txt").read_text().splitlines()
    return [line.strip() for line in lines if line.strip() and not line.startswith("#")]


def relative_id(item) -> str | None:
    """The node id of a pytest item relative to this folder; None for a test from elsewhere."""
    if HERE not in item.path.parents:
        return None
    _, _, name = item.nodeid.partition("::")
    return f"{item.path.relative_to(HERE)}::{name}"


def is_missing(module: str) -> bool:
    """Whether neither `ray` has the module nor a stand-in took its place."""
    return module not in sys.modules and importlib.util.find_spec(module) is None


def stand_in_for_missing_modules() -> None:
    """Lets the other tests of a file run: whoever calls what is missing hears so."""
    for name in filter(is_missing, MISSING_MODULES):
        module = types.ModuleType(name)
        module.__getattr__ = lambda attribute, name=name: _missing(f"{name}.{attribute}")
        sys.modules[name] = module


def _missing(name: str):
    if name.rpartition(".")[2].startswith("__"):
        raise AttributeError(name)

    def call(*args, **kwargs):
        raise NotImplementedError(name)

    return call
