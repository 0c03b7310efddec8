"""Runtime environments: the files, packages and variables that a job, task or actor runs with.

Source: https://docs.ray.io/en/latest/ray-core/handling-dependencies.html. What is done with them is
described in docs/runtime_env.md.
"""

from ray.runtime_env.runtime_env import RuntimeEnv, RuntimeEnvConfig

__all__ = ["RuntimeEnv", "RuntimeEnvConfig"]
