"""Types for annotations: ``ray.types.ObjectRef[int]`` is a reference to an int."""

from ray._raylet import ObjectRef

__all__ = ["ObjectRef"]
