"""Attacks on the TCP port of a running raylet, by peers without the cluster's token."""

import os
import time

import pytest

from integration.programs import wait_until
from security.cluster import TOKEN
from security.peers import (
    CHALLENGE,
    CONNECTOR,
    HELLO_FRAME,
    PROOF,
    REFUSED,
    VERSION,
    answer_to,
    authenticate,
    frame,
    hello,
    proof,
    receive_message,
    receive_rest,
    scan_port,
    unharmed,
)

NONCE = bytes(range(32))

# What is sent, and how many bytes a stranger may get for it: at most the challenge.
HOSTILE = {
    "garbage": (os.urandom(4096), 0),
    "http": (b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", 0),
    "tls": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + os.urandom(500), 0),
    "zeros": (bytes(100_000), 0),
    "hello of the wire": (frame(b"\x08\x01", kind=HELLO_FRAME), 0),
    "unknown type": (frame(b"abc", kind=999), 0),
    "unknown flags": (frame(b"abc", flags=0x8000), 0),
    "oversized": (frame(b"", body_size=0xFFFFFFFF), 0),
    "a little oversized": (frame(bytes(65)), 0),
    "metadata beyond the body": (frame(b"abc", metadata_size=100), 0),
    "empty message": (frame(b""), 0),
    "proof without a challenge": (frame(bytes([PROOF]) + bytes(32)), 0),
    "short hello": (frame(bytes([1]) + bytes(10)), 0),
    "frame after the hello": (hello(NONCE) + frame(b"\x08\x01", kind=HELLO_FRAME), 57),
    "oversized after the hello": (hello(NONCE) + frame(b"", body_size=1 << 30), 57),
    "truncated": (hello(NONCE)[:40], 0),
    "truncated header": (hello(NONCE)[:10], 0),
    "nothing": (b"", 0),
}


def still_serves(raylet):
    with raylet.connect() as peer:
        _, proved = authenticate(peer, TOKEN)
        assert proved


@pytest.mark.parametrize(("data", "told_max"), HOSTILE.values(), ids=HOSTILE.keys())
def test_bytes_of_strangers_are_refused(raylet, data, told_max):
    still_serves(raylet)
    with unharmed(raylet):
        for _ in range(20):
            assert len(answer_to(raylet, data)) <= told_max
    still_serves(raylet)


@pytest.mark.parametrize("token", ["", "wrong", TOKEN + "x", TOKEN[:-1]])
def test_another_token_learns_nothing(raylet, token):
    with unharmed(raylet), raylet.connect() as peer:
        answer, proved = authenticate(peer, token)
        assert not proved
        assert answer[0] == REFUSED and len(answer) == 6
        assert receive_rest(peer) == b""
    still_serves(raylet)


def test_refusals_are_logged(raylet, folder):
    with raylet.connect() as peer:
        authenticate(peer, "wrong")

    def is_logged():
        with raylet.connect() as peer:  # one line a second: this one may have been left out
            authenticate(peer, "wrong")
        log = (folder / "logs" / "raylet.log").read_text()
        return "authentication failed" in log and "peer at 127.0.0.1" in log

    wait_until(is_logged)


def test_replayed_connection_is_refused(raylet):
    with raylet.connect() as peer:
        peer.sendall(hello(NONCE))
        challenge = receive_message(peer)
        recorded = frame(bytes([PROOF]) + proof(TOKEN, CONNECTOR, NONCE, challenge[1:]))
        peer.sendall(recorded)
        assert receive_message(peer)[0] == PROOF
    with unharmed(raylet), raylet.connect() as peer:
        peer.sendall(hello(NONCE))
        assert receive_message(peer)[0] == CHALLENGE
        peer.sendall(recorded)
        assert receive_message(peer)[0] == REFUSED
        assert receive_rest(peer) == b""
    still_serves(raylet)


def test_reflected_bytes_are_refused(raylet):
    with unharmed(raylet), raylet.connect() as peer:
        peer.sendall(hello(NONCE))
        challenge = receive_message(peer)
        peer.sendall(frame(challenge))
        assert receive_rest(peer) == b""
    still_serves(raylet)


def test_another_version_is_told_so(raylet):
    with unharmed(raylet), raylet.connect() as peer:
        peer.sendall(hello(NONCE, version=VERSION + 1))
        refusal = receive_message(peer)
        assert refusal[:2] == bytes([REFUSED, 1])
        assert int.from_bytes(refusal[2:], "little") == VERSION
        assert receive_rest(peer) == b""
    still_serves(raylet)


def test_slow_peers_are_cut_off(raylet):
    with unharmed(raylet), raylet.connect() as silent, raylet.connect() as slow:
        started = time.monotonic()
        with pytest.raises(OSError):
            for byte in hello(NONCE) * 1000:
                slow.sendall(bytes([byte]))
                time.sleep(0.02)
        assert receive_rest(silent) == b""
        assert time.monotonic() - started < 10
    still_serves(raylet)


def test_port_scan_leaves_nothing(raylet):
    still_serves(raylet)
    with unharmed(raylet):
        scan_port(raylet)
    still_serves(raylet)


def test_flood_of_silent_peers_has_a_limit(raylet):
    """More connections than the raylet holds for strangers; members get in when those are gone."""
    with unharmed(raylet):
        before = raylet.descriptors()
        flood = [raylet.connect() for _ in range(200)]
        for _ in range(20):
            assert raylet.descriptors() - before <= 16
            time.sleep(0.01)
        for peer in flood:
            peer.close()
        still_serves(raylet)


def test_oversized_frame_of_a_member_costs_only_its_connection(raylet):
    with unharmed(raylet), raylet.connect() as peer:
        _, proved = authenticate(peer, TOKEN)
        assert proved
        peer.sendall(frame(b"", kind=HELLO_FRAME, body_size=0xFFFFFFFF))
        receive_rest(peer)
    still_serves(raylet)
