"""joblib on actors: ``joblib.parallel_backend("ray")``.

Source: https://docs.ray.io/en/latest/ray-more-libs/joblib.html.
"""

from __future__ import annotations

__all__ = ["register_ray"]


def register_ray() -> None:
    """Registers the joblib backend "ray"; nothing happens if it is registered already.

    Raises:
        ImportError: joblib is not installed.

    >>> import joblib
    >>> register_ray()
    >>> with joblib.parallel_backend("ray", n_jobs=2):
    ...     joblib.Parallel()(joblib.delayed(abs)(x) for x in [-1, -2])
    [1, 2]

    Source: conformance actors/test_actor_utils.py::test_joblib_backend.
    """
    try:
        import joblib  # type: ignore[import-untyped]
    except ImportError as error:
        raise ImportError(
            "register_ray needs joblib. Install it with `pip install joblib`."
        ) from error
    from ray.util.joblib.ray_backend import RayBackend

    joblib.register_parallel_backend("ray", RayBackend)
