"""Where objects go when the store is full: folders, quotas and storage with a URL."""

import json
import os
import pathlib
import sys

import numpy as np
import psutil
import pytest

import ray
from integration.programs import wait_until
from ray._runtime import RUNTIME
from ray.cluster_utils import Cluster
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

pytestmark = pytest.mark.ours_only
MB = 1 << 20
STORE_BYTES = 80 * MB


def raylet():
    """The process that keeps the objects."""
    (found,) = [p for p in psutil.Process().children() if p.name() == "raylet"]
    return found


def daemon_of(node):
    """The same of a node of a Cluster."""
    return psutil.Process(dict(node.live_processes())["raylet"].pid)


def spilled_by(node):
    """Bytes that a node of the cluster says that it has spilled."""
    nodes = RUNTIME.require().cluster_state()["nodes"]
    (found,) = [each for each in nodes if each["node_id"] == node.node_id]
    return found["spilled_bytes"]


def files_of(process, folder):
    """Sizes of the files without a name that the process has in a folder."""
    sizes = []
    for link in pathlib.Path(f"/proc/{process.pid}/fd").iterdir():
        try:
            if os.readlink(link).startswith(f"{folder}/"):
                sizes.append(os.stat(link).st_size)
        except FileNotFoundError:
            continue  # closed meanwhile
    return sizes


def holds_large(folder="/tmp"):
    """Whether there is a file of an object of more than 100 MiB."""
    return any(size > 100 * MB for size in files_of(raylet(), folder))


def put_many(count, size=10 * MB):
    return [ray.put(np.full(size, i % 256, np.uint8)) for i in range(count)]


def check_many(refs):
    for i, ref in enumerate(refs):
        value = ray.get(ref)
        assert value.size > 0 and (value == i % 256).all()


def filesystem(*folders):
    return {"type": "filesystem", "params": {"directory_path": [str(f) for f in folders]}}


def test_several_folders_are_used_in_turn(start_cluster, tmp_path):
    folders = [tmp_path / "a", tmp_path / "b"]
    start_cluster(
        object_store_memory=STORE_BYTES,
        _system_config={"object_spilling_config": json.dumps(filesystem(*folders))},
    )
    refs = put_many(24)
    check_many(refs)
    assert all(files_of(raylet(), folder) for folder in folders)
    del refs
    wait_until(lambda: not any(files_of(raylet(), folder) for folder in folders))


def test_a_folder_can_be_named_and_gets_nothing_that_stays(start_cluster, tmp_path):
    folder = tmp_path / "spill"
    folder.mkdir(mode=0o755)
    start_cluster(object_store_memory=STORE_BYTES, object_spilling_directory=str(folder))
    refs = put_many(16)
    large = ray.put(np.full(100 * MB, 7, np.uint8))
    assert holds_large(folder) and len(files_of(raylet(), folder)) > 1
    check_many(refs)
    assert ray.get(large)[-1] == 7
    assert not list(folder.iterdir())  # also if it is killed at any moment
    assert folder.stat().st_mode & 0o777 == 0o755  # it is the user's


def test_a_node_that_joins_spills_where_the_head_does(tmp_path):
    ray.shutdown()
    cluster = Cluster()
    try:
        spilling = {"object_spilling_config": json.dumps(filesystem(tmp_path / "a"))}
        cluster.add_node(num_cpus=0, object_store_memory=STORE_BYTES, _system_config=spilling)
        node = cluster.add_node(num_cpus=1, object_store_memory=STORE_BYTES)
        own = {"object_spilling_config": json.dumps(filesystem(tmp_path / "b"))}
        other = cluster.add_node(
            num_cpus=1, object_store_memory=STORE_BYTES, resources={"o": 1}, _system_config=own
        )
        ray.init(address=cluster.address, log_to_driver=False)

        @ray.remote
        class Keeper:
            def keep(self):
                self.refs = put_many(16)

        here = NodeAffinitySchedulingStrategy(node.node_id, soft=False)
        keepers = [
            Keeper.options(scheduling_strategy=here).remote(),
            Keeper.options(resources={"o": 1}).remote(),
        ]
        ray.get([keeper.keep.remote() for keeper in keepers])
        assert files_of(daemon_of(node), tmp_path / "a")
        assert files_of(daemon_of(other), tmp_path / "b")
        assert not files_of(daemon_of(other), tmp_path / "a")
        # What the GCS has heard, and what ray status shows.
        wait_until(lambda: all(spilled_by(each) > 0 for each in (node, other)))
    finally:
        ray.shutdown()
        cluster.shutdown()


