"""How the daemons of these tests are started."""

import sys

TOKEN = "correct horse battery staple"
SETTINGS = "handshake_timeout_ms=500,unproven_connections_max=16,node_dead_timeout_ms=2000"


def gcs_flags(folder, port):
    return (
        f"--listen=tcp:127.0.0.1:{port}",
        "--storage=memory",
        f"--token_file={folder}/token",
        f"--log_file={folder}/logs/gcs_server.log",
        f"--config={SETTINGS}",
    )


def raylet_flags(folder, gcs_port, port):
    return (
        f"--gcs_address=tcp:127.0.0.1:{gcs_port}",
        f"--listen=unix:{folder}/raylet",
        f"--listen_tcp=tcp:127.0.0.1:{port}",
        f"--token_file={folder}/token",
        f"--session_dir={folder}",
        f"--zygote_command={sys.executable} -m ray._zygote",
        *("--num_cpus=1", "--num_gpus=0", "--object_store_memory=100000000", "--head"),
        f"--log_file={folder}/logs/raylet.log",
        f"--config={SETTINGS}",
    )
