"""``ray.timeline``: what ran when, for a trace viewer."""

from __future__ import annotations

import json
from typing import Any

from ray._runtime import RUNTIME


def timeline(filename: str | None = None) -> list[dict[str, Any]] | None:
    """What the workers have run lately: one span for each attempt of a task or actor call.

    Open the file in https://ui.perfetto.dev or chrome://tracing. A call appears about a tenth of a
    second after it has ended. Workers that run very many short calls tell of some of them only; the
    event "dropped" says how many are missing.

    Args:
        filename: where to write the spans as JSON; None: return them.

    Returns:
        The spans in Chrome's trace format (times in microseconds), or None if they were written.

    Raises:
        OSError: the file cannot be written.

    >>> import ray
    >>> @ray.remote
    ... def work(): ...
    >>> ray.get(work.remote())
    >>> isinstance(ray.timeline(), list)
    True

    Source: https://docs.ray.io/en/latest/ray-core/api/doc/ray.timeline.html.
    """
    core = RUNTIME.require()
    runs, dropped = core.task_events()
    spans: list[dict[str, Any]] = [
        {
            "cat": f"task::{name}",
            "name": name.rpartition(".")[2] if actor_id else name,
            "pid": core.node_ip,
            "tid": f"worker:{worker_id.hex()}",
            "ts": start_us,
            "dur": end_us - start_us,
            "ph": "X",
            "cname": "terrible" if failed else "generic_work",
            "args": {
                "name": name,
                "task_id": task_id.hex(),
                "actor_id": actor_id.hex() or None,
                "attempt": attempt,
                "failed": failed,
                "worker_pid": pid,
            },
        }
        for worker_id, pid, task_id, actor_id, name, start_us, end_us, failed, attempt in runs
    ]
    if dropped:
        args = {"calls": dropped}
        spans.append({"name": "dropped", "ph": "M", "pid": core.node_ip, "args": args})
    if filename is None:
        return spans
    with open(filename, "w") as file:
        json.dump(spans, file)
    return None
