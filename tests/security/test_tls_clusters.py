"""A cluster of two nodes that speaks TLS by what the environment says."""

import shutil

from integration.command_line import CommandLine

PROGRAM = """
import hashlib
import ray
from ray.cluster_utils import Cluster

cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
cluster.add_node(num_cpus=1, resources={"there": 1})
ray.init(cluster.address, log_to_driver=False)
here = ray.get_runtime_context().get_node_id()

@ray.remote(num_cpus=0, resources={"there": 0.1})
def add(a, b):
    return ray.get_runtime_context().get_node_id(), a + b

@ray.remote(num_cpus=0, resources={"there": 0.1})
class Keeper:
    def keep(self, value):
        self.value = value
        return hashlib.sha256(value).hexdigest()
    def give(self):
        return self.value
    def pass_on(self, other):
        return ray.get(other.keep.remote(self.value))

@ray.remote(num_cpus=0)
class Local:
    def keep(self, value):
        return hashlib.sha256(value).hexdigest()

node, total = ray.get(add.remote(1, 2), timeout=60)
assert node != here and total == 3
results = ray.get([add.remote(i, i) for i in range(300)], timeout=60)
assert [total for _, total in results] == [2 * i for i in range(300)]

large = bytes(range(256)) * (100_000_000 // 256)
digest = hashlib.sha256(large).hexdigest()
keeper, local = Keeper.remote(), Local.remote()
assert ray.get(keeper.keep.remote(ray.put(large)), timeout=60) == digest
assert ray.get(keeper.give.remote(), timeout=60) == large
# Between workers of the two nodes.
assert ray.get(keeper.pass_on.remote(local), timeout=60) == digest
cluster.shutdown()
print("all is well")
"""


def test_tasks_actors_and_objects_over_tls(tmp_path, authority):
    command = CommandLine(tmp_path)
    assert "all is well" in command.python(PROGRAM, **authority.environment())


# Two files cannot change at the same time: in between, everything must stay as it was.
NEW_CERTIFICATES = """
import os
import shutil
import sys
import time
import ray
from ray.cluster_utils import Cluster

new, live = sys.argv[1:]
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
cluster.add_node(num_cpus=1, resources={"old": 1})
ray.init(cluster.address, log_to_driver=False)

@ray.remote(num_cpus=0)
def size(data):
    return len(data)

def on(resource):
    return size.options(resources={resource: 0.1})

def replace(name):
    shutil.copy(f"{new}/{name}", f"{live}/{name}.new")
    os.replace(f"{live}/{name}.new", f"{live}/{name}")

large = ray.put(bytes(30_000_000))
assert ray.get(on("old").remote(large), timeout=60) == 30_000_000
for name in ("node.crt", "node.key", "ca.crt"):
    replace(name)
    time.sleep(0.3)
time.sleep(4)
# It has only the new ones: joining, calls and objects need them at both ends.
cluster.add_node(num_cpus=1, resources={"new": 1})
assert ray.get(on("new").remote(large), timeout=60) == 30_000_000
assert ray.get(on("old").remote(large), timeout=60) == 30_000_000

@ray.remote(num_cpus=0, resources={"old": 0.1})
class Old:
    def size_there(self):
        return ray.get(on("new").remote(bytes(1000)))

assert ray.get(Old.remote().size_there.remote(), timeout=60) == 1000
cluster.shutdown()
print("all is well")
"""


def test_certificates_are_replaced_while_the_cluster_runs(tmp_path, authority, other_authority):
    live = tmp_path / "live"
    live.mkdir()
    for path in (*authority.folder.glob("node.*"), authority.certificate):
        shutil.copy(path, live)
    environment = {
        name: value.replace(str(authority.folder), str(live))
        for name, value in authority.environment().items()
    }
    command = CommandLine(tmp_path)
    output = command.python(
        NEW_CERTIFICATES,
        str(other_authority.folder),
        str(live),
        RAY_tls_files_interval_ms="200",
        **environment,
    )
    assert "all is well" in output


def test_files_that_are_wrong_end_the_start(tmp_path, authority, other_authority):
    command = CommandLine(tmp_path)
    mixed = {
        **authority.environment(),
        "RAY_TLS_SERVER_KEY": other_authority.environment()["RAY_TLS_SERVER_KEY"],
    }
    small = ("--port=0", "--num-cpus=1", "--object-store-memory=80000000")
    try:
        output = command.run("start", "--head", *small, code=1, **mixed)
        assert "TLS: the key cannot be used with the certificate" in output
    finally:
        command.run("stop", "--force")
