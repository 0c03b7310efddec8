"""The old path of ``ray.util.multiprocessing``."""

from multiprocessing import TimeoutError

from ray.experimental.multiprocessing.pool import Pool

__all__ = ["Pool", "TimeoutError"]
