"""The pickler that also takes functions, classes and lambdas by value: the cloudpickle package
under Ray's name.

References and actor handles pickled with it stay usable in every process of the session.
"""

from cloudpickle import (  # type: ignore[import-untyped]
    CloudPickler,
    Pickler,
    dump,
    dumps,
    load,
    loads,
    register_pickle_by_value,
    unregister_pickle_by_value,
)

__all__ = [
    "CloudPickler",
    "Pickler",
    "dump",
    "dumps",
    "load",
    "loads",
    "register_pickle_by_value",
    "unregister_pickle_by_value",
]
