"""The network of which tests choose the faults."""

import subprocess
import sys

import pytest

from integration.machines import Machine, may_make_namespaces
from integration.virtual_network import Link, Switch, VirtualNetwork

needs_privilege = pytest.mark.skipif(
    not may_make_namespaces(), reason="needs the privilege for network namespaces"
)
FRAME = 1000


def frame(source, target):
    return bytes([2, 0, 0, 0, 0, target, 2, 0, 0, 0, 0, source]).ljust(FRAME, b"x")


@pytest.fixture
def switch():
    """Of three machines that have all sent something."""
    made = Switch(3, seed=1)
    for port in range(3):
        made.carry(0.0, port, b"\xff" * 6 + frame(port, 0)[6:])
    return made


def test_frames_reach_whom_they_are_for(switch):
    assert switch.carry(1.0, 0, frame(0, 2)) == [(1.0, 2)]
    assert switch.carry(1.0, 0, frame(0, 9)) == [(1.0, 1), (1.0, 2)], "nobody knows where it is"
    assert switch.carry(1.0, 1, b"\xff" * 6 + frame(1, 0)[6:]) == [(1.0, 0), (1.0, 2)]
    assert switch.carry(1.0, 0, b"short") == []


def test_delay_and_jitter_keep_the_order(switch):
    switch.set_links([(0, 1)], Link(delay_s=0.1, jitter_s=0.5))
    times = [switch.carry(1.0, 0, frame(0, 1))[0][0] for _ in range(50)]
    assert times == sorted(times)
    assert 1.1 <= times[0] and times[-1] <= 1.6 and len(set(times)) > 1
    assert switch.carry(1.0, 1, frame(1, 0)) == [(1.0, 0)], "the other direction"


def test_loss_doubles_and_reordering_are_as_often_as_said(switch):
    switch.set_links(None, Link(loss=0.5))
    assert 400 < sum(len(switch.carry(1.0, 0, frame(0, 1))) for _ in range(1000)) < 600
    switch.set_links(None, Link(duplicate=0.5))
    assert 1400 < sum(len(switch.carry(1.0, 0, frame(0, 1))) for _ in range(1000)) < 1600
    switch.set_links(None, Link(reorder=0.5))
    times = [switch.carry(1.0, 0, frame(0, 1))[0][0] for _ in range(1000)]
    assert 400 < sum(time == 1.0 for time in times) < 600 and times != sorted(times)


def test_limited_link_spreads_frames_and_drops_what_waits_too_long(switch):
    switch.set_links(None, Link(rate_bytes=16 * FRAME))
    times = [due for _ in range(20) for due, _ in switch.carry(1.0, 0, frame(0, 1))]
    assert times == [1 + number / 16 for number in range(1, 10)]
    assert switch.counts["refused"] == 11


def test_parts_that_are_cut_off_do_not_reach_each_other(switch):
    switch.cut([0, 1, 0])
    assert switch.carry(1.0, 0, frame(0, 1)) == []
    assert switch.carry(1.0, 0, frame(0, 2)) == [(1.0, 2)]


def test_same_seed_same_faults():
    runs = []
    for _ in range(2):
        switch = Switch(2, seed=7)
        switch.set_links(None, Link(jitter_s=1, loss=0.3, duplicate=0.3, reorder=0.3))
        runs.append([switch.carry(1.0, 0, frame(0, 1)) for _ in range(100)])
    assert runs[0] == runs[1]


ECHO = """
import socket
server = socket.create_server(("0.0.0.0", 5000))
print("listening", flush=True)
while True:
    connection = server.accept()[0]
    while data := connection.recv(1 << 16):
        connection.sendall(data)
"""
ROUND_TRIP = """
import socket, sys, time
with socket.create_connection((sys.argv[1], 5000), float(sys.argv[2])) as connection:
    begin = time.monotonic()
    connection.sendall(b"x")
    connection.recv(1)
    print(time.monotonic() - begin)
"""


@needs_privilege
def test_machines_talk_through_it(tmp_path):
    machines = [Machine(f"m{number}", tmp_path) for number in range(2)]
    network = VirtualNetwork(machines)
    echo = subprocess.Popen(
        [*machines[1].prefix(), sys.executable, "-c", ECHO], stdout=subprocess.PIPE, text=True
    )
    assert echo.stdout.readline() == "listening\n"

    def round_trip():
        return float(machines[0].run(sys.executable, "-c", ROUND_TRIP, network.addresses[1], "20"))

    round_trip()
    network.set_links(delay_s=0.1)
    assert 0.2 <= round_trip() < 5
    network.set_links(loss=0.1, duplicate=0.1, reorder=0.1)
    for _ in range(3):
        round_trip()
    network.cut({0})
    with pytest.raises(AssertionError, match="timed out|No route"):
        machines[0].run(sys.executable, "-c", ROUND_TRIP, network.addresses[1], "1")
    network.heal()
    assert round_trip() < 5
    assert network.counts()["cut"] > 0
    for machine in machines:
        machine.power_off()
    echo.communicate(timeout=10)  # it ended with its machine
    network.close()
