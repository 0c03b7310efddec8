"""Two nodes as on two machines: namespaces of network and of files, and a recorder on the wire."""

import contextlib
import shutil
import subprocess
import sys

import pytest

from integration.command_line import CommandLine
from integration.test_network_namespaces import (  # noqa: F401 (a fixture)
    HEAD_IP,
    NODE_IP,
    may_make_namespaces,
    namespaces,
)
from security.certificates import Authority

pytestmark = [
    pytest.mark.skipif(
        not may_make_namespaces() or shutil.which("nsenter") is None,
        reason="needs the privilege for ip netns",
    ),
]

OFFER = ("--num-cpus=1", "--object-store-memory=400000000")
SECRET = b"what only the two nodes may know "
TOKEN = "a token of which nothing is on the wire"

# Everything that passes an interface, into a file.
RECORD = """
import socket, sys
wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.ntohs(3))
wire.setsockopt(socket.SOL_SOCKET, 33, 256 << 20)  # SO_RCVBUFFORCE
wire.bind(("eth0", 0))
print("ready", flush=True)
with open(sys.argv[1], "wb", buffering=0) as file:
    while True:
        file.write(wire.recv(65536))
"""

PROGRAM = """
import hashlib
import ray

ray.init("auto", log_to_driver=False)
secret = %r
here = ray.get_runtime_context().get_node_id()

@ray.remote(num_cpus=0, resources={"there": 0.1})
def there(argument, inside):
    return ray.get_runtime_context().get_node_id(), argument + ray.get(inside[0])

@ray.remote(num_cpus=0, resources={"there": 0.1})
class Keeper:
    def keep(self, value):
        self.value = value
        return hashlib.sha256(value).hexdigest()
    def give(self):
        return self.value

# In the frame of the task, and as an object of its own.
node, answer = ray.get(there.remote(secret * 10, [ray.put(secret * 10)]), timeout=60)
assert node != here and answer == secret * 20
# 100 MB there and back.
large = secret * (100_000_000 // len(secret))
keeper = Keeper.remote()
assert ray.get(keeper.keep.remote(ray.put(large)), timeout=60) == hashlib.sha256(large).hexdigest()
assert ray.get(keeper.give.remote(), timeout=60) == large
# Many small calls, both ways.
assert len(ray.get([there.remote(b"", [ray.put(b"")]) for _ in range(200)], timeout=60)) == 200
print("all is well")
"""


@contextlib.contextmanager
def machine(namespace, folder):
    """The command line of a machine with its own network, and a folder that no other one sees."""
    folder.mkdir(exist_ok=True)
    hold = f"mount -t tmpfs none {folder} && echo ready && exec sleep infinity"
    command = ["ip", "netns", "exec", namespace, "unshare", "--mount", "sh", "-c", hold]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        try:
            assert holder.stdout.readline() == "ready\n"
            prefix = ("nsenter", f"--target={holder.pid}", "--mount", "--net")
            line = CommandLine(folder, prefix)
            line.environment["RAY_AUTH_TOKEN"] = TOKEN
            try:
                yield line
            finally:
                line.run("stop", "--force")
        finally:
            holder.kill()


@contextlib.contextmanager
def recorder(namespace, path):
    command = ["ip", "netns", "exec", namespace, sys.executable, "-c", RECORD, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout.readline() == "ready\n"
            yield
        finally:
            process.kill()


def start(head, node, *flags):
    head.run("start", "--head", *OFFER, *flags)
    there = '--resources={"there": 1}'
    node.run("start", f"--address={HEAD_IP}:6379", there, *OFFER, *flags)


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_what_the_wire_shows(namespaces, tmp_path, tls):  # noqa: F811
    """With TLS nothing of arguments, values, objects and the token; without it, all of them: so
    the recorder does see them."""
    flags = ()
    if tls:
        names = f"IP:{HEAD_IP},IP:{NODE_IP}"
        authority = Authority(tmp_path / "authority", names)
        flags = authority.options()
    recorded = tmp_path / "recorded"
    folder = tmp_path / "machine"
    with (
        machine(namespaces[0], folder) as head,
        machine(namespaces[1], folder) as node,
        recorder(namespaces[0], recorded),
    ):
        start(head, node, *flags)
        assert "all is well" in head.python(PROGRAM % SECRET)
        # A driver on the other machine, whose tasks run there and here.
        assert "2 CPU" in node.run("status")
    seen = recorded.read_bytes()
    assert len(seen) > 200_000_000 * 0.5
    for what in (SECRET, TOKEN.encode()):
        assert (what in seen) is not tls


def test_nodes_with_and_without_tls_do_not_mix(namespaces, tmp_path):  # noqa: F811
    authority = Authority(tmp_path / "authority", f"IP:{HEAD_IP},IP:{NODE_IP}")
    folder = tmp_path / "machine"
    settings = '--system-config={"gcs_rpc_timeout_ms": 3000}'
    with machine(namespaces[0], folder) as head, machine(namespaces[1], folder) as node:
        head.run("start", "--head", *OFFER, *authority.options())
        refused = node.run("start", f"--address={HEAD_IP}:6379", *OFFER, settings, code=1)
        assert "did not answer" in refused
