"""TLS of the GCS: mutual, and by the names that Ray's users know."""

import socket
import ssl
import subprocess

import pytest

from security import http2
from security.cluster import TOKEN, gcs_flags, raylet_flags
from security.peers import TIMEOUT_S, Daemon, daemon, free_port, unharmed
from security.test_gcs_attacks import GET_A_KEY, KV, OK, UNAUTHENTICATED


def openssl(*arguments):
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)


class Authority:
    """Signs certificates for 127.0.0.1."""

    def __init__(self, folder):
        folder.mkdir()
        self.folder = folder
        self.certificate = folder / "ca.crt"
        key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
        openssl(
            *("req", "-x509", *key, "-days", "2", "-subj", "/CN=authority"),
            *("-keyout", folder / "ca.key", "-out", self.certificate),
        )
        openssl(
            *("req", *key, "-subj", "/CN=node"),
            *("-keyout", folder / "node.key", "-out", folder / "node.csr"),
        )
        (folder / "names").write_text("subjectAltName=IP:127.0.0.1,DNS:localhost")
        openssl(
            *("x509", "-req", "-in", folder / "node.csr", "-days", "2", "-CAcreateserial"),
            *("-CA", self.certificate, "-CAkey", folder / "ca.key"),
            *("-extfile", folder / "names", "-out", folder / "node.crt"),
        )

    def flags(self):
        return (
            f"--tls_cert_file={self.folder}/node.crt",
            f"--tls_key_file={self.folder}/node.key",
            f"--tls_ca_file={self.certificate}",
        )

    def environment(self):
        return {
            "RAY_USE_TLS": "1",
            "RAY_TLS_SERVER_CERT": f"{self.folder}/node.crt",
            "RAY_TLS_SERVER_KEY": f"{self.folder}/node.key",
            "RAY_TLS_CA_CERT": str(self.certificate),
        }


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


def call_over_tls(gcs, trusted, own, token):
    """The status of a call; ssl.SSLError or None if one side does not take the other."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(trusted.certificate)
    context.set_alpn_protocols(["h2"])
    if own is not None:
        context.load_cert_chain(own.folder / "node.crt", own.folder / "node.key")
    with (
        gcs.connect() as plain,
        context.wrap_socket(plain, server_hostname="127.0.0.1") as peer,
    ):
        peer.sendall(http2.call(KV, GET_A_KEY, authorization=f"Bearer {token}"))
        return http2.status_of(peer)


def still_serves(gcs, authority):
    assert call_over_tls(gcs, authority, authority, TOKEN) == OK


def test_members_get_in(tls_gcs, authority):
    still_serves(tls_gcs, authority)


def test_certificate_does_not_stand_for_the_token(tls_gcs, authority):
    assert call_over_tls(tls_gcs, authority, authority, "wrong") == UNAUTHENTICATED


def test_strangers_do_not_get_as_far_as_the_token(tls_gcs, authority, other_authority):
    still_serves(tls_gcs, authority)
    with unharmed(tls_gcs):
        for own in (None, other_authority):
            try:
                assert call_over_tls(tls_gcs, authority, own, TOKEN) is None
            except OSError:
                pass  # refused within the handshake
        with tls_gcs.connect() as plain:
            plain.sendall(http2.call(KV, GET_A_KEY, authorization=f"Bearer {TOKEN}"))
            assert http2.status_of(plain) is None
    still_serves(tls_gcs, authority)


def test_peers_that_do_not_finish_the_handshake_are_cut_off(tls_gcs, authority):
    still_serves(tls_gcs, authority)
    with unharmed(tls_gcs):
        for data in (b"", b"\x16\x03\x01\x02\x00\x01"):
            with socket.create_connection(("127.0.0.1", tls_gcs.port), TIMEOUT_S) as peer:
                peer.sendall(data)
                assert http2.status_of(peer) is None
    still_serves(tls_gcs, authority)


def test_raylet_joins_over_tls(binaries, folder, tls_gcs, authority):
    flags = raylet_flags(folder, tls_gcs.port, free_port())
    with daemon(binaries / "raylet", *flags, **authority.environment()) as (ready, _):
        assert "node_id" in ready, ready


def test_raylet_of_another_authority_does_not_join(binaries, folder, tls_gcs, other_authority):
    flags = raylet_flags(folder, tls_gcs.port, free_port())
    flags = (*flags, *other_authority.flags(), "--config=gcs_rpc_timeout_ms=2000")
    with daemon(binaries / "raylet", *flags) as (ready, _):
        assert "did not answer" in ready["error"]


def test_half_a_set_of_files_ends_the_start(binaries, folder, authority):
    flags = (*gcs_flags(folder, free_port()), *authority.flags()[:1])
    with daemon(binaries / "gcs_server", *flags) as (ready, _):
        assert "--tls_key_file" in ready["error"]
