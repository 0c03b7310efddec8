"""Attacks on the TCP port of a running GCS, by callers without the cluster's token."""

import os

import pytest

from security import http2
from security.cluster import TOKEN
from security.peers import answer_to, receive_rest, scan_port, unharmed

KV = "/ray.gcs.v1.GcsService/Kv"
GET_A_KEY = bytes([0x08, 1, 0x1A, 1]) + b"k"
OK, UNAUTHENTICATED = 0, 16

HOSTILE = {
    "garbage": os.urandom(4096),
    "http": b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "zeros": bytes(100_000),
    "frame larger than allowed": http2.PREFACE + b"\xff\xff\xff\x00\x00\x00\x00\x00\x01",
    "headers that are none": http2.PREFACE
    + http2.frame(http2.SETTINGS, 0, 0)
    + http2.frame(http2.HEADERS, http2.END_HEADERS, 1, b"\xff" * 1000),
    "truncated": http2.call(KV)[:30],
    "nothing": b"",
}


def status(gcs, path=KV, message=GET_A_KEY, **headers):
    with gcs.connect() as peer:
        peer.sendall(http2.call(path, message, **headers))
        return http2.status_of(peer)


def still_serves(gcs):
    assert status(gcs, authorization=f"Bearer {TOKEN}") == OK


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": ""},
        {"authorization": TOKEN},
        {"authorization": "Bearer "},
        {"authorization": "Bearer wrong"},
        {"authorization": f"Bearer {TOKEN}x"},
        {"authorization": f"Bearer {TOKEN[:-1]}"},
    ],
)
def test_calls_without_the_token_are_refused(gcs, headers):
    still_serves(gcs)
    with unharmed(gcs):
        assert status(gcs, **headers) == UNAUTHENTICATED
        assert status(gcs, "/ray.gcs.v1.GcsService/NodeChannel", **headers) == UNAUTHENTICATED
    still_serves(gcs)


@pytest.mark.parametrize("data", HOSTILE.values(), ids=HOSTILE.keys())
def test_bytes_of_strangers_cost_only_their_connection(gcs, data):
    still_serves(gcs)
    with unharmed(gcs):
        for _ in range(20):
            answer_to(gcs, data)
    still_serves(gcs)


def test_port_scan_leaves_nothing(gcs):
    still_serves(gcs)
    with unharmed(gcs):
        scan_port(gcs)
    still_serves(gcs)


def test_peers_that_stay_silent_are_cut_off(gcs):
    still_serves(gcs)
    with unharmed(gcs):
        silent = [gcs.connect() for _ in range(20)]
        halfway = gcs.connect()
        halfway.sendall(http2.PREFACE + http2.frame(http2.SETTINGS, 0, 0))
        for peer in [*silent, halfway]:
            with peer:
                receive_rest(peer)
    still_serves(gcs)
