"""A network between machines of which a test chooses the faults: delay, jitter, loss, frames that
come twice or late, limited links, and parts that are cut off from each other.

Each machine has a TAP device; a process reads what one sends and writes it to the others. It ends
with the test, and the devices with it. Faults follow from a seed and the order of the frames.
"""

import dataclasses
import fcntl
import heapq
import json
import os
import random
import selectors
import signal
import struct
import subprocess
import sys
import time

MTU = 9000
FRAME_MAX = MTU + 64
QUEUE_MAX_S = 0.5  # a limited link drops what would wait for longer
TUNSETIFF, IFF_TAP, IFF_NO_PI = 0x400454CA, 0x0002, 0x1000
GROUP_BIT = 0x01  # of the first byte of an address: for all


@dataclasses.dataclass
class Link:
    """How frames travel from one machine to another."""

    delay_s: float = 0.0
    jitter_s: float = 0.0  # up to so much is added; the order stays
    loss: float = 0.0  # probabilities
    duplicate: float = 0.0
    reorder: float = 0.0  # of being overtaken by what is sent later
    rate_bytes: float = 0.0  # a second; 0: no limit


class Switch:
    """Decides what becomes of each frame; no I/O."""

    REORDER_S = 0.02  # so much later

    def __init__(self, ports, seed):
        self._random = random.Random(seed)
        self._ports = range(ports)
        self._addresses = {}  # of machines, by the frames that they have sent
        self._sides = [0] * ports
        self._links = {(a, b): Link() for a in self._ports for b in self._ports if a != b}
        self._busy_until = dict.fromkeys(self._links, 0.0)
        self._last_due = dict.fromkeys(self._links, 0.0)
        self.counts = {"carried": 0, "lost": 0, "cut": 0, "doubled": 0, "late": 0, "refused": 0}

    def set_links(self, pairs, link):
        """Changes links from now on."""
        for pair in pairs or self._links:
            self._links[tuple(pair)] = link

    def cut(self, sides):
        """Only machines with the same number reach each other."""
        self._sides = sides

    def carry(self, now, source, frame):
        """Who gets the frame when: [(time, machine)]."""
        if len(frame) < 14:
            return []
        self._addresses[frame[6:12]] = source
        target = self._addresses.get(frame[:6])
        if frame[0] & GROUP_BIT or target is None:
            targets = [port for port in self._ports if port != source]
        else:
            targets = [target] if target != source else []
        return [delivery for port in targets for delivery in self._to(now, source, port, frame)]

    def _to(self, now, source, target, frame):
        pair = (source, target)
        link = self._links[pair]
        if self._sides[source] != self._sides[target]:
            self.counts["cut"] += 1
            return []
        if self._random.random() < link.loss:
            self.counts["lost"] += 1
            return []
        begin = now
        if link.rate_bytes:
            begin = max(now, self._busy_until[pair])
            if begin - now > QUEUE_MAX_S:
                self.counts["refused"] += 1
                return []
            begin += len(frame) / link.rate_bytes
            self._busy_until[pair] = begin
        due = begin + link.delay_s + self._random.uniform(0, link.jitter_s)
        if self._random.random() < link.reorder:
            self.counts["late"] += 1
            due += self.REORDER_S
        else:
            due = self._last_due[pair] = max(due, self._last_due[pair])
        self.counts["carried"] += 1
        if self._random.random() < link.duplicate:
            self.counts["doubled"] += 1
            return [(due, target), (due, target)]
        return [(due, target)]


class VirtualNetwork:
    """Machine i has the address 10.213.9.(i+1) on its device eth0."""

    def __init__(self, machines, seed=0):
        self._size = len(machines)
        self.addresses = [f"10.213.9.{number + 1}" for number in range(self._size)]
        self._process = subprocess.Popen(
            [sys.executable, __file__, str(seed), *(str(machine.pid) for machine in machines)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout.readline() == "ready\n"
        for machine, address in zip(machines, self.addresses):
            machine.run("ip", "link", "set", "eth0", "mtu", str(MTU))
            machine.set_address("eth0", address)

    def set_links(self, pairs=None, **link):
        """Changes how frames travel between pairs (from, to) of machines, by default all: the
        fields of `Link`, those that are not named as at first."""
        self._ask(method="set_links", pairs=pairs, link=dataclasses.asdict(Link(**link)))

    def cut(self, *groups):
        """Machines of different groups do not reach each other; those of none are one more."""
        sides = [0] * self._size
        for number, group in enumerate(groups, start=1):
            for machine in group:
                sides[machine] = number
        self._ask(method="cut", sides=sides)

    def heal(self):
        """Undoes all cuts and faults."""
        self.cut()
        self.set_links()

    def counts(self):
        """What became of the frames so far."""
        return self._ask(method="counts")

    def _ask(self, **request):
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def close(self):
        """Takes the devices away."""
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()


def _open_tap(name):
    device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(device, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TAP | IFF_NO_PI))
    return device


def _tap_of(number, pid):
    """A device that is eth0 of the machine; it goes when this process does."""
    name = f"tap{os.getpid()}x{number}"
    device = _open_tap(name)
    move = ["ip", "link", "set", name, "netns", str(pid), "name", "eth0"]
    subprocess.run(move, check=True)
    return device


class _Carrier:
    """Runs a switch between devices; requests come on stdin, its end is the end."""

    def __init__(self, switch, devices):
        self._switch = switch
        self._devices = devices
        self._due = []  # (time, number, machine, frame)
        self._last = 0

    def run(self):
        selector = selectors.DefaultSelector()
        for port, device in enumerate(self._devices):
            selector.register(device, selectors.EVENT_READ, port)
        selector.register(sys.stdin.fileno(), selectors.EVENT_READ, None)
        while True:
            wait = max(0, self._due[0][0] - time.monotonic()) if self._due else None
            for key, _ in selector.select(wait):
                if key.data is not None:
                    self._read(key.data)
                elif not self._answer():
                    return
            self._deliver()

    def _read(self, port):
        for _ in range(32):
            try:
                frame = os.read(self._devices[port], FRAME_MAX)
            except OSError:
                return
            for due, target in self._switch.carry(time.monotonic(), port, frame):
                self._last += 1
                heapq.heappush(self._due, (due, self._last, target, frame))

    def _deliver(self):
        now = time.monotonic()
        while self._due and self._due[0][0] <= now:
            _, _, target, frame = heapq.heappop(self._due)
            try:
                os.write(self._devices[target], frame)
            except OSError:
                pass  # its queue is full, or it is down: lost, as on any network

    def _answer(self):
        line = sys.stdin.readline()
        if not line:
            return False
        request = json.loads(line)
        answer = None
        if request["method"] == "set_links":
            self._switch.set_links(request["pairs"], Link(**request["link"]))
        elif request["method"] == "cut":
            self._switch.cut(request["sides"])
        else:
            answer = self._switch.counts
        print(json.dumps(answer), flush=True)
        return True


def _main(seed, *pids):
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of a terminal: the test ends it
    devices = [_tap_of(number, pid) for number, pid in enumerate(pids)]
    print("ready", flush=True)
    _Carrier(Switch(len(pids), int(seed)), devices).run()


if __name__ == "__main__":
    _main(*sys.argv[1:])
