"""inspect_serializability, object locations, the key-value table and addresses."""

import io
import threading

import numpy as np
import pytest

import ray
from ray.experimental import get_local_object_locations, get_object_locations, internal_kv
from ray.experimental.dynamic_resources import set_resource
from ray.util import get_node_ip_address, inspect_serializability

LOCK = threading.Lock()


def inspect(value, **options):
    printed = io.StringIO()
    serializable, failures = inspect_serializability(value, print_file=printed, **options)
    return serializable, failures, printed.getvalue()


def test_serializable_value_has_no_failures():
    serializable, failures, printed = inspect({"a": [1]}, name="fine")
    assert serializable and failures == set()
    assert "Checking Serializability of {'a': [1]}" in printed


def test_captured_value_is_named():
    lock = threading.Lock()

    def uses():
        return lock

    serializable, failures, printed = inspect(uses, name="uses")
    (failure,) = failures
    assert not serializable
    assert failure.obj is lock and failure.parent is uses
    assert failure.path == ("uses", "lock")
    assert "FailTuple(lock [path=uses -> lock" in printed
    assert "!!! FAIL" in printed


@pytest.mark.ours_only
def test_failures_in_containers_are_found():
    class Holder:
        def __init__(self):
            self.deep = {"locks": [1, LOCK]}

    _, failures, _ = inspect(Holder(), depth=4)
    (failure,) = failures
    assert failure.obj is LOCK
    assert failure.path == ("deep", "locks", "1")


@pytest.mark.ours_only
def test_registered_serializers_count():
    class Wrapped:
        def __init__(self, lock):
            self.lock = lock

    ray.util.register_serializer(Wrapped, serializer=lambda _: 0, deserializer=lambda _: 0)
    try:
        assert inspect(Wrapped(LOCK))[0]
    finally:
        ray.util.deregister_serializer(Wrapped)


def test_depth_limits_the_search():
    holder = {"lock": LOCK}
    _, failures, _ = inspect(holder, depth=0)
    assert [failure.obj for failure in failures] == [holder]


def test_value_that_holds_itself_ends():
    value = [LOCK]
    value.append(value)
    assert not inspect(value)[0]


def test_locations_of_ready_and_pending_objects(cluster):
    @ray.remote(num_cpus=0)
    class Event:
        async def wait(self):
            import asyncio

            await asyncio.sleep(60)

    here = ray.get_runtime_context().get_node_id()
    large, pending = ray.put(np.zeros(1 << 20)), Event.remote().wait.remote()
    for locations in (
        get_object_locations([large, pending]),
        get_object_locations([large, pending], timeout_ms=100),
        get_local_object_locations([large, pending]),
    ):
        assert locations[large]["node_ids"] == [here]
        assert 8 << 20 <= locations[large]["object_size"] < (8 << 20) + 1000
        assert locations[pending] == {"node_ids": [], "object_size": None, "did_spill": False}


def test_locations_of_a_borrowed_object(cluster):
    @ray.remote
    def locate(refs):
        return [list(found.values())[0]["node_ids"] for found in [get_object_locations(refs)]]

    ref = ray.put(np.zeros(1 << 20))
    assert ray.get(locate.remote([ref])) == [[ray.get_runtime_context().get_node_id()]]


@pytest.mark.ours_only
def test_locations_of_a_failed_object_and_of_none(cluster):
    @ray.remote
    def fail():
        raise ValueError

    ref = fail.remote()
    ray.wait([ref])
    assert get_object_locations([ref])[ref]["object_size"] > 0
    assert get_object_locations([]) == {}


@pytest.mark.ours_only
def test_locations_of_something_else_are_refused(cluster):
    for locate in (get_object_locations, get_local_object_locations):
        with pytest.raises(TypeError, match="list of ObjectRefs"):
            locate([3])
        with pytest.raises(TypeError, match="list of ObjectRefs"):
            locate(ray.put(3))
    with pytest.raises(TypeError, match="timeout_ms"):
        get_object_locations([], timeout_ms="1")


def test_values_of_keys(cluster):
    kv = internal_kv
    assert kv._internal_kv_initialized()
    assert kv._internal_kv_put("a", "1") is False
    assert kv._internal_kv_put(b"a", b"2") is True
    assert kv._internal_kv_put("a", b"3", overwrite=False) is True
    assert kv._internal_kv_get("a") == b"2"
    assert kv._internal_kv_exists("a") and not kv._internal_kv_exists("b")
    assert kv._internal_kv_get("b") is None
    assert kv._internal_kv_del("a") == 1
    assert kv._internal_kv_del("a") == 0


def test_too_large_values_are_refused(cluster):
    limit = 128 << 20
    with pytest.raises(ray.exceptions.RaySystemError, match="kv_value_max_bytes.*ray.put"):
        internal_kv._internal_kv_put("large", bytes(limit + 1))
    with pytest.raises(ray.exceptions.RaySystemError, match="kv_value_max_bytes"):
        internal_kv._internal_kv_put("large", bytes(2 * limit + 1))
    assert internal_kv._internal_kv_get("large") is None


def test_keys_by_prefix_and_namespace(cluster):
    kv = internal_kv
    for key in ("p1", "p2", "q"):
        kv._internal_kv_put(key, "v", namespace="mine")
    assert sorted(kv._internal_kv_list("p", namespace=b"mine")) == [b"p1", b"p2"]
    assert kv._internal_kv_list("p") == []
    assert kv._internal_kv_del("p", del_by_prefix=True, namespace="mine") == 2
    assert kv._internal_kv_list("", namespace="mine") == [b"q"]


@pytest.mark.ours_only
def test_keys_are_text_or_bytes(cluster):
    with pytest.raises(TypeError, match="key must be str or bytes"):
        internal_kv._internal_kv_get(3)
    with pytest.raises(TypeError, match="value must be str or bytes"):
        internal_kv._internal_kv_put("a", 3)
    with pytest.raises(TypeError, match="namespace must be"):
        internal_kv._internal_kv_get("a", namespace=3)


def test_resources_cannot_be_set():
    with pytest.raises(DeprecationWarning, match="resources"):
        set_resource("a", 1)


@pytest.mark.ours_only
def test_address_towards_another_machine(cluster):
    assert get_node_ip_address("127.0.0.1:80") == "127.0.0.1"
    assert get_node_ip_address() == cluster.address_info["node_ip_address"]


@pytest.mark.ours_only
def test_address_needs_a_port(cluster):
    with pytest.raises(ValueError, match="HOST:PORT"):
        get_node_ip_address("127.0.0.1")


def test_old_paths_lead_to_the_same():
    from ray.experimental import multiprocessing, queue
    from ray.util import multiprocessing as new_multiprocessing
    from ray.util import queue as new_queue

    assert issubclass(multiprocessing.Pool, new_multiprocessing.Pool)
    assert queue.Queue is new_queue.Queue
