"""The process that spills to storage with a URL, without a raylet."""

import json
import os
import socket
import struct
import sys
import threading
import types

import pytest

from ray import _spill_worker


class Folder:
    """A file system as fsspec has them, of which only some files can be written."""

    def __init__(self):
        self.room = 1 << 30

    def open(self, path, mode):
        if mode == "wb" and self.room <= 0:
            raise OSError(28, "No space left on device")
        return open(path, mode)

    def rm_file(self, path):
        os.unlink(path)

    def makedirs(self, path, exist_ok):
        os.makedirs(path, exist_ok=exist_ok)

    def rmdir(self, path):
        os.rmdir(path)


class Raylet:
    """The other end of the worker's socket."""

    def __init__(self, memory):
        self.memory = memory
        self.socket, theirs = socket.socketpair()
        self.thread = threading.Thread(target=_spill_worker.serve, args=(theirs,))
        self.thread.start()

    def ask(self, **request):
        text = json.dumps(request).encode()
        self.socket.sendall(struct.pack("<I", len(text)) + text)
        (length,) = struct.unpack("<I", self.socket.recv(4, socket.MSG_WAITALL))
        return json.loads(self.socket.recv(length, socket.MSG_WAITALL))

    def end(self):
        self.socket.close()
        self.thread.join(10)
        assert not self.thread.is_alive()


@pytest.fixture
def file_system(monkeypatch):
    """The file system that fsspec gives for "test://"."""
    folder = Folder()

    def url_to_fs(uri, **options):
        assert uri.startswith("test://") and options == {"key": "k"}
        return folder, uri.removeprefix("test://")

    fsspec = types.SimpleNamespace(core=types.SimpleNamespace(url_to_fs=url_to_fs))
    monkeypatch.setitem(sys.modules, "fsspec", fsspec)
    return folder


@pytest.fixture
def raylet(tmp_path, file_system):
    memory = tmp_path / "memory"
    memory.write_bytes(bytes(range(256)) * 256)
    raylet = Raylet(memory)
    answer = raylet.ask(
        op="open",
        memory=str(memory),
        size=65536,
        uri=f"test://{tmp_path}/bucket",
        options={"key": "k"},
    )
    assert answer == {"status": "ok", "message": ""}
    yield raylet
    if raylet.thread.is_alive():
        raylet.end()


def test_pieces_are_stored_in_order_and_read_back(raylet, tmp_path):
    assert raylet.ask(op="write", name="a", pieces=[[256, 3], [10, 2]])["status"] == "ok"
    assert (tmp_path / "bucket" / "a").read_bytes() == bytes([0, 1, 2, 10, 11])
    assert raylet.ask(op="read", name="a", offset=3, into=[1024, 2])["status"] == "ok"
    assert raylet.memory.read_bytes()[1024:1027] == bytes([10, 11, 2])
    assert raylet.ask(op="remove", name="a")["status"] == "ok"
    assert not (tmp_path / "bucket" / "a").exists()


def test_failures_are_told_by_kind(raylet, tmp_path, file_system):
    raylet.ask(op="write", name="a", pieces=[[0, 100]])
    (tmp_path / "bucket" / "a").write_bytes(b"short")
    answer = raylet.ask(op="read", name="a", offset=0, into=[0, 100])
    assert answer["status"] == "lost" and "truncated" in answer["message"]
    assert raylet.ask(op="read", name="b", offset=0, into=[0, 1])["status"] == "lost"
    file_system.room = 0
    answer = raylet.ask(op="write", name="c", pieces=[[0, 1]])
    assert answer["status"] == "full" and "No space" in answer["message"]
    assert raylet.ask(op="write", name="d/e/f", pieces=[["x", 1]])["status"] != "ok"


def test_nothing_is_left_when_the_raylet_is_gone(raylet, tmp_path):
    for name in "abc":
        raylet.ask(op="write", name=name, pieces=[[0, 10]])
    raylet.ask(op="remove", name="b")
    raylet.end()
    assert not (tmp_path / "bucket").exists()


def test_without_fsspec_the_answer_says_what_is_missing(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "fsspec", None)
    raylet = Raylet(tmp_path)
    answer = raylet.ask(op="open", memory="/dev/null", size=1, uri="s3://b", options={})
    assert answer["status"] == "failed" and "pip install fsspec" in answer["message"]
    raylet.end()