def test_an_object_may_be_larger_than_the_store_of_the_node_that_wants_it():
    ray.shutdown()
    cluster = Cluster()
    try:
        cluster.add_node(num_cpus=0, object_store_memory=200 * MB)
        cluster.add_node(num_cpus=1, object_store_memory=STORE_BYTES)
        ray.init(address=cluster.address, log_to_driver=False)

        @ray.remote
        def total(data):
            return int(data.sum())

        fits, larger = (ray.put(np.full(150 * MB, value, np.uint8)) for value in (1, 2))
        for value, ref in ((1, fits), (2, larger)):  # the second from the head's disk
            assert ray.get(total.remote(ref), timeout=60) == value * 150 * MB
    finally:
        ray.shutdown()
        cluster.shutdown()


def test_an_object_of_its_own_file_lives_as_long_as_its_references(start_cluster):
    start_cluster(object_store_memory=STORE_BYTES)
    ref = ray.put(np.full(100 * MB, 7, np.uint8))
    value = ray.get(ref)
    assert holds_large()
    del ref
    assert value[50 * MB] == 7
    del value
    wait_until(lambda: not holds_large())


def test_more_than_the_store_can_be_held_at_once(start_cluster):
    start_cluster(object_store_memory=STORE_BYTES)
    refs = put_many(24)
    values = ray.get(refs)
    assert all((value == i).all() for i, value in enumerate(values))
    assert ray.get(ray.put(np.full(20 * MB, 3, np.uint8)))[-1] == 3


def test_the_quota_holds_for_all_files_and_is_named(start_cluster):
    start_cluster(
        object_store_memory=STORE_BYTES,
        _system_config={
            "object_store_full_timeout_ms": 300,
            "spill_disk_quota_bytes": 120 * MB,
        },
    )
    with pytest.raises(ray.exceptions.OutOfDiskError, match="spill_disk_quota_bytes"):
        ray.put(np.zeros(130 * MB, np.uint8))
    large = ray.put(np.zeros(100 * MB, np.uint8))
    with pytest.raises(ray.exceptions.OutOfDiskError, match=r"100\.0 MiB of the 120\.0 MiB"):
        ray.put(np.zeros(100 * MB, np.uint8))
    del large
    wait_until(lambda: not holds_large())
    assert ray.get(ray.put(np.full(110 * MB, 5, np.uint8)))[-1] == 5


def test_a_file_that_may_not_grow_is_a_typed_error(start_cluster):
    start_cluster(object_store_memory=STORE_BYTES)
    raylet().rlimit(psutil.RLIMIT_FSIZE, (MB, MB))  # as a full disk is
    with pytest.raises(ray.exceptions.OutOfDiskError, match="File too large"):
        ray.put(np.zeros(100 * MB, np.uint8))
    assert ray.get(ray.put(np.full(60 * MB, 5, np.uint8)))[-1] == 5


def test_small_objects_share_files(start_cluster, tmp_path):
    start_cluster(object_store_memory=STORE_BYTES, object_spilling_directory=str(tmp_path))
    refs = put_many(600, size=400_000)  # three times the store
    sizes = files_of(raylet(), tmp_path)
    assert 0 < len(sizes) <= 25 and max(sizes) <= STORE_BYTES / 8 + MB, sizes
    check_many(refs)
    del refs
    wait_until(lambda: not files_of(raylet(), tmp_path))


