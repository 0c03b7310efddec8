"""A cluster of one node, whose daemons listen on TCP as those of a real one do."""

import importlib.util
import os
import pathlib
import sys

import pytest

from security.certificates import Authority
from security.cluster import TOKEN, gcs_flags, raylet_flags
from security.peers import Daemon, daemon, free_port


@pytest.fixture(scope="session")
def binaries():
    spec = importlib.util.find_spec("ray")
    found = pathlib.Path(spec.submodule_search_locations[0]) / "bin" if spec else None
    if found is None or not (found / "raylet").exists():
        pytest.skip("the binaries are not built")
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("session")
    path.chmod(0o700)
    (path / "logs").mkdir()
    token = path / "token"
    token.touch(mode=0o600)
    token.write_text(TOKEN)
    return path


@pytest.fixture(scope="module")
def gcs(binaries, folder):
    port = free_port()
    with daemon(binaries / "gcs_server", *gcs_flags(folder, port)) as (ready, process):
        assert ready == {"endpoints": [f"tcp:127.0.0.1:{port}"]}
        yield Daemon(process, port)


@pytest.fixture(scope="module")
def raylet(binaries, folder, gcs):
    port = free_port()
    path = os.pathsep.join([str(binaries.parents[1]), *sys.path])
    flags = raylet_flags(folder, gcs.port, port)
    with daemon(binaries / "raylet", *flags, PYTHONPATH=path) as (ready, process):
        assert "node_id" in ready, ready
        yield Daemon(process, port)


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("tls") / "ours")


@pytest.fixture(scope="module")
def other_authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("tls") / "theirs")


@pytest.fixture(scope="module")
def tls_gcs(binaries, folder, authority):
    port = free_port()
    flags = (*gcs_flags(folder, port), *authority.flags())
    with daemon(binaries / "gcs_server", *flags) as (ready, process):
        assert "endpoints" in ready, ready
        yield Daemon(process, port)


@pytest.fixture(scope="module")
def tls_raylet(binaries, folder, tls_gcs, authority):
    port = free_port()
    path = os.pathsep.join([str(binaries.parents[1]), *sys.path])
    flags = (*raylet_flags(folder, tls_gcs.port, port), *authority.flags())
    with daemon(binaries / "raylet", *flags, PYTHONPATH=path) as (ready, process):
        assert "node_id" in ready, ready
        yield Daemon(process, port)
