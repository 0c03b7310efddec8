"""The examples in the docstrings run."""

import doctest
import importlib.util
import pkgutil

import pytest

import ray


def documented_modules():
    """Every module of the package that has examples, by name."""
    found = pkgutil.walk_packages(ray.__path__, "ray.", onerror=lambda name: None)
    names = ["ray", *(module.name for module in found)]
    return [name for name in names if ">>>" in source_of(name)]


def source_of(name):
    spec = importlib.util.find_spec(name)
    return spec.loader.get_source(name) or "" if spec.origin.endswith(".py") else ""


@pytest.mark.usefixtures("cluster")
@pytest.mark.parametrize("name", documented_modules())
def test_examples_of_the_module_run(name):
    module = importlib.import_module(name)
    failed, attempted = doctest.testmod(module, optionflags=doctest.ELLIPSIS)
    assert attempted > 0
    assert failed == 0, "see the output"
