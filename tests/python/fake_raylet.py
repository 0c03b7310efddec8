"""A stand-in for the native module: enough to import `ray` where it is not built."""

import importlib.util
import sys
import types


def install_if_missing():
    """Makes `import ray` work without the native module. Does nothing where it is built."""
    spec = importlib.util.find_spec("ray")
    folders = list(spec.submodule_search_locations or []) if spec else []
    if "ray._raylet" in sys.modules or any(_is_built(folder) for folder in folders):
        return
    module = types.ModuleType("ray._raylet")
    for name in ("ReadyQueue", "TaskTemplate"):
        setattr(module, name, type(name, (), {}))
    module.ObjectRef = type("ObjectRef", (), {"__class_getitem__": classmethod(lambda c, i: c)})
    module.SystemError = type("SystemError", (Exception,), {})
    module.set_hooks = lambda hooks: None
    module.set_current_core = lambda core: None
    module.begin_collecting_refs = lambda: None
    module.end_collecting_refs = list
    sys.modules["ray._raylet"] = module


def _is_built(folder):
    from importlib.machinery import PathFinder

    return PathFinder.find_spec("_raylet", [folder]) is not None
