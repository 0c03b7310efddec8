"""Attacks on the TCP port of a running raylet that speaks TLS."""

import os
import ssl
import time

import pytest

from integration.programs import wait_until
from security.cluster import TOKEN, raylet_flags
from security.peers import (
    CHALLENGE,
    HELLO_FRAME,
    REFUSED,
    authenticate,
    daemon,
    frame,
    free_port,
    hello,
    receive_message,
    receive_rest,
    unharmed,
)
from security.test_wire_attacks import HOSTILE, NONCE

ALERT_BYTES = 7  # all that TLS says to a peer that does not know it


def over_tls(raylet, trusted, own):
    return trusted.client(own).wrap_socket(raylet.connect())


def still_serves(raylet, authority):
    with over_tls(raylet, authority, authority) as peer:
        assert peer.version() == "TLSv1.3"
        peer.sendall(hello(NONCE))
        assert receive_message(peer)[0] == CHALLENGE


@pytest.mark.parametrize("data", [data for data, _ in HOSTILE.values()], ids=HOSTILE.keys())
def test_plain_bytes_are_refused(tls_raylet, authority, data):
    still_serves(tls_raylet, authority)
    with unharmed(tls_raylet):
        for _ in range(20):
            with tls_raylet.connect() as peer:
                try:
                    peer.sendall(data)
                    peer.shutdown(1)
                except OSError:
                    pass  # refused while it was being sent
                assert len(receive_rest(peer)) <= ALERT_BYTES
    still_serves(tls_raylet, authority)


def test_plain_member_is_refused(tls_raylet, folder):
    """Who has the token and no TLS gets no answer, and the log says why."""
    with tls_raylet.connect() as peer:
        peer.sendall(hello(NONCE))
        assert receive_rest(peer) == b""

    def is_logged():
        with tls_raylet.connect() as peer:
            peer.sendall(hello(NONCE))
            receive_rest(peer)
        log = (folder / "logs" / "raylet.log").read_text()
        return "does not speak TLS" in log and "peer at 127.0.0.1" in log

    wait_until(is_logged)


@pytest.mark.parametrize("whose", ["nobody's", "another authority's"])
def test_strangers_do_not_get_as_far_as_the_proof(tls_raylet, authority, other_authority, whose):
    own = None if whose == "nobody's" else other_authority
    still_serves(tls_raylet, authority)
    with unharmed(tls_raylet):
        for _ in range(20):
            try:
                with over_tls(tls_raylet, authority, own) as peer:
                    peer.sendall(hello(NONCE))
                    assert receive_rest(peer) == b""
            except (ssl.SSLError, ConnectionError):
                pass  # told so by TLS
    still_serves(tls_raylet, authority)


def test_certificate_does_not_stand_for_the_token(tls_raylet, authority):
    with unharmed(tls_raylet), over_tls(tls_raylet, authority, authority) as peer:
        answer, proved = authenticate(peer, "wrong")
        assert not proved
        assert answer[0] == REFUSED
    still_serves(tls_raylet, authority)


def test_proof_of_another_session_is_refused(tls_raylet, authority):
    """The right certificate, and a right proof that does not cover this session of TLS: so it looks
    when somebody between two members hands on what they say."""
    with unharmed(tls_raylet), over_tls(tls_raylet, authority, authority) as peer:
        answer, proved = authenticate(peer, TOKEN)
        assert not proved
        assert answer[0] == REFUSED
    still_serves(tls_raylet, authority)


def test_frames_before_the_proof_are_refused(tls_raylet, authority):
    with unharmed(tls_raylet):
        for data in (frame(b"\x08\x01", kind=HELLO_FRAME), os.urandom(1000), bytes(100_000)):
            with over_tls(tls_raylet, authority, authority) as peer:
                try:
                    peer.sendall(data)
                    assert receive_rest(peer) == b""
                except OSError:
                    pass
    still_serves(tls_raylet, authority)


def test_earlier_versions_are_refused(tls_raylet, authority):
    context = authority.client(authority)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with unharmed(tls_raylet), pytest.raises(OSError):
        context.wrap_socket(tls_raylet.connect())
    still_serves(tls_raylet, authority)


def test_handshakes_that_stop_half_way_are_cut_off(tls_raylet, authority):
    started = time.monotonic()
    with unharmed(tls_raylet):
        for data in (b"", b"\x16", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"):
            with tls_raylet.connect() as peer:
                peer.sendall(data)
                assert len(receive_rest(peer)) <= ALERT_BYTES
    assert time.monotonic() - started < 10
    still_serves(tls_raylet, authority)


def test_long_handshake_is_cut_off_by_its_size(tls_raylet, authority):
    """A first message announced as one of 120 kB, which many strangers could send at once."""
    with unharmed(tls_raylet), tls_raylet.connect() as peer, pytest.raises(OSError):
        peer.sendall(b"\x16\x03\x01\x3e\x80\x01\x01\xd4\xbc" + bytes(16_000 - 4))
        for _ in range(1000):
            peer.sendall(b"\x16\x03\x01\x3e\x80" + bytes(16_000))
            time.sleep(0.01)
    still_serves(tls_raylet, authority)


def test_port_scan_and_floods_leave_nothing(tls_raylet, authority):
    still_serves(tls_raylet, authority)
    with unharmed(tls_raylet):
        for _ in range(500):
            tls_raylet.connect().close()
        before = tls_raylet.descriptors()
        flood = [tls_raylet.connect() for _ in range(100)]
        for _ in range(20):
            assert tls_raylet.descriptors() - before <= 16
            time.sleep(0.01)
        for peer in flood:
            peer.close()
        still_serves(tls_raylet, authority)


def test_key_of_another_certificate_ends_the_start(
    binaries, folder, tls_gcs, authority, other_authority
):
    flags = (
        *raylet_flags(folder, tls_gcs.port, free_port()),
        *authority.flags(),
        *other_authority.flags()[1:2],
    )
    with daemon(binaries / "raylet", *flags) as (ready, _):
        assert "key" in ready["error"]
