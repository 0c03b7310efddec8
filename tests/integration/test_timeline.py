"""ray.timeline, and what an object waits for."""

from __future__ import annotations

import json
import time

import pytest

import ray


@pytest.fixture(scope="module", autouse=True)
def session():
    ray.shutdown()
    ray.init(num_cpus=2, log_to_driver=False)
    yield
    ray.shutdown()


def spans(name):
    """The spans of a task, once there are some."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        found = [span for span in ray.timeline() if span["args"].get("name") == name]
        if found:
            return found
        time.sleep(0.05)
    pytest.fail(f"{name} does not appear in the timeline")


def test_a_task_is_a_span_where_and_when_it_ran():
    @ray.remote
    def nap():
        time.sleep(0.2)
        return ray.get_runtime_context().get_worker_id()

    before = time.time()
    ref = nap.remote()
    worker = ray.get(ref)
    (span,) = spans("nap")
    assert span["args"]["task_id"] == ref.task_id().hex()
    assert span["tid"] == f"worker:{worker}"
    assert 200_000 <= span["dur"] < 5_000_000
    assert before - 1 < span["ts"] / 1e6 < time.time() + 1
    assert span["ph"] == "X" and not span["args"]["failed"]


def test_actor_calls_failures_and_children_appear():
    @ray.remote
    def child():
        raise ValueError("no")

    @ray.remote(num_cpus=0)
    class Parent:
        def run(self):
            ray.wait([child.remote()])

    parent = Parent.remote()
    ray.get(parent.run.remote())
    (run,) = spans("Parent.run")
    assert run["name"] == "run" and run["args"]["actor_id"]
    (failed,) = spans("child")
    assert failed["args"]["failed"]


def test_a_burst_is_sampled_and_counted():
    @ray.remote
    def quick():
        pass

    ray.get([quick.remote() for _ in range(5000)])
    kept = len(spans("quick"))
    time.sleep(0.5)
    ray.get(quick.remote())
    time.sleep(0.5)
    events = ray.timeline()
    kept = sum(event["args"].get("name") == "quick" for event in events)
    dropped = sum(event["args"].get("calls", 0) for event in events)
    assert 0 < kept <= 5001
    assert kept + dropped >= 5001


def test_it_can_be_written_to_a_file(tmp_path):
    ray.get(ray.remote(lambda: 1).remote())
    assert ray.timeline(str(tmp_path / "trace.json")) is None
    assert isinstance(json.loads((tmp_path / "trace.json").read_text()), list)


def test_why_pending_names_what_is_missing():
    @ray.remote(resources={"telescope": 1})
    def observe():
        pass

    @ray.remote
    def use(x):
        return x

    ref = observe.remote()
    assert "telescope" in ray.util.why_pending(ref)
    later = use.remote(ref)
    assert ref.hex() in ray.util.why_pending(later)
    assert "observe" in ray.util.why_pending(later)
    ray.cancel(ref)
    assert ray.util.why_pending(ray.put(1)) is None
    with pytest.raises(TypeError):
        ray.util.why_pending("ref")


def test_why_pending_tells_of_busy_resources_and_actors():
    @ray.remote(num_cpus=2)
    def hold():
        time.sleep(1.0)

    @ray.remote(num_cpus=2)
    def wait():
        pass

    @ray.remote(num_cpus=0)
    class Slow:
        def nap(self):
            time.sleep(1.0)

    holder = hold.remote()
    time.sleep(0.3)
    waiter = wait.remote()
    deadline = time.monotonic() + 5
    while "CPU: 2" not in (ray.util.why_pending(waiter) or "") and time.monotonic() < deadline:
        time.sleep(0.02)
    assert "CPU: 2" in ray.util.why_pending(waiter)
    actor = Slow.remote()
    calls = [actor.nap.remote() for _ in range(2)]
    time.sleep(0.3)
    assert "Slow" in ray.util.why_pending(calls[1])
    ray.get([holder, waiter, *calls])
