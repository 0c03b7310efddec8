"""An object store with less room than the program asks for."""

import threading

import numpy as np
import pytest

import ray

MB = 1_000_000
STORE_BYTES = 100 * MB


def test_dropped_objects_make_room(start_cluster):
    start_cluster(object_store_memory=STORE_BYTES)
    for i in range(30):
        ref = ray.put(np.full(20 * MB, i, np.uint8))
        assert ray.get(ref)[-1] == i


def test_results_of_tasks_make_room(start_cluster):
    start_cluster(object_store_memory=STORE_BYTES)

    @ray.remote
    def make(i):
        return np.full(20 * MB, i, np.uint8)

    for i in range(15):
        assert ray.get(make.remote(i))[-1] == i


@pytest.mark.ours_only
def test_pinned_store_raises_with_a_breakdown(start_cluster):
    start_cluster(
        object_store_memory=STORE_BYTES,
        _system_config={
            "object_store_full_timeout_ms": 300,
            "spill_disk_quota_bytes": 10 * MB,  # else the object would go to disk
        },
    )
    refs = [ray.put(np.ones(20 * MB, np.uint8)) for _ in range(4)]
    arrays = ray.get(refs)  # in use, so they can be neither dropped nor spilled
    with pytest.raises(ray.exceptions.OutOfDiskError) as raised:
        ray.put(np.ones(40 * MB, np.uint8))
    text = str(raised.value)
    assert "pinned" in text and "MiB" in text and "spill_disk_quota_bytes" in text, text
    assert all(array[0] == 1 for array in arrays)

    del refs, arrays
    assert ray.get(ray.put(np.full(40 * MB, 5, np.uint8)))[-1] == 5


@pytest.mark.ours_only
def test_put_waits_until_room_appears(start_cluster):
    start_cluster(
        object_store_memory=STORE_BYTES,
        _system_config={"object_store_full_timeout_ms": 20_000},
    )
    held = [ray.get(ray.put(np.ones(20 * MB, np.uint8))) for _ in range(4)]
    releaser = threading.Timer(0.3, held.clear)
    releaser.start()
    ref = ray.put(np.full(40 * MB, 5, np.uint8))
    assert not held, "the put did not wait for room"
    assert ray.get(ref)[-1] == 5
    releaser.join()
