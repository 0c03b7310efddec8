"""Programs that must give the right answer while the network between their nodes delays, loses and
repeats what it carries, and cuts nodes off: for less than the time after which a node counts as
dead, and for longer. The damage follows from a seed; `make soak` does more of it."""

import collections
import contextlib
import json
import os
import random
import time

import pytest

from chaos.workloads import NODE_CPUS, NODES
from integration.machines import Cluster, Machine, may_make_namespaces
from integration.programs import wait_until
from integration.virtual_network import VirtualNetwork

pytestmark = [
    pytest.mark.timeout(1200 if os.environ.get("RAY_TEST_SOAK") == "1" else 300),
    pytest.mark.skipif(
        not may_make_namespaces(), reason="needs the privilege for network namespaces"
    ),
]

DEAD_S = 2.5  # of silence on a channel; as long again passes until silence is noticed
CUT_MAX_S = 0.75  # TCP, which waits twice as long after each loss, is silent for three times that
SETTINGS = json.dumps({"node_dead_timeout_ms": int(DEAD_S * 1000)})
STORE = f"--object-store-memory={100 << 20}"

# Runs a program of `workloads` until it is told to end, then looks whether anything is held.
DRIVER = """
import json, select, sys
import ray
from chaos import workloads

ray.init("auto", log_to_driver=False)
print("begun", flush=True)
program, seed, rounds = getattr(workloads, sys.argv[1]), int(sys.argv[2]), 0
while rounds == 0 or not select.select([sys.stdin], [], [], 0)[0]:
    program(1000 * seed + rounds)
    rounds += 1
workloads.check_nothing_is_held()
print(rounds)
"""


# An owner and a borrower, each on a node of its own; between them a call that is under way, and a
# task that may not run twice, with a worker that one node lends to the other.
APART = """
import sys, time
import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

ray.init("auto", log_to_driver=False)
nodes = {node["NodeManagerAddress"]: node["NodeID"] for node in ray.nodes() if node["Alive"]}


def at(address):
    return NodeAffinitySchedulingStrategy(node_id=nodes[address], soft=False)


@ray.remote(max_retries=0)
def run_once():
    time.sleep(9)
    return "once"


@ray.remote
class Owner:
    def make(self):
        return [ray.put("small"), ray.put(b"x" * 1_000_000)]

    def slow(self):
        time.sleep(3)
        return "slow"


@ray.remote
class Borrower:
    def take(self, owner, there):
        self.held = ray.get(owner.make.remote())
        self.owner = owner
        self.call = owner.slow.remote()
        self.task = run_once.options(scheduling_strategy=there).remote()
        ray.wait([self.task], timeout=1)  # It runs.

    def look(self):
        small, large = ray.get(self.held)
        calls = [self.call, self.owner.slow.remote(), self.task]
        return small, len(large), ray.get(calls)


owner = Owner.options(scheduling_strategy=at(sys.argv[1])).remote()
borrower = Borrower.options(scheduling_strategy=at(sys.argv[2])).remote()
ray.get(borrower.take.remote(owner, at(sys.argv[1])))
print("begun", flush=True)
input()
print(ray.get(borrower.look.remote(), timeout=60))
"""


# A process that starts when a node has died already, and asks it for an object.
LATE = """
import sys, time
import ray
from ray.exceptions import OwnerDiedError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

ray.init("auto", log_to_driver=False)
nodes = {node["NodeManagerAddress"]: node["NodeID"] for node in ray.nodes() if node["Alive"]}


def at(address):
    return NodeAffinitySchedulingStrategy(node_id=nodes[address], soft=False)


@ray.remote
class Owner:
    def make(self):
        return [ray.put("value")]


@ray.remote(runtime_env={"env_vars": {"NEW": "1"}})
def take(refs):
    began = time.monotonic()
    try:
        ray.get(refs)
    except OwnerDiedError:
        return time.monotonic() - began


owner = Owner.options(scheduling_strategy=at(sys.argv[1])).remote()
refs = ray.get(owner.make.remote())
print("begun", flush=True)
while nodes[sys.argv[1]] in {node["NodeID"] for node in ray.nodes() if node["Alive"]}:
    time.sleep(0.1)
print(ray.get(take.options(scheduling_strategy=at(sys.argv[2])).remote(refs), timeout=60))
"""


