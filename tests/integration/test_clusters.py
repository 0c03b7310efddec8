"""cluster_utils.Cluster: several nodes on this machine."""

import os
import signal

import pytest

import ray
from integration.programs import is_running, wait_until
from ray.cluster_utils import Cluster

MB = 2**20
SMALL = {"num_cpus": 1, "object_store_memory": 80 * MB}


@pytest.fixture
def make_cluster():
    """Makes clusters that end with the test."""
    ray.shutdown()
    made = []

    def make(*arguments, **options):
        made.append(Cluster(*arguments, **options))
        return made[-1]

    yield make
    ray.shutdown()
    for cluster in made:
        cluster.shutdown()


def test_nodes_offer_what_they_are_told(make_cluster):
    cluster = make_cluster()
    head = cluster.add_node(**SMALL)
    added = cluster.add_node(
        num_cpus=2,
        num_gpus=3,
        resources={"disk": 4},
        labels={"zone": "a"},
        memory=500 * MB,
        object_store_memory=100 * MB,
    )
    cluster.wait_for_nodes()
    ray.init(address=cluster.address, log_to_driver=False)
    nodes = {node["NodeID"]: node for node in ray.nodes()}
    assert set(nodes) == {head.node_id, added.node_id}
    assert nodes[head.node_id]["Resources"]["node:__internal_head__"] == 1
    offered = nodes[added.node_id]
    assert offered["Labels"]["zone"] == "a"
    assert offered["RayletSocketName"] == added.raylet_socket_name
    for name, quantity in {"CPU": 2, "GPU": 3, "disk": 4, "memory": 500 * MB}.items():
        assert offered["Resources"][name] == quantity
    assert offered["Resources"]["object_store_memory"] == 100 * MB
    assert ray.cluster_resources()["CPU"] == 3
    assert ray.get_runtime_context().get_node_id() == head.node_id


def test_head_may_have_no_cpu(make_cluster):
    cluster = make_cluster(initialize_head=True, connect=True, head_node_args={"num_cpus": 0})
    assert cluster.connected and ray.is_initialized()
    assert "CPU" not in ray.cluster_resources()
    cluster.add_node(**SMALL)
    cluster.wait_for_nodes()
    assert ray.cluster_resources()["CPU"] == 1


def test_connecting_gives_the_namespace(make_cluster):
    cluster = make_cluster(initialize_head=True, head_node_args=SMALL)
    cluster.connect(namespace="mine")
    assert ray.get_runtime_context().namespace == "mine"


def test_cluster_outlives_its_drivers(make_cluster):
    cluster = make_cluster(initialize_head=True, head_node_args=SMALL)

    @ray.remote(num_cpus=0)
    def one():
        return 1

    jobs = set()
    for _ in range(2):
        with ray.init(cluster.address, log_to_driver=False) as context:
            assert context.address_info["address"] == cluster.gcs_address
            assert ray.get(one.remote()) == 1
            jobs.add(ray.get_runtime_context().get_job_id())
    assert len(jobs) == 2
    assert cluster.remaining_processes_alive()


def test_workers_know_the_address(make_cluster):
    cluster = make_cluster(initialize_head=True, head_node_args=SMALL)
    ray.init(cluster.address, log_to_driver=False)

    @ray.remote
    def addresses():
        context = ray.init(ignore_reinit_error=True)
        return context.address_info["address"], ray.get_runtime_context().gcs_address

    assert ray.get(addresses.remote()) == (cluster.address, cluster.address)
    assert ray.get_runtime_context().gcs_address == cluster.address


@pytest.mark.ours_only
@pytest.mark.parametrize("graceful", [True, False])
def test_removed_node_is_gone(make_cluster, graceful):
    cluster = make_cluster(initialize_head=True, head_node_args=SMALL)
    node = cluster.add_node(**SMALL)
    cluster.wait_for_nodes()
    ray.init(cluster.address, log_to_driver=False)
    processes = node.live_processes()
    assert [name for name, _ in processes] == ["raylet"]
    cluster.remove_node(node, allow_graceful=graceful)
    assert not any(is_running(process.pid) for _, process in processes)
    assert cluster.list_all_nodes() == [cluster.head_node]
    assert os.listdir(node.get_session_dir_path()) == ["logs"]
    cluster.wait_for_nodes()
    alive = {row["NodeID"]: row["Alive"] for row in ray.nodes()}
    assert alive == {cluster.head_node.node_id: True, node.node_id: False}
    with pytest.raises(ValueError, match="not part of this cluster"):
        cluster.remove_node(node)


@pytest.mark.ours_only
def test_killed_raylet_takes_its_workers_along(make_cluster):
    cluster = make_cluster(initialize_head=True, head_node_args=SMALL)
    node = cluster.head_node
    ray.init(cluster.address, log_to_driver=False)

    @ray.remote
    def pid():
        return os.getpid()

    worker = ray.get(pid.remote())
    ray.shutdown()
    node.kill_raylet()
    wait_until(lambda: not is_running(worker))
    assert node.any_processes_alive()
    assert cluster.remaining_processes_alive()  # what was killed is not missed
    with pytest.raises(RuntimeError, match="does not run"):
        node.kill_raylet()
    node.kill_raylet(check_alive=False)


@pytest.mark.ours_only
def test_node_that_stands_still_is_missed(make_cluster):
    cluster = make_cluster(
        initialize_head=True,
        head_node_args={**SMALL, "_system_config": {"node_dead_timeout_ms": 1000}},
    )
    node = cluster.add_node(**SMALL)
    cluster.wait_for_nodes()
    ((_, raylet),) = node.live_processes()
    cluster.worker_nodes.discard(node)
    with pytest.raises(TimeoutError, match="1 that were removed"):
        cluster.wait_for_nodes(timeout=0.1)
    raylet.send_signal(signal.SIGKILL)
    cluster.wait_for_nodes(timeout=20)
    node.kill_all_processes()


def test_environment_of_a_node_reaches_its_workers(make_cluster):
    cluster = make_cluster()
    cluster.add_node(env_vars={"OF_THE_NODE": "yes"}, **SMALL)
    ray.init(cluster.address, log_to_driver=False)

    @ray.remote
    def read():
        return os.environ.get("OF_THE_NODE")

    assert ray.get(read.remote()) == "yes"


@pytest.mark.ours_only
def test_misuse_is_refused(make_cluster):
    with pytest.raises(RuntimeError, match="head"):
        Cluster(connect=True)
    cluster = make_cluster()
    assert cluster.address is None and cluster.list_all_nodes() == []
    for call in (cluster.connect, cluster.wait_for_nodes):
        with pytest.raises(RuntimeError):
            call()
    with pytest.raises(TypeError, match="number_of_cpus"):
        cluster.add_node(number_of_cpus=1)
    with pytest.raises(ValueError, match="num_cpus"):
        cluster.add_node(num_cpus=-1)
    assert cluster.list_all_nodes() == []


@pytest.mark.ours_only
def test_cluster_dies_with_its_program(run_program, tmp_path):
    program = run_program(
        """
import time
from ray.cluster_utils import Cluster
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
cluster.add_node(num_cpus=1)
print(*[p.pid for n in cluster.list_all_nodes() for _, p in n.live_processes()])
print("ready", flush=True)
time.sleep(60)
""",
        RAY_TMPDIR=str(tmp_path),
    )
    pids = [int(pid) for pid in program.process.stdout.readline().split()]
    program.line_with("ready")
    assert len(pids) == 3 and all(map(is_running, pids))
    program.send(signal.SIGKILL)
    for pid in pids:
        wait_until(lambda pid=pid: not is_running(pid))
