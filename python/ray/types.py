"""Types for annotations: ``ray.types.ObjectRef[int]`` is a reference to an int.

>>> import ray
>>> from ray.types import ObjectRef
>>> @ray.remote
... def double(x: int) -> int:
...     return 2 * x
>>> ref: ObjectRef[int] = double.remote(4)
>>> ray.get(ref), ref.future().result(), len(ref.hex())
(8, 8, 56)

``await ref`` does the same in a coroutine. A reference keeps its object alive, wherever it is.

Source: https://docs.ray.io/en/latest/ray-core/objects.html, conformance core/test_core_objects.py.
"""

from ray._raylet import ObjectRef

__all__ = ["ObjectRef"]
