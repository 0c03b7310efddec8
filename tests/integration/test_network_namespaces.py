"""A head and a node in network namespaces of their own, as on two machines."""

import contextlib
import json
import os
import re

import pytest

from integration.command_line import CommandLine
from integration.machines import ip, may_make_namespaces, must

HEAD_IP, NODE_IP = "10.213.7.1", "10.213.7.2"
SMALL = ("--num-cpus=1", "--object-store-memory=80000000")


pytestmark = [
    pytest.mark.ours_only,
    pytest.mark.skipif(not may_make_namespaces(), reason="needs the privilege for ip netns"),
]


@pytest.fixture
def namespaces():
    """Two network namespaces that reach each other, and nothing else, by one address each."""
    names = [f"manta{os.getpid()}{letter}" for letter in "ab"]
    with contextlib.ExitStack() as stack:
        for name in names:
            must("ip", "netns", "add", name)
            stack.callback(ip, "netns", "delete", name)
        must(
            *("ip", "-n", names[0], "link", "add", "eth0", "type", "veth"),
            *("peer", "name", "eth0", "netns", names[1]),
        )
        for name, address in zip(names, (HEAD_IP, NODE_IP)):
            must("ip", "-n", name, "link", "set", "lo", "up")
            must("ip", "-n", name, "address", "add", f"{address}/24", "dev", "eth0")
            must("ip", "-n", name, "link", "set", "eth0", "up")
            must("ip", "-n", name, "route", "add", "default", "dev", "eth0")
        yield names


@pytest.fixture
def machines(namespaces, tmp_path):
    """The command line in each namespace. They share the folder of sessions, and yet see only their
    own nodes."""
    commands = [CommandLine(tmp_path, prefix=("ip", "netns", "exec", name)) for name in namespaces]
    yield commands
    for command in commands:
        command.run("stop", "--force")


JOIN = """
import json, sys
import ray
context = ray.init("auto", log_to_driver=False)
print(json.dumps([context.address_info, ray.nodes()]))
"""


def test_node_joins_over_the_network(machines):
    head, node = machines
    started = head.run("start", "--head", *SMALL)
    address = re.search(r"--address='([^']+)'", started).group(1)
    assert address == f"{HEAD_IP}:6379"
    (folder,) = re.findall(r"folder: (.+)", started)
    token = os.path.join(folder, "token")
    # Each machine has only nodes of its own.
    assert "No cluster" in node.run("status", code=1)
    assert "--token-file" in node.run("start", f"--address={address}", *SMALL, code=1)
    node.run("start", f"--address={address}", f"--token-file={token}", *SMALL)
    for machine, own_ip in ((head, HEAD_IP), (node, NODE_IP)):
        addresses, nodes = json.loads(machine.python(JOIN))
        assert addresses["address"] == address
        assert addresses["node_ip_address"] == own_ip
        assert {row["NodeManagerAddress"] for row in nodes} == {HEAD_IP, NODE_IP}
        assert all(row["Alive"] for row in nodes)
        assert "of 2 CPU" in machine.run("status")
    assert "Stopped 1 node." in node.run("stop")
    assert "Stopped 1 node." in head.run("stop")
