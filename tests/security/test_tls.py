"""TLS of the GCS: mutual, and by the names that Ray's users know."""

import socket

from security import http2
from security.cluster import TOKEN, gcs_flags, raylet_flags
from security.peers import TIMEOUT_S, daemon, free_port, unharmed
from security.test_gcs_attacks import GET_A_KEY, KV, OK, UNAUTHENTICATED


def call_over_tls(gcs, trusted, own, token):
    """The status of a call; ssl.SSLError or None if one side does not take the other."""
    context = trusted.client(own)
    context.check_hostname = True
    context.set_alpn_protocols(["h2"])
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
