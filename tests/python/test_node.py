"""What a driver prepares for its node."""

import os
import stat

import pytest

from ray import _node


def test_config_is_written_as_the_daemons_read_it():
    config = {"lease_linger_ms": 5, "switch": True, "text": "a b"}
    assert _node.format_config(config) == "lease_linger_ms=5,switch=true,text=a b"
    with pytest.raises(ValueError, match="comma"):
        _node.format_config({"text": "a,b"})


def test_session_folder_is_private(tmp_path):
    folder = _node._make_session_folder(str(tmp_path / "ray"))
    mode = stat.S_IMODE(os.stat(folder).st_mode)
    token = os.path.join(folder, "token")
    assert mode == 0o700
    assert stat.S_IMODE(os.stat(token).st_mode) == 0o600
    assert os.path.getsize(token) >= 32
    assert {"logs", "sockets"} <= set(os.listdir(folder))


def test_latest_session_is_linked(tmp_path):
    folders = [_node._make_session_folder(str(tmp_path)) for _ in range(2)]
    assert folders[0] != folders[1]
    assert os.path.realpath(tmp_path / "session_latest") == os.path.realpath(folders[1])


def test_own_address_is_one_of_this_machine():
    assert _node._own_ip().count(".") == 3
