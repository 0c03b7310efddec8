"""The node's cache: built once, shared, and removed only when nobody uses it."""

import os
import pathlib
import signal
import subprocess
import sys
import threading

import pytest

from integration.programs import wait_until
from ray._runtime_env.cache import Cache
from ray.exceptions import RuntimeEnvSetupError


@pytest.fixture
def cache(tmp_path):
    return Cache(str(tmp_path / "cache"))


def fill(folder):
    pathlib.Path(folder, "file").write_bytes(bytes(1000))


def never(folder):
    raise AssertionError("built a second time")


def waiters(path):
    """How many wait for a lock on a file."""
    inode = f":{os.stat(path).st_ino} "
    locks = pathlib.Path("/proc/locks").read_text().splitlines()
    return sum("->" in line and inode in line for line in locks)


def drop(entry):
    os.close(entry.lock)


def test_entry_is_built_once(cache):
    first = cache.acquire("kind", "key", fill)
    second = cache.acquire("kind", "key", never)
    assert first.path == second.path
    assert os.listdir(first.path) == ["file"]


def test_cache_is_for_its_owner_only(cache, tmp_path):
    assert (tmp_path / "cache").stat().st_mode & 0o777 == 0o700


def test_concurrent_processes_build_once(tmp_path):
    program = f"""
import os, pathlib, time
from ray._runtime_env.cache import Cache
def build(folder):
    time.sleep(0.2)
    with open({str(tmp_path / "builds")!r}, "a") as file:
        file.write("x")
    pathlib.Path(folder, "file").write_text("content")
entry = Cache({str(tmp_path / "cache")!r}).acquire("kind", "key", build)
assert pathlib.Path(entry.path, "file").read_text() == "content"
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    processes = [
        subprocess.Popen([sys.executable, "-c", program], env=environment) for _ in range(4)
    ]
    assert [process.wait(30) for process in processes] == [0] * 4
    assert (tmp_path / "builds").read_text() == "x"


def test_failed_build_leaves_nothing_and_is_tried_again(cache):
    def fail(folder):
        fill(folder)
        raise RuntimeEnvSetupError("no such package")

    with pytest.raises(RuntimeEnvSetupError, match="no such package"):
        cache.acquire("kind", "key", fail)
    assert os.listdir(cache.acquire("kind", "key", fill).path) == ["file"]


def test_those_who_waited_share_the_failure(cache):
    started, go_on = threading.Event(), threading.Event()
    builds, errors = [], []

    def fail(folder):
        builds.append(folder)
        started.set()
        go_on.wait(10)
        raise RuntimeEnvSetupError("no such package")

    def acquire():
        try:
            cache.acquire("kind", "key", fail)
        except RuntimeEnvSetupError as error:
            errors.append(error.error_message)

    threads = [threading.Thread(target=acquire) for _ in range(3)]
    threads[0].start()
    assert started.wait(10)
    for thread in threads[1:]:
        thread.start()
    wait_until(lambda: waiters(f"{builds[0]}.lock") == 2)
    go_on.set()
    for thread in threads:
        thread.join(10)
    assert errors == ["no such package"] * 3
    assert len(builds) == 1


def test_killed_builder_leaves_the_entry_to_others(cache, tmp_path):
    program = f"""
import os, pathlib, signal
from ray._runtime_env.cache import Cache
def build(folder):
    pathlib.Path(folder, "half").write_text("")
    os.kill(os.getpid(), signal.SIGKILL)
Cache({str(tmp_path / "cache")!r}).acquire("kind", "key", build)
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    killed = subprocess.run([sys.executable, "-c", program], env=environment)
    assert killed.returncode == -signal.SIGKILL
    assert os.listdir(cache.acquire("kind", "key", fill).path) == ["file"]


def test_longest_unused_go_first(cache):
    paths = {}
    for age, key in enumerate(["new", "middle", "old"]):
        entry = cache.acquire("kind", key, fill)
        os.utime(f"{entry.path}.lock", (1000 - age, 1000 - age))
        paths[key] = entry.path
        drop(entry)
    cache.collect(2500)
    assert {key for key, path in paths.items() if os.path.exists(path)} == {"new", "middle"}
    cache.collect(0)
    assert os.listdir(os.path.dirname(paths["new"])) == []


def test_used_entries_stay(cache):
    used = cache.acquire("kind", "used", fill)
    drop(cache.acquire("kind", "unused", fill))
    cache.collect(0)
    assert os.path.exists(used.path)
    assert not os.path.exists(used.path.replace("used", "unused"))
    drop(used)
    cache.collect(0)
    assert not os.path.exists(used.path)


def test_building_makes_room(cache, monkeypatch):
    monkeypatch.setenv("RAY_runtime_env_cache_max_bytes", "1500")
    first = cache.acquire("kind", "first", fill)
    drop(first)
    second = cache.acquire("kind", "second", fill)
    assert not os.path.exists(first.path)
    assert os.path.exists(second.path)


def test_removed_entry_is_built_again(cache):
    drop(cache.acquire("kind", "key", fill))
    cache.collect(0)
    assert os.listdir(cache.acquire("kind", "key", fill).path) == ["file"]
