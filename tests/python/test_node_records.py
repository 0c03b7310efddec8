"""Records of nodes: who finds them, when they count, and which node one joins."""

import json
import os
import stat
import subprocess
import sys

import pytest

from ray import _joining, _node_records
from ray._node_records import NodeRecord, ProcessId
from ray.exceptions import RaySystemError


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    return tmp_path / "ray"


@pytest.fixture
def write(folder):
    """Writes the record of a node whose raylet is this process, unless told otherwise."""

    def write_one(name, **fields):
        session = folder / name
        session.mkdir(parents=True)
        record = NodeRecord(
            **{
                "session_dir": str(session),
                "gcs_address": "127.0.0.1:6379",
                "raylet_endpoint": f"unix:{session}/sockets/raylet",
                "node_id": "ab" * 28,
                "node_ip": "127.0.0.1",
                "token_file": f"{session}/token",
                "is_head": True,
                "started_by": _node_records.RAY_START,
                "start_time": 1.0,
                "machine": _node_records.this_machine(),
                "processes": {"raylet": ProcessId.of(os.getpid())},
                **fields,
            }
        )
        _node_records.write(record)
        return record

    return write_one


def ended_process():
    process = subprocess.Popen([sys.executable, "-c", ""])
    identity = ProcessId.of(process.pid)
    process.wait()
    return identity


def test_record_is_found_as_it_was_written(write, folder):
    record = write("one")
    assert _node_records.known() == [record]
    path = folder / "one" / "node.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert json.loads(path.read_text())["gcs_address"] == "127.0.0.1:6379"
    _node_records.remove(record.session_dir)
    _node_records.remove(record.session_dir)
    assert _node_records.known() == []
    assert not path.exists()


def test_pid_that_was_given_out_again_is_not_the_process(write):
    own = ProcessId.of(os.getpid())
    assert own.is_alive()
    assert not ProcessId(own.pid, own.start_time + 1).is_alive()


def test_process_that_is_not_reaped_yet_has_ended():
    process = subprocess.Popen([sys.executable, "-c", ""])
    identity = ProcessId.of(process.pid)
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert not identity.is_alive()
    process.wait()


def test_node_without_processes_is_forgotten(write, folder):
    session = folder / "gone"
    write("gone", processes={"raylet": ended_process()})
    for name in ("logs", "sockets", "spill"):
        (session / name).mkdir()
    (session / "token").write_text("secret")
    assert _node_records.known() == []
    assert os.listdir(session) == ["logs"]
    assert os.listdir(folder / f"nodes_{os.geteuid()}") == []


def test_node_with_a_process_left_can_be_stopped_but_not_joined(write):
    own = ProcessId.of(os.getpid())
    record = write("half", processes={"raylet": ended_process(), "gcs_server": own})
    assert record.living_processes() == {"gcs_server": own}
    assert _node_records.known() == [record]
    with pytest.raises(ConnectionError):
        _joining.find_node("auto")


def test_nodes_of_another_machine_are_left_alone(write):
    write("far", machine="net:[1] pid:[1]", processes={"raylet": ended_process()})
    assert _node_records.known() == []
    assert os.listdir(_node_records._links_folder()) == ["far"]


def test_damaged_record_is_forgotten(write, folder):
    write("damaged")
    (folder / "damaged" / "node.json").write_text("{")
    assert _node_records.known() == []


def test_list_of_nodes_that_others_may_write_is_refused(write, folder):
    write("one")
    os.chmod(folder / f"nodes_{os.geteuid()}", 0o755)
    with pytest.raises(RaySystemError, match="RAY_TMPDIR"):
        _node_records.known()


# --- Which node is joined


def test_cluster_of_ray_start_comes_first(write):
    started = write("a", gcs_address="127.0.0.1:1", start_time=1)
    other = write("b", gcs_address="127.0.0.1:2", start_time=2, started_by=_node_records.RAY_INIT)
    assert _joining.find_node("auto") == started
    assert _joining.node_for_driver(None) == started
    assert _joining.find_node("127.0.0.1:2") == other


def test_cluster_of_a_program_is_joined_only_on_request(write):
    record = write("b", started_by=_node_records.RAY_INIT)
    assert _joining.node_for_driver(None) is None
    assert _joining.node_for_driver("auto") == record


def test_local_is_never_joined(write, monkeypatch):
    write("a")
    assert _joining.node_for_driver("local") is None
    monkeypatch.setenv("RAY_ADDRESS", "local")
    assert _joining.node_for_driver(None) is None


def test_environment_says_the_address(write, monkeypatch):
    record = write("b", started_by=_node_records.RAY_INIT)
    monkeypatch.setenv("RAY_ADDRESS", "auto")
    assert _joining.node_for_driver(None) == record


def test_latest_cluster_and_its_head_are_preferred(write):
    write("a", gcs_address="127.0.0.1:1", start_time=1)
    write("worker", gcs_address="127.0.0.1:2", start_time=2, is_head=False)
    head = write("head", gcs_address="127.0.0.1:2", start_time=3)
    assert _joining.find_node("auto") == head
    assert _joining.find_node("localhost:2") == head


def test_other_folder_for_sessions_has_other_clusters(write, tmp_path):
    record = write("a")
    assert _joining.node_for_driver(None, str(tmp_path / "elsewhere")) is None
    assert _joining.node_for_driver(None, os.path.dirname(record.session_dir)) == record


def test_any_address_of_this_machine_is_the_same(write):
    record = write("a", gcs_address="127.0.0.2:6379")
    assert _joining.find_node("127.0.0.1:6379") == record


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("auto", "ray start --head"),
        ("127.0.0.1:1", "ray start --address=127.0.0.1:1"),
        ("somewhere", "HOST:PORT"),
        ("127.0.0.1:0", "HOST:PORT"),
        ("127.0.0.1:70000", "HOST:PORT"),
        ("ray://127.0.0.1:10001", "Ray Client"),
    ],
)
def test_address_without_a_node_here_is_refused(address, message):
    with pytest.raises(ConnectionError, match=message):
        _joining.node_for_driver(address)