def test_freed_memory_returns_to_the_system(start_cluster):
    start_cluster(
        object_store_memory=STORE_BYTES,
        _system_config={
            "object_store_pretouch_bytes": 0,
            "object_store_warm_reserve_bytes": 0,
            "object_store_page_return_delay_ms": 100,
        },
    )

    def resident_bytes():
        fds = pathlib.Path(f"/proc/{raylet().pid}/fd").iterdir()
        (memory,) = [fd for fd in fds if "manta_object_store" in os.readlink(fd)]
        return os.stat(memory).st_blocks * 512

    assert resident_bytes() < MB
    refs = put_many(6)
    assert resident_bytes() >= 60 * MB
    del refs
    wait_until(lambda: resident_bytes() < MB)


FAKE_FSSPEC = """
import os
class Files:
    def open(self, path, mode): return open(path, mode)
    def rm_file(self, path): os.unlink(path)
    def makedirs(self, path, exist_ok): os.makedirs(path, exist_ok=exist_ok)
    def rmdir(self, path): os.rmdir(path)
class core:
    def url_to_fs(uri): return Files(), uri.removeprefix("test://")
"""


@pytest.fixture
def bucket(tmp_path, monkeypatch):
    """A folder that "test://" URIs of a stand-in for fsspec lead to."""
    (tmp_path / "fsspec.py").write_text(FAKE_FSSPEC)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    return tmp_path / "bucket"


def external(bucket):
    return {"type": "smart_open", "params": {"uri": f"test://{bucket}"}}


def test_storage_that_hangs_stops_nobody_else(start_cluster, bucket, tmp_path):
    hanging = FAKE_FSSPEC.replace("return open(path, mode)", "import time; time.sleep(3600)")
    (tmp_path / "fsspec.py").write_text(hanging)
    start_cluster(
        object_store_memory=STORE_BYTES,
        _system_config={
            "object_spilling_config": json.dumps(external(bucket)),
            "object_store_full_timeout_ms": 1000,
            "spill_disk_quota_bytes": 120 * MB,
        },
    )

    @ray.remote
    def nothing():
        return None

    refs = put_many(8, size=9 * MB)
    large = ray.put(np.full(30 * MB, 7, np.uint8))  # finds no memory in time: a file
    with pytest.raises(ray.exceptions.OutOfDiskError):
        ray.put(np.zeros(75 * MB, np.uint8))
    check_many(refs)
    assert ray.get(large)[-1] == 7
    ray.get(nothing.remote(), timeout=20)


@pytest.mark.parametrize("end", ["shutdown", "kill"])
def test_a_uri_gets_files_and_is_left_empty(start_cluster, bucket, end):
    start_cluster(
        object_store_memory=STORE_BYTES,
        _system_config={"object_spilling_config": json.dumps(external(bucket))},
    )
    refs = put_many(24)
    check_many(refs)
    (folder,) = bucket.iterdir()
    assert folder.name.startswith("ray_spilled_objects_") and list(folder.iterdir())
    assert ray.get(ray.put(np.full(100 * MB, 7, np.uint8)))[-1] == 7
    if end == "kill":
        raylet().kill()
    else:
        ray.shutdown()
    wait_until(lambda: not list(bucket.iterdir()))


def test_a_uri_needs_fsspec(start_cluster, monkeypatch):
    monkeypatch.setitem(sys.modules, "fsspec", None)
    with pytest.raises(ImportError, match="pip install fsspec"):
        start_cluster(_system_config={"object_spilling_config": json.dumps(external("/x"))})


@pytest.mark.parametrize("text", ["{", '{"type": "tape"}'])
def test_a_configuration_that_says_nothing_is_refused(start_cluster, text):
    with pytest.raises((ValueError, ray.exceptions.RaySystemError), match="object_spilling_config"):
        start_cluster(_system_config={"object_spilling_config": text})
