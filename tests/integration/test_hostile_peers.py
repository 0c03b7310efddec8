"""Peers that do not speak the wire protocol."""

import os
import pathlib
import socket
import stat
import struct

import pytest

import ray
from integration.programs import wait_until

pytestmark = pytest.mark.ours_only

MAGIC = 0x31544E4D
HELLO = 1


def frame(body=b"", *, body_size=None, metadata_size=0, kind=HELLO, flags=0, magic=MAGIC):
    size = len(body) if body_size is None else body_size
    return struct.pack("<IIHHIQ", size, metadata_size, kind, flags, magic, 1) + body


HOSTILE = {
    "garbage": os.urandom(4096),
    "http": b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "huge": frame(body_size=0xFFFFFFFF),
    "metadata beyond the body": frame(b"abc", metadata_size=100),
    "unknown flags": frame(flags=0x8000),
    "unknown type before hello": frame(kind=999),
    "broken hello": frame(b"\xff" * 64, metadata_size=64),
    "truncated": frame(body_size=1000)[:20],
    "nothing": b"",
}


def raylet_socket(session_dir):
    """The socket that workers and drivers connect to."""
    found = [
        path
        for path in pathlib.Path(session_dir).rglob("*raylet*")
        if stat.S_ISSOCK(path.stat().st_mode)
    ]
    assert len(found) == 1, found
    return str(found[0])


def logs(session_dir):
    return "".join(
        path.read_text(errors="replace")
        for path in (pathlib.Path(session_dir) / "logs").glob("*raylet*")
    )


@ray.remote
def echo(value):
    return value


@pytest.mark.parametrize("data", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_bytes_cost_only_their_connection(cluster, data):
    session_dir = cluster.address_info["session_dir"]
    steady = echo.remote("steady")
    with socket.socket(socket.AF_UNIX) as peer:
        peer.settimeout(20)
        peer.connect(raylet_socket(session_dir))
        peer.sendall(data)
        peer.shutdown(socket.SHUT_WR)
        while peer.recv(65536):  # perhaps an ERROR frame, then the end
            pass
    assert ray.get([steady, echo.remote("after")]) == ["steady", "after"]


def test_reason_of_the_close_is_logged(cluster):
    session_dir = cluster.address_info["session_dir"]
    with socket.socket(socket.AF_UNIX) as peer:
        peer.connect(raylet_socket(session_dir))
        peer.sendall(HOSTILE["http"])
        wait_until(lambda: "magic" in logs(session_dir))
