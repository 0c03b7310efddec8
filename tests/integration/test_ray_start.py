"""Clusters that the program ``ray`` starts, shows and stops, and programs that join them."""

import json
import os
import pathlib
import signal
import socket
import time

import pytest
from click.testing import CliRunner

from integration.command_line import CommandLine
from integration.programs import is_running, wait_until
from ray.scripts import main

pytestmark = pytest.mark.ours_only

LOOPBACK = "--node-ip-address=127.0.0.1"
SMALL = ("--num-cpus=1", "--object-store-memory=80000000")

JOIN = """
import json, sys
import ray
context = ray.init(sys.argv[1] if len(sys.argv) > 1 else None, log_to_driver=False)
@ray.remote(num_cpus=0)
def pid():
    import os
    return os.getpid()
ray.get(pid.remote(), timeout=30)
print(json.dumps({"address": context.address_info["address"], "nodes": ray.nodes(),
                  "job": ray.get_runtime_context().get_job_id()}))
"""


@pytest.fixture
def ray_command(tmp_path):
    command = CommandLine(tmp_path)
    yield command
    command.run("stop", "--force")


def records(command):
    folder = pathlib.Path(command.environment["RAY_TMPDIR"]) / "ray"
    return [json.loads(path.read_text()) for path in folder.glob("session_2*/node.json")]


def join(command, *address, **environment):
    return json.loads(command.python(JOIN, *address, **environment).splitlines()[-1])


def test_head_lives_on_until_stop(ray_command):
    address = ray_command.start_head(LOOPBACK)
    (record,) = records(ray_command)
    assert record["gcs_address"] == address and record["started_by"] == "ray start"
    pids = [pid for pid, _ in record["processes"].values()]
    assert len(pids) == 2 and all(map(is_running, pids))
    first, second = join(ray_command), join(ray_command)
    assert first["address"] == address
    assert [node["NodeID"] for node in second["nodes"]] == [record["node_id"]]
    assert first["job"] != second["job"]
    assert all(map(is_running, pids))
    assert "Stopped 1 node." in ray_command.run("stop")
    assert not any(map(is_running, pids))
    assert os.listdir(record["session_dir"]) == ["logs"]
    assert "No node" in ray_command.run("stop")


def test_tools_are_no_jobs(ray_command):
    ray_command.start_head(LOOPBACK)
    assert join(ray_command)["job"] == "01000000"
    ray_command.run("status")
    assert join(ray_command)["job"] == "02000000"


def test_every_way_to_name_the_cluster(ray_command):
    address = ray_command.start_head(LOOPBACK)
    port = address.rpartition(":")[2]
    for name in ("auto", address, f"localhost:{port}"):
        assert join(ray_command, name)["address"] == address
    assert join(ray_command, RAY_ADDRESS=address)["address"] == address
    assert join(ray_command, "local")["address"] != address


def test_what_a_new_node_offers_cannot_be_said_to_a_running_one(ray_command):
    address = ray_command.start_head(LOOPBACK)
    printed = ray_command.python("""
import ray
for arguments in ({"num_cpus": 2}, {"num_gpus": 1}, {"resources": {"a": 1}}, {"labels": {"a": "b"}},
                  {"object_store_memory": 10**8}, {"_system_config": {"lease_linger_ms": 1}}):
    try:
        ray.init(**arguments)
    except ValueError as error:
        print(error)
ray.init(_memory=1000)
print(ray.cluster_resources()["CPU"])
""")
    lines = printed.splitlines()
    assert all("When connecting to an existing cluster" in line for line in lines[:6])
    assert all(address in line for line in lines[:6])
    assert "num_cpus and num_gpus must not be provided" in lines[0]
    assert "_system_config must not be provided" in lines[5]
    assert lines[6:] == ["1.0"]


def test_second_node_joins_by_the_address(ray_command):
    address = ray_command.start_head(LOOPBACK)
    ray_command.run(
        *("start", f"--address={address}", "--num-cpus=3", "--num-gpus=1"),
        *('--resources={"disk": 2}', "--labels=zone=a,rack=r1", "--object-store-memory=80000000"),
    )
    nodes = join(ray_command)["nodes"]
    (added,) = [node for node in nodes if node["Resources"]["CPU"] == 3]
    assert len(nodes) == 2 and all(node["Alive"] for node in nodes)
    assert len({node["NodeManagerPort"] for node in nodes}) == 2
    assert added["Resources"]["disk"] == 2 and added["Resources"]["GPU"] == 1
    assert added["Labels"]["zone"] == "a" and added["Labels"]["rack"] == "r1"
    status = ray_command.run("status")
    assert f"Cluster at {address}" in status and "of 4 CPU" in status
    assert status.count("127.0.0.1") == 3
    assert added["NodeID"] in ray_command.run("status", "-v", "--address", address)
    assert "Stopped 2 nodes." in ray_command.run("stop")


