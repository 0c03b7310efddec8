"""Sets the environment of a job up on the nodes of its cluster before anything of it runs there.

The work is that of a worker: an empty task on each node, which nobody waits for, makes the node
fork one, and that finds or builds what the environment needs.
"""

from __future__ import annotations

import json
from typing import Any

from ray._runtime import RUNTIME

# What is installed on a node; the rest of an environment takes no time.
_INSTALLED = ("conda", "pip", "py_modules", "uv", "working_dir")


def set_up_on_nodes() -> None:
    """Begins to set up the environment of this job on all nodes that there are, if it has something
    to install and does not say ``eager_install=False``. Asks the raylet once, else does not block.

    A node where this fails tries again for the first task, which then has the error.
    """
    fields = json.loads(RUNTIME.environment or "{}")
    wanted = fields.get("config", {}).get("eager_install", True)
    if not wanted or not any(field in fields for field in _INSTALLED):
        return
    from ray.remote_function import RemoteFunction
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    options = {"name": "set up the runtime environment", "num_cpus": 0, "max_retries": 0}
    set_up: RemoteFunction[[], Any] = RemoteFunction(_nothing, options)
    for node in RUNTIME.require().cluster_state()["nodes"]:
        if node["alive"] and not node["draining"]:
            there = NodeAffinitySchedulingStrategy(node["node_id"], soft=True)
            set_up.options(scheduling_strategy=there).remote()


def _nothing() -> None:
    """The worker has set the environment up before it runs this."""
