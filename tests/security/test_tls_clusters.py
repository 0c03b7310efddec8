"""A cluster of two nodes that speaks TLS by what the environment says."""

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