def test_node_of_another_user_or_machine_needs_the_token(ray_command, tmp_path):
    """Another folder for sessions stands for another machine: no record is found there."""
    address = ray_command.start_head(LOOPBACK)
    (record,) = records(ray_command)
    other = CommandLine(tmp_path / "other")
    try:
        refused = other.run("start", f"--address={address}", *SMALL, code=1)
        assert "--token-file" in refused and "RAY_AUTH_TOKEN" in refused
        wrong = other.run("start", f"--address={address}", *SMALL, code=1, RAY_AUTH_TOKEN="wrong")
        assert "Traceback" not in wrong
        token = pathlib.Path(record["token_file"])
        other.run("start", f"--address={address}", f"--token-file={token}", *SMALL)
        other.run("start", f"--address={address}", *SMALL, RAY_AUTH_TOKEN=token.read_text())
        other.run("start", f"--address={address}", *SMALL, RAY_AUTH_TOKEN_PATH=str(token))
        assert len(join(other, address)["nodes"]) == 4
    finally:
        other.run("stop", "--force")


def test_given_token_is_the_clusters(ray_command, tmp_path):
    token = tmp_path / "my-token"
    token.write_text("0123456789abcdef\n")
    ray_command.start_head(LOOPBACK, f"--token-file={token}")
    (record,) = records(ray_command)
    copy = pathlib.Path(record["token_file"])
    assert copy.read_text() == "0123456789abcdef"
    assert ray_command.run("get-auth-token") == "0123456789abcdef\n"
    assert copy.stat().st_mode & 0o777 == 0o600


def test_stop_leaves_the_nodes_of_programs_alone(ray_command, run_program):
    program = run_program(
        "import ray, time\nray.init(num_cpus=1)\nprint('ready')\ntime.sleep(60)",
        RAY_TMPDIR=ray_command.environment["RAY_TMPDIR"],
    )
    program.line_with("ready")
    (record,) = records(ray_command)
    assert record["started_by"] == "ray.init"
    assert "No node" in ray_command.run("stop")
    assert is_running(record["processes"]["raylet"][0])
    # Another program may join it, but only if it says so.
    assert join(ray_command, "auto")["address"] == record["gcs_address"]
    assert join(ray_command)["address"] != record["gcs_address"]
    program.send(signal.SIGKILL)
    wait_until(lambda: not is_running(record["processes"]["raylet"][0]))
    with_nothing = ray_command.run("status", code=1)
    assert "ray start --head" in with_nothing and "Traceback" not in with_nothing


def test_stop_kills_what_does_not_end(ray_command):
    ray_command.start_head(LOOPBACK)
    (record,) = records(ray_command)
    pid = record["processes"]["raylet"][0]
    os.kill(pid, signal.SIGSTOP)
    begin = time.monotonic()
    ray_command.run("stop", "--grace-period=0.5")
    assert time.monotonic() - begin < 30
    assert not is_running(pid)


def test_process_with_a_pid_of_before_is_not_ended(ray_command, run_program):
    """The record of a node that has died names a pid that another program has now."""
    ray_command.start_head(LOOPBACK)
    (record,) = records(ray_command)
    bystander = run_program("import time\nprint('ready')\ntime.sleep(60)")
    bystander.line_with("ready")
    path = pathlib.Path(record["session_dir"]) / "node.json"
    gcs = record["processes"]["gcs_server"]
    record["processes"]["gcs_server"] = [bystander.process.pid, gcs[1]]
    path.write_text(json.dumps(record))
    ray_command.run("stop", "--force")
    assert bystander.process.poll() is None
    os.kill(gcs[0], signal.SIGKILL)


@pytest.mark.parametrize("signal_number", [signal.SIGTERM, signal.SIGINT])
def test_blocking_start_ends_its_node(ray_command, signal_number):
    command = ray_command.popen("start", "--head", "--port=0", LOOPBACK, *SMALL, "--block")
    wait_until(lambda: records(ray_command))
    (record,) = records(ray_command)
    assert command.poll() is None
    command.send_signal(signal_number)
    output, _ = command.communicate(timeout=20)
    assert command.returncode == 0, output
    assert not any(is_running(pid) for pid, _ in record["processes"].values())


def test_blocking_start_fails_with_its_node(ray_command):
    command = ray_command.popen("start", "--head", "--port=0", LOOPBACK, *SMALL, "--block")
    wait_until(lambda: records(ray_command))
    (record,) = records(ray_command)
    os.kill(record["processes"]["raylet"][0], signal.SIGKILL)
    output, _ = command.communicate(timeout=20)
    assert command.returncode == 1 and record["session_dir"] in output


