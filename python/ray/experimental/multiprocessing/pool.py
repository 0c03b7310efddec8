"""The old path of ``ray.util.multiprocessing.pool``."""

from ray.util import multiprocessing


class Pool(multiprocessing.Pool):
    """``ray.util.multiprocessing.Pool`` by its old name."""
