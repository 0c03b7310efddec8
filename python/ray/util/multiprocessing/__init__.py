"""``multiprocessing.Pool`` on actors: its processes may be on any node.

Source: https://docs.ray.io/en/latest/ray-more-libs/multiprocessing.html.
"""

from multiprocessing import JoinableQueue, TimeoutError

from ray.util.multiprocessing.pool import Pool

__all__ = ["JoinableQueue", "Pool", "TimeoutError"]
