"""The programs of a node, started by hand."""

import contextlib
import json
import os
import pathlib
import signal
import subprocess

import pytest

import ray
from integration.programs import wait_until

pytestmark = pytest.mark.ours_only

BINARIES = pathlib.Path(ray.__file__).parent / "bin"


@pytest.mark.parametrize(
    ("program", "flags"),
    [
        ("gcs_server", ["listen", "storage", "token_file", "log_file", "ready_fd", "lifeline_fd"]),
        ("raylet", ["gcs_address", "listen", "session_dir", "num_cpus", "object_store_memory"]),
    ],
)
def test_help_describes_the_flags(program, flags):
    run = subprocess.run([BINARIES / program, "--help"], capture_output=True, text=True)
    for flag in flags:
        described = [line for line in run.stdout.splitlines() if f"--{flag} (" in line]
        assert described and len(described[0].split("(", 1)[1]) > 10, run.stdout


@contextlib.contextmanager
def daemon(program, *flags):
    """Starts it and yields (what it reported when it was ready, its process)."""
    reader, writer = os.pipe()
    command = [BINARIES / program, *flags, f"--ready_fd={writer}"]
    process = subprocess.Popen(command, pass_fds=[writer])
    os.close(writer)
    try:
        with os.fdopen(reader) as pipe:
            yield json.loads(pipe.readline()), process
    finally:
        process.kill()
        process.wait()


def test_node_runs_without_a_driver_and_ends_on_request(tmp_path):
    token = tmp_path / "token"
    token.write_text("secret")
    token.chmod(0o600)
    (tmp_path / "logs").mkdir()
    gcs_socket, raylet_socket = tmp_path / "gcs", tmp_path / "raylet"
    with (
        daemon(
            "gcs_server",
            *(f"--listen=unix:{gcs_socket}", "--storage=memory", f"--token_file={token}"),
        ) as (gcs_ready, gcs),
        daemon(
            "raylet",
            *(f"--gcs_address=unix:{gcs_socket}", f"--listen=unix:{raylet_socket}"),
            *(f"--token_file={token}", f"--session_dir={tmp_path}", "--num_cpus=1", "--head"),
            *("--node_ip=127.0.0.1", "--object_store_memory=100000000", "--resources={}"),
        ) as (raylet_ready, raylet),
    ):
        assert gcs_ready["endpoints"] == [f"unix:{gcs_socket}"]
        assert len(bytes.fromhex(raylet_ready["node_id"])) == 28
        for process, socket in ((raylet, raylet_socket), (gcs, gcs_socket)):
            assert socket.exists()
            process.send_signal(signal.SIGTERM)
            wait_until(lambda process=process: process.poll() is not None, timeout_s=5)
            assert process.returncode == 0
            assert not socket.exists()


def test_bad_flags_end_a_daemon_with_a_message():
    for program in ("gcs_server", "raylet"):
        command = [BINARIES / program, "--listen=carrier-pigeon"]
        run = subprocess.run(command, capture_output=True, text=True, timeout=10)
        assert run.returncode != 0
        assert run.stderr.strip()
