"""What is prepared for a node before its daemons start."""

import os
import stat

import pytest

from ray import _node
from ray._session_folder import (
    default_temp_folder,
    empty_session_folder,
    make_session_folder,
    token_file,
)


def test_config_is_written_as_the_daemons_read_it():
    config = {"lease_linger_ms": 5, "switch": True, "text": "a b"}
    assert _node.format_config(config) == "lease_linger_ms=5,switch=true,text=a b"
    with pytest.raises(ValueError, match="comma"):
        _node.format_config({"text": "a,b"})


def test_session_folder_is_private(tmp_path):
    folder = make_session_folder(str(tmp_path / "ray"))
    mode = stat.S_IMODE(os.stat(folder).st_mode)
    token = os.path.join(folder, "token")
    assert mode == 0o700
    assert stat.S_IMODE(os.stat(token).st_mode) == 0o600
    assert os.path.getsize(token) >= 32
    assert {"logs", "sockets"} <= set(os.listdir(folder))


def test_node_that_joins_gets_the_token_of_the_cluster(tmp_path):
    folder = make_session_folder(str(tmp_path), "the-token")
    with open(token_file(folder)) as file:
        assert file.read() == "the-token"


def test_only_logs_stay_of_a_session(tmp_path):
    folder = make_session_folder(str(tmp_path))
    empty_session_folder(folder)
    empty_session_folder(folder)
    assert os.listdir(folder) == ["logs"]


def test_latest_session_is_linked(tmp_path):
    folders = [make_session_folder(str(tmp_path)) for _ in range(2)]
    assert folders[0] != folders[1]
    assert os.path.realpath(tmp_path / "session_latest") == os.path.realpath(folders[1])


def test_environment_moves_the_folder_of_all_sessions(monkeypatch):
    monkeypatch.setenv("RAY_TMPDIR", "/somewhere")
    assert default_temp_folder() == "/somewhere/ray"
    monkeypatch.delenv("RAY_TMPDIR")
    assert default_temp_folder() == "/tmp/ray"


def test_own_address_is_one_of_this_machine():
    assert _node.own_ip().count(".") == 3
    assert _node.own_ip("127.0.0.1") == "127.0.0.1"