class Network:
    """The cluster, and what is done to its network."""

    def __init__(self, cluster, network):
        self.cluster = cluster
        self.network = network
        self._nodes = range(1, NODES + 1)

    def start_node(self, node):
        self.cluster.start(node, f"--num-cpus={NODE_CPUS}", STORE)

    def delay(self, chance):
        """Slow links, each another."""
        for a in range(NODES + 1):
            for b in range(a):
                delay_s = chance.uniform(0, 0.03)
                self.network.set_links([(a, b), (b, a)], delay_s=delay_s, jitter_s=delay_s / 2)

    def loss(self, chance):
        """Frames are lost, come twice, or are overtaken."""
        self.network.set_links(
            loss=chance.uniform(0, 0.03), duplicate=0.03, reorder=chance.uniform(0, 0.1)
        )

    def partition(self, chance):
        """Some nodes do not reach the others for a time; then they do for long enough for TCP to
        try again."""
        count = chance.randrange(1, NODES + 1)
        self.network.cut(chance.sample(self._nodes, count))
        cut_s = chance.uniform(0.1, CUT_MAX_S)
        time.sleep(cut_s)
        self.network.cut()
        time.sleep(2 * cut_s)

    def death(self, chance):
        """A node is cut off until it counts as dead; it ends when it hears so, and another one
        takes its place."""
        node = chance.choice(self._nodes)
        self.network.cut([node])
        time.sleep(2.5 * DEAD_S)
        self.replace(node)

    def replace(self, node):
        """One that was cut off for so long that it counts as dead."""
        self.network.cut()
        wait_until(lambda: not self.cluster.machines[node].processes(), 20)
        self.start_node(node)


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    """A head without CPUs, with the driver, and nodes; each on a machine of its own."""
    folder = tmp_path_factory.mktemp("machines")
    with contextlib.ExitStack() as stack:
        machines = []
        for number in range(NODES + 1):
            machines.append(Machine(f"node{number}", folder))
            stack.callback(machines[-1].power_off)
        network = VirtualNetwork(machines)
        stack.callback(network.close)
        made = Network(Cluster(machines, network.addresses, SETTINGS), network)
        made.cluster.start(0, "--num-cpus=0", STORE)
        for number in range(1, NODES + 1):
            made.start_node(number)
        yield made
        check_nothing_is_left(made.cluster)


def check_nothing_is_left(cluster):
    """Each node stops, and with it all that ran there."""
    for command, machine in zip(reversed(cluster.commands), reversed(cluster.machines)):
        assert "Stopped 1 node." in command.run("stop")
        # What was killed may take a moment to go.
        wait_until(lambda machine=machine: machine.processes() == {}, 10)
        left = machine.run("find", machine.folder, "-type", "s")
        assert left == "", "sockets"


PROGRAMS = ["shuffle", "tree", "actors", "gang"]


@pytest.mark.parametrize("program", PROGRAMS)
def test_the_answer_is_right(network, soak, program):
    for seed in range(5 if soak else 1):
        with run(network, program, seed, soak) as (chance, done):
            deadline = time.monotonic() + (20 if soak else 1.5)
            while time.monotonic() < deadline:
                done.append(chance.choice(["delay", "loss", "partition"]))
                getattr(network, done[-1])(chance)
                time.sleep(chance.uniform(0.1, 0.5))
            network.network.heal()


def test_a_node_that_is_cut_off_for_long_is_dead(network, soak):
    for program in PROGRAMS if soak else ["actors"]:
        for seed in range(3 if soak else 1):
            with run(network, program, seed, soak) as (chance, done):
                for _ in range(3 if soak else 1):
                    network.death(chance)
                    done.append("death")


def test_two_that_do_not_reach_each_other_for_a_while_lose_nothing(network):
    """For longer than a socket lasts, while both reach the head: neither of them is dead."""
    one, other = (network.network.addresses[node] for node in (1, 2))
    driver = network.cluster.driver(APART, one, other)
    assert driver.stdout.readline() == "begun\n"
    network.network.set_links([(1, 2), (2, 1)], loss=1.0)
    time.sleep(7)
    network.network.heal()
    output, _ = driver.communicate("\n", timeout=90)
    assert output == "('small', 1000000, ['slow', 'slow', 'once'])\n"


def test_who_starts_after_a_nodes_death_does_not_wait_for_it(network):
    dead, other = (network.network.addresses[node] for node in (1, 2))
    driver = network.cluster.driver(LATE, dead, other)
    assert driver.stdout.readline() == "begun\n"
    network.network.cut([1])
    output, _ = driver.communicate(timeout=90)
    network.replace(1)
    assert float(output) < 10  # A socket counts as silent after 5.


@contextlib.contextmanager
def run(network, program, seed, soak):
    """A program meanwhile, which must give the right answer all the time and hold nothing then."""
    driver = network.cluster.driver(DRIVER, program, str(seed))
    assert driver.stdout.readline() == "begun\n"
    done = []
    yield random.Random(f"{program} {seed}"), done
    output, _ = driver.communicate("end\n", timeout=150)
    assert driver.returncode == 0, f"{program}, seed {seed}, after {done}"
    if soak:
        print(f"\n{program}, seed {seed}: {output.strip()} rounds, {collections.Counter(done)}")
