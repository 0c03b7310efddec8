"""What looks like several machines: processes with a network, a /tmp and process numbers of their
own."""

import contextlib
import ctypes
import os
import pathlib
import shutil
import signal
import subprocess
import sys

from integration.command_line import CommandLine
from integration.programs import is_running

TESTS = pathlib.Path(__file__).resolve().parents[1]

# A holder is the first process of its namespaces. It ends with who made it, whatever ends that, and
# with it all that runs there and the namespaces themselves.
HOLDER = ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
HOLD = 'mount -t tmpfs tmpfs "$1" && ip link set lo up && echo up && exec sleep infinity'
PR_SET_PDEATHSIG = 1


def ip(*words):
    return subprocess.run(["ip", *words], capture_output=True, text=True)


def must(*words):
    """Runs a command; fails unless it ends well."""
    result = subprocess.run(words, capture_output=True, text=True)
    assert result.returncode == 0, f"{' '.join(words)}: {result.stderr}"
    return result.stdout


def may_make_namespaces():
    """Whether this user may, and the kernel has what it takes; leaves nothing."""
    if shutil.which("ip") is None:
        return False
    name = f"probe{os.getpid()}"
    made = ip("netns", "add", name).returncode == 0
    linked = made and ip(
        "-n", name, "link", "add", "veth0", "type", "veth", "peer", "name", "veth1"
    )
    ip("netns", "delete", name)
    return made and linked.returncode == 0


def _end_with_parent():
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


class Machine:
    """One of them. Sees the files of this machine, but what `folder` holds is its own."""

    def __init__(self, name, folder):
        """folder: exists, and is empty at first on each machine. The thread that makes a machine
        must outlive it."""
        self.name = name
        self.folder = str(folder)
        self._holder = subprocess.Popen(
            [*HOLDER, "sh", "-c", HOLD, "sh", self.folder],
            stdout=subprocess.PIPE,
            text=True,
            preexec_fn=_end_with_parent,
        )
        assert self._holder.stdout.readline() == "up\n"
        (self.pid,) = map(int, must("pgrep", "-P", str(self._holder.pid)).split())

    def prefix(self):
        """Words in front of a command that runs there."""
        return ["nsenter", "-t", str(self.pid), "--net", "--mount", "--pid"]

    def run(self, *words):
        """Runs a command there; fails unless it ends well."""
        return must(*self.prefix(), *words)

    def command_line(self):
        """The program ``ray`` on it."""
        return CommandLine(self.folder, prefix=self.prefix())

    def set_address(self, device, address):
        """Gives a network device an address, and sends everything else through it."""
        self.run("ip", "address", "add", f"{address}/24", "dev", device)
        self.run("ip", "link", "set", device, "up")
        self.run("ip", "route", "add", "default", "dev", device)

    def sent_bytes(self, device):
        """What a network device has sent so far."""
        return self._statistic(device, "tx_bytes")

    def received_bytes(self, device):
        """What a network device has received so far."""
        return self._statistic(device, "rx_bytes")

    def _statistic(self, device, name):
        lines = self.run("cat", "/proc/net/dev").splitlines()
        (fields,) = [line.split() for line in lines if line.strip().startswith(f"{device}:")]
        return int(fields[{"rx_bytes": 1, "tx_bytes": 9}[name]])

    def processes(self):
        """What runs there: command lines by process number."""
        own = os.readlink(f"/proc/{self.pid}/ns/pid")
        found = {}
        for entry in pathlib.Path("/proc").iterdir():
            if entry.name.isdigit() and int(entry.name) != self.pid:
                with contextlib.suppress(OSError):
                    if os.readlink(entry / "ns/pid") == own and is_running(int(entry.name)):
                        found[int(entry.name)] = (entry / "cmdline").read_bytes()
        return found

    def power_off(self):
        """Everything on it ends at once."""
        self._holder.kill()
        self._holder.wait()
        self._holder.stdout.close()


class Cluster:
    """A head and further nodes, one on each machine, started by ``ray start``."""

    HEAD_PORT = 6379
    TOKEN = "0123456789abcdef" * 4

    def __init__(self, machines, addresses, settings="{}"):
        self.machines = machines
        self.addresses = addresses
        self.settings = settings
        self.commands = [machine.command_line() for machine in machines]
        for command in self.commands:
            path = command.environment.get("PYTHONPATH", "")
            command.environment["PYTHONPATH"] = os.pathsep.join([str(TESTS), path]).strip(
                os.pathsep
            )
            command.environment["RAY_AUTH_TOKEN"] = self.TOKEN

    @property
    def address(self):
        return f"{self.addresses[0]}:{self.HEAD_PORT}"

    def start(self, node, *arguments):
        """Starts the node of a machine; 0 is the head, and first."""
        words = ["--head"] if node == 0 else [f"--address={self.address}"]
        return self.commands[node].run(
            "start",
            *words,
            f"--node-ip-address={self.addresses[node]}",
            f"--system-config={self.settings}",
            *arguments,
        )

    def driver(self, source, *arguments):
        """Starts a Python program on the head; its output can be read."""
        command = self.commands[0]
        return subprocess.Popen(
            [*command.prefix, sys.executable, "-c", source, *arguments],
            env=command.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )


class Bridge:
    """Joins machines as a switch with one cable to each: machine i has the address 10.213.8.(i+1)
    on its device eth0. `rate`, as tc writes it ("400mbit"), limits each cable in each direction."""

    BURST = "128kb"

    def __init__(self, machines, folder, rate=None):
        self._machine = Machine("bridge", folder)
        self.addresses = []
        self._machine.run("ip", "link", "add", "bridge0", "type", "bridge")
        self._machine.run("ip", "link", "set", "bridge0", "up")
        for number, machine in enumerate(machines):
            port = f"port{number}"
            must(
                *("ip", "link", "add", "eth0", "netns", str(machine.pid), "type", "veth"),
                *("peer", "name", port, "netns", str(self._machine.pid)),
            )
            self._machine.run("ip", "link", "set", port, "master", "bridge0", "up")
            self.addresses.append(f"10.213.8.{number + 1}")
            machine.set_address("eth0", self.addresses[-1])
            if rate is not None:
                limit = ("root", "tbf", "rate", rate, "burst", self.BURST, "latency", "50ms")
                machine.run("tc", "qdisc", "add", "dev", "eth0", *limit)
                self._machine.run("tc", "qdisc", "add", "dev", port, *limit)

    def close(self):
        """Takes the cables away."""
        self._machine.power_off()