def test_node_of_a_blocking_start_dies_with_it(ray_command):
    command = ray_command.popen("start", "--head", "--port=0", LOOPBACK, *SMALL, "--block")
    wait_until(lambda: records(ray_command))
    (record,) = records(ray_command)
    command.kill()
    command.communicate()
    for pid, _ in record["processes"].values():
        wait_until(lambda pid=pid: not is_running(pid))


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "--head"),
        (("--head", "--address=127.0.0.1:6379"), "either"),
        (("--address=127.0.0.1",), "HOST:PORT"),
        (("--address=127.0.0.1:{free}", "--token-file={token}"), "There is no cluster"),
        (("--address=127.0.0.1:{free}", "--port=1", "--token-file={token}"), "--port"),
        (("--head", "--port={taken}", LOOPBACK), "listens on 127.0.0.1"),
        (("--head", "--port=0", LOOPBACK, "--resources=[]"), "JSON object"),
        (("--head", "--port=0", LOOPBACK, "--resources={{"), "no JSON"),
        (("--head", "--port=0", LOOPBACK, '--resources={{"CPU": 1}}'), "num_cpus"),
        (("--head", "--port=0", LOOPBACK, "--labels=zone"), "KEY=VALUE"),
        (("--head", "--port=0", LOOPBACK, "--num-cpus=-1"), "negative"),
        (("--head", "--port=0", LOOPBACK, "--token-file={empty}"), "no token"),
        (("--head", "--port=0", LOOPBACK, "--token-file=/nowhere/token"), "/nowhere/token"),
        (("--head", "--port=0", "--node-ip-address=192.0.2.77"), "gcs_server"),
        (("--head", "--port=0", LOOPBACK, "--storage=stone"), "stone"),
        (("--head", "--port=0", LOOPBACK, "--tls-cert-file={token}"), "--tls-key-file"),
    ],
)
def test_bad_start_says_why_and_leaves_nothing(tmp_path, monkeypatch, arguments, message):
    for name in ("RAY_ADDRESS", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    (tmp_path / "token").write_text("secret")
    (tmp_path / "empty").write_text("")
    with socket.create_server(("127.0.0.1", 0)) as server:
        values = {
            "token": tmp_path / "token",
            "empty": tmp_path / "empty",
            "free": free_port(),
            "taken": server.getsockname()[1],
        }
        words = [argument.format(**values) for argument in arguments]
        result = CliRunner().invoke(main, ["start", *words])
    assert result.exit_code == 1 and message in result.output
    assert isinstance(result.exception, SystemExit)  # no traceback
    assert not list((tmp_path / "ray").glob("session_2*/[!l]*"))


def test_drained_node_leaves(ray_command):
    address = ray_command.start_head(LOOPBACK)
    ray_command.run("start", f"--address={address}", *SMALL)
    (record,) = [record for record in records(ray_command) if not record["is_head"]]
    ray_command.run(
        *("drain-node", f"--node-id={record['node_id']}", "--deadline-remaining-seconds=30"),
        *("--reason=DRAIN_NODE_REASON_PREEMPTION", "--reason-message=the machine goes"),
    )
    raylet, _ = record["processes"]["raylet"]
    wait_until(lambda: not is_running(raylet))
    status = ray_command.run("status")
    assert f"{record['node_id'][:12]} 127.0.0.1: " in status.split("Dead nodes")[1]
    assert "of 1 CPU" in status
    assert os.listdir(record["session_dir"]) == ["logs"]
    assert "Stopped 1 node." in ray_command.run("stop")


def test_unknown_node_cannot_be_drained(ray_command):
    ray_command.start_head(LOOPBACK)
    reason = ("--reason=DRAIN_NODE_REASON_PREEMPTION", "--reason-message=the machine goes")
    assert "56 hexadecimal" in ray_command.run("drain-node", "--node-id=12", *reason, code=1)
    output = ray_command.run("drain-node", f"--node-id={'ab' * 28}", *reason, code=1)
    assert "Traceback" not in output
    ray_command.run("drain-node", code=2)


def test_detached_actor_outlives_its_driver(ray_command):
    address = ray_command.start_head(LOOPBACK)
    ray_command.python("""
import ray
ray.init("auto", namespace="shared", log_to_driver=False)
@ray.remote(num_cpus=0)
class Store:
    def __init__(self): self.value = 41
    def next(self): self.value += 1; return self.value
kept = Store.options(name="kept", lifetime="detached").remote()
dropped = Store.options(name="dropped").remote()
ray.get([kept.next.remote(), dropped.next.remote()])
""")
    printed = ray_command.python(
        """
import sys, ray
ray.init(sys.argv[1], namespace="shared", log_to_driver=False)
print(ray.get(ray.get_actor("kept").next.remote()))
try:
    ray.get_actor("dropped")
except ValueError:
    print("gone")
""",
        address,
    )
    assert printed.split() == ["43", "gone"]


SPILL = """
import pathlib, sys
import numpy as np
import ray
ray.init(log_to_driver=False)
refs = [ray.put(np.full(20 << 20, i, dtype=np.uint8)) for i in range(8)]
print(all(ray.get(ref)[0] == i for i, ref in enumerate(refs)))
print(pathlib.Path(sys.argv[1]).is_dir())  # the files in it have no names
"""


def test_objects_are_spilled_where_the_node_was_told(ray_command, tmp_path):
    folder = tmp_path / "spilled"
    ray_command.start_head(LOOPBACK, f"--object-spilling-directory={folder}")
    assert ray_command.python(SPILL, str(folder)).split()[-2:] == ["True", "True"]


def test_each_command_has_help():
    assert {"start", "stop", "status", "drain-node", "get-auth-token"} <= set(main.commands)
    for name in main.commands:
        result = CliRunner().invoke(main, [name, "--help"])
        assert result.exit_code == 0 and f"Usage: main {name} " in result.output
