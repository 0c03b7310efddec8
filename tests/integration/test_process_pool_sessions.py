"""ray.util.multiprocessing.Pool and the life of the session."""

import time

import pytest

import ray
from ray.util.multiprocessing import Pool


@pytest.mark.ours_only
def test_session_that_ends_fails_what_has_not_ended(start_cluster):
    start_cluster()
    result = Pool(1).apply_async(time.sleep, (60,))
    ray.shutdown()
    with pytest.raises(Exception):  # noqa: B017 - which, is not promised
        result.get(timeout=30)
    assert result.ready()


def test_pool_starts_a_session_of_its_size():
    ray.shutdown()
    with Pool(1):
        assert ray.cluster_resources()["CPU"] == 1
    ray.shutdown()
