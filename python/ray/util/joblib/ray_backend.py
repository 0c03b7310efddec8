"""The joblib backend whose processes are actors."""

from __future__ import annotations

from typing import Any

from joblib._parallel_backends import (  # type: ignore[import-untyped]
    FallbackToBackend,
    MultiprocessingBackend,
    PoolManagerMixin,
    SequentialBackend,
)

import ray
from ray.util.multiprocessing.pool import Pool


class RayBackend(MultiprocessingBackend):  # type: ignore[misc]
    """Runs joblib's batches in a ``ray.util.multiprocessing.Pool``.

    Args:
        nesting_level: set by joblib.
        inner_max_num_threads: set by joblib.
        ray_remote_args: options of the processes' actors, as for ``ActorClass.options``.
        **kwargs: further options that joblib passes through.

    Source: https://docs.ray.io/en/latest/ray-more-libs/joblib.html.
    """

    supports_sharedmem = False

    def __init__(
        self,
        nesting_level: int | None = None,
        inner_max_num_threads: int | None = None,
        ray_remote_args: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            nesting_level=nesting_level, inner_max_num_threads=inner_max_num_threads, **kwargs
        )
        self._ray_remote_args = ray_remote_args

    def configure(
        self,
        n_jobs: int = 1,
        parallel: Any = None,
        prefer: str | None = None,
        require: str | None = None,
        ray_remote_args: dict[str, Any] | None = None,
        **memmappingpool_args: Any,
    ) -> int:
        """Starts the pool; joblib calls it. Returns the number of processes."""
        n_jobs = self.effective_n_jobs(n_jobs)
        if n_jobs == 1:
            raise FallbackToBackend(SequentialBackend(nesting_level=self.nesting_level))
        self._pool = Pool(n_jobs, ray_remote_args=ray_remote_args or self._ray_remote_args)
        self.parallel = parallel
        return n_jobs

    def effective_n_jobs(self, n_jobs: int | None) -> int:
        """How many processes ``n_jobs`` means; -1 stands for each CPU of the cluster, -2 for all
        but one.

        Raises:
            ValueError: n_jobs is 0.
        """
        if n_jobs is not None and n_jobs < 0:
            if not ray.is_initialized():
                ray.init()
            n_jobs = max(1, int(ray.cluster_resources().get("CPU", 1)) + 1 + n_jobs)
        # Not MultiprocessingBackend's: it refuses threads and nesting, which do not matter here.
        jobs: int = PoolManagerMixin.effective_n_jobs(self, n_jobs)
        return jobs
