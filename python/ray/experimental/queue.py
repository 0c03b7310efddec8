"""The old path of ``ray.util.queue``."""

from ray.util.queue import Empty, Full, Queue

__all__ = ["Empty", "Full", "Queue"]
