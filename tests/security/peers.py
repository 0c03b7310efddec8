"""Strangers and members as seen by a daemon: bytes on raw sockets, and what they cost it."""

import contextlib
import hashlib
import hmac
import json
import os
import pathlib
import socket
import struct
import subprocess

from integration.programs import wait_until

MAGIC = 0x31544E4D
VERSION = 1
HELLO_FRAME, AUTHENTICATE = 1, 3
HELLO, CHALLENGE, PROOF, REFUSED = 1, 2, 3, 4
CONNECTOR, ACCEPTOR = 1, 2
TIMEOUT_S = 20


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextlib.contextmanager
def daemon(binary, *flags, **environment):
    """Starts it and yields (what it reported when it was ready, its process)."""
    reader, writer = os.pipe()
    command = [str(binary), *flags, f"--ready_fd={writer}"]
    process = subprocess.Popen(command, pass_fds=[writer], env={**os.environ, **environment})
    os.close(writer)
    try:
        with os.fdopen(reader) as pipe:
            yield json.loads(pipe.readline()), process
    finally:
        process.terminate()
        try:
            process.wait(timeout=TIMEOUT_S)
        finally:
            process.kill()
            process.wait()


class Daemon:
    """A running daemon and the TCP port that strangers can reach."""

    def __init__(self, process, port):
        self.process = process
        self.port = port

    def connect(self):
        peer = socket.create_connection(("127.0.0.1", self.port), timeout=TIMEOUT_S)
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return peer

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def resident_bytes(self):
        pages = pathlib.Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")

    def is_alive(self):
        return self.process.poll() is None


@contextlib.contextmanager
def unharmed(target, grown_bytes_max=8 << 20):
    """What happens inside leaves the daemon alive, with its descriptors and its memory."""
    descriptors, resident = target.descriptors(), target.resident_bytes()
    yield
    assert target.is_alive()
    wait_until(lambda: target.descriptors() <= descriptors, timeout_s=TIMEOUT_S)
    grown = target.resident_bytes() - resident
    assert grown <= grown_bytes_max, f"{grown} bytes more than before"


def frame(body, *, kind=AUTHENTICATE, body_size=None, metadata_size=None, magic=MAGIC, flags=0):
    size = len(body) if body_size is None else body_size
    metadata = size if metadata_size is None else metadata_size
    return struct.pack("<IIHHIQ", size, metadata, kind, flags, magic, 0) + body


def hello(nonce, version=VERSION):
    return frame(bytes([HELLO]) + struct.pack("<I", version) + nonce)


def proof(token, prover, connector_nonce, acceptor_nonce):
    statement = b"manta authentication" + bytes([prover]) + struct.pack("<I", VERSION)
    statement += connector_nonce + acceptor_nonce
    return hmac.new(token.encode(), statement, hashlib.sha256).digest()


def receive_exactly(peer, size):
    """That many bytes, or fewer if the daemon closes first."""
    received = b""
    while len(received) < size:
        try:
            some = peer.recv(size - len(received))
        except ConnectionResetError:
            break
        if not some:
            break
        received += some
    return received


def receive_message(peer):
    """The body of one AUTHENTICATE frame; b"" if the daemon closes instead."""
    header = receive_exactly(peer, 24)
    if len(header) < 24:
        return b""
    size, metadata, kind, flags, magic, _ = struct.unpack("<IIHHIQ", header)
    assert (kind, flags, magic, metadata) == (AUTHENTICATE, 0, MAGIC, size)
    return receive_exactly(peer, size)


def receive_rest(peer):
    """Everything until the daemon closes; fails if it does not."""
    received = b""
    while some := receive_exactly(peer, 65536):
        received += some
    return received


def answer_to(target, data):
    """Everything that the daemon says to a stranger who sends this and no more."""
    with target.connect() as peer:
        try:
            peer.sendall(data)
            peer.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # refused while it was being sent
        return receive_rest(peer)


def scan_port(target):
    """Connects many times and says nothing."""
    for _ in range(500):
        target.connect().close()


def authenticate(peer, token, nonce=None):
    """Plays the connector; the daemon's last message, and whether it proved itself."""
    nonce = nonce or os.urandom(32)
    peer.sendall(hello(nonce))
    challenge = receive_message(peer)
    assert challenge[0] == CHALLENGE and len(challenge) == 33
    peer.sendall(frame(bytes([PROOF]) + proof(token, CONNECTOR, nonce, challenge[1:])))
    answer = receive_message(peer)
    expected = bytes([PROOF]) + proof(token, ACCEPTOR, nonce, challenge[1:])
    return answer, answer == expected
