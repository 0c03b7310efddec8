"""Every public name of the core interface says what it is, what it takes, what it raises and how it
is used. That the examples run is the business of tests/integration/test_examples.py."""

import ast
import functools
import importlib
import inspect
import re
import textwrap

import pytest

from tidy.tidy_files import ROOT

# The core interface; the rest of the package comes with its own area.
MODULES = (
    "ray",
    "ray.actor",
    "ray.cloudpickle",
    "ray.cluster_utils",
    "ray.cross_language",
    "ray.dag",
    "ray.exceptions",
    "ray.experimental.dynamic_resources",
    "ray.experimental.internal_kv",
    "ray.experimental.locations",
    "ray.experimental.multiprocessing",
    "ray.experimental.queue",
    "ray.experimental.rdt",
    "ray.experimental.tqdm_ray",
    "ray.job_config",
    "ray.remote_function",
    "ray.runtime_context",
    "ray.runtime_env",
    "ray.types",
    "ray.util",
    "ray.util.accelerators",
    "ray.util.actor_pool",
    "ray.util.annotations",
    "ray.util.check_serialize",
    "ray.util.joblib",
    "ray.util.metrics",
    "ray.util.multiprocessing",
    "ray.util.placement_group",
    "ray.util.queue",
    "ray.util.scheduling_strategies",
    "ray.util.serialization",
)
# What a program calls; the others hold exceptions, internals and second paths.
MODULES_WITH_EXAMPLES = (
    "ray",
    "ray.dag",
    "ray.runtime_context",
    "ray.runtime_env",
    "ray.util",
    "ray.util.actor_pool",
    "ray.util.metrics",
    "ray.util.placement_group",
    "ray.util.queue",
    "ray.util.scheduling_strategies",
)

# Public types of the native module; its stub documents them.
NATIVE_TYPES = ("ObjectRef",)

# Deprecated names are looked at, too.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
each_module = pytest.mark.parametrize("module", MODULES)


def public_names(module):
    """The public functions and classes of a module, by name. Those of other packages, and native
    ones, which _raylet.pyi documents, are left out."""
    namespace = importlib.import_module(module)
    names = getattr(namespace, "__all__", None)
    if names is None:
        names = [name for name, value in vars(namespace).items() if is_of(module, name, value)]
    values = {name: getattr(namespace, name) for name in names}
    return {name: value for name, value in values.items() if is_ours(value)}


def is_of(module, name, value):
    return not name.startswith("_") and getattr(value, "__module__", None) == module


def is_ours(value):
    module = getattr(value, "__module__", None) or ""
    return re.match(r"ray\b", module) and module != "ray._raylet" and callable(value)


def public_members(owner):
    """The public methods and properties that a class defines itself, by name."""
    plain = {name: getattr(value, "__func__", value) for name, value in vars(owner).items()}
    return {
        name: value
        for name, value in plain.items()
        if not name.startswith("_") and (inspect.isfunction(value) or isinstance(value, property))
    }


def documented_things(module):
    """``(name, function or class or property, the class it belongs to or None)``."""
    for name, value in public_names(module).items():
        yield name, value, None
        if inspect.isclass(value):
            for member, function in public_members(value).items():
                yield f"{name}.{member}", function, value


def own_text(thing):
    return thing.__doc__ or ""


def whole_text(thing, owner):
    """The docstring, together with that of the class, which speaks for its methods, too."""
    return own_text(thing) + (own_text(owner) if owner else "")


def constructor(thing):
    """The function that runs when ``thing`` is called; None if it is not our own code."""
    if inspect.isclass(thing):
        thing = vars(thing).get("__init__")
    elif isinstance(thing, property):
        thing = thing.fget
    return thing if inspect.isfunction(thing) else None


def text_of_call(thing, owner):
    function = constructor(thing)
    return whole_text(thing, owner) + (own_text(function) if function else "")


def mentions(text, word):
    """In a section of Args or Raises, or quoted in a sentence."""
    return re.search(rf"^\s*\**{word}:|``[^`]*\b{word}\b[^`]*``", text, re.MULTILINE)


def parameters(thing):
    function = constructor(thing)
    names = inspect.signature(function).parameters if function else ()
    return [name for name in names if name not in ("self", "cls") and not name.startswith("_")]


@functools.cache
def raised_errors(function):
    """Names of the exceptions in the ``raise`` statements of a function."""
    if function.__code__.co_filename == "<string>":  # Made by dataclasses.
        return []
    tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    raised = [node.exc for node in ast.walk(tree) if isinstance(node, ast.Raise) and node.exc]
    classes = [node.func if isinstance(node, ast.Call) else node for node in raised]
    names = [ast.unparse(node).rpartition(".")[2] for node in classes]
    return sorted({name for name in names if name[0].isupper()})


@each_module
def test_module_and_its_public_names_are_documented(module):
    assert importlib.import_module(module).__doc__
    silent = [name for name, thing, _ in documented_things(module) if not own_text(thing)]
    assert not silent, "\n".join(silent)


@each_module
def test_each_parameter_is_explained(module):
    unexplained = [
        f"{name}: {parameter}"
        for name, thing, owner in documented_things(module)
        for parameter in parameters(thing)
        if not mentions(text_of_call(thing, owner), parameter)
    ]
    assert not unexplained, "\n".join(unexplained)


@each_module
def test_each_error_that_is_raised_is_announced(module):
    unannounced = [
        f"{name}: {error}"
        for name, thing, owner in documented_things(module)
        for error in (raised_errors(constructor(thing)) if constructor(thing) else ())
        if error not in text_of_call(thing, owner)
    ]
    assert not unannounced, "\n".join(unannounced)


@pytest.mark.parametrize("module", MODULES_WITH_EXAMPLES)
def test_functions_and_classes_show_an_example(module):
    without = []
    for name, thing in public_names(module).items():
        if inspect.isclass(thing) and issubclass(thing, BaseException):
            continue
        members = public_members(thing).values() if inspect.isclass(thing) else ()
        if ">>>" not in "".join(map(own_text, [thing, *members])):
            without.append(name)
    assert not without, "\n".join(without)


@pytest.mark.parametrize("name", NATIVE_TYPES)
def test_stub_documents_the_native_type(name):
    stub = ast.parse((ROOT / "python" / "ray" / "_raylet.pyi").read_text())
    (owner,) = (n for n in stub.body if isinstance(n, ast.ClassDef) and n.name == name)
    methods = [node for node in owner.body if isinstance(node, ast.FunctionDef)]
    silent = [node.name for node in [owner, *methods] if not ast.get_docstring(node)]
    assert not silent, "\n".join(silent)
