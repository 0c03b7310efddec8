"""Tensors that go from actor to actor by a transport: ray.experimental.rdt."""

import gc
import os
import pathlib
import re
import signal

import numpy as np
import pytest

import ray
from integration import shared_memory_transport
from integration.programs import wait_until
from integration.shared_memory_transport import NAME, notes
from ray.cluster_utils import Cluster
from ray.experimental import (
    set_target_device_for_ref,
    set_target_for_ref,
    wait_tensor_freed,
)
from ray.experimental.rdt.rdt_manager import MANAGER

shared_memory_transport.register()


class Subclass(np.ndarray):
    pass


@ray.remote(num_cpus=0, enable_tensor_transport=True)
class Model:
    """Has tensors."""

    def __init__(self):
        self.weights = np.arange(4.0)

    @ray.method(tensor_transport=NAME)
    def state(self):
        return {"weights": self.weights, "twice": [self.weights, np.ones(2)], "step": 7}

    @ray.method(tensor_transport=NAME)
    def nothing(self):
        return "no tensors", np.ones(3).view(Subclass)

    @ray.method(tensor_transport=NAME)
    def with_reference(self):
        return {"weights": self.weights, "reference": ray.put("inside")}

    @ray.method(tensor_transport=NAME)
    def large(self, count):
        self.weights = np.arange(count, dtype=np.float64)
        return {"weights": self.weights, "text": "x" * 300_000}

    @ray.method(tensor_transport="cut_wire")
    def by_cut_wire(self):
        return self.weights

    @ray.method(tensor_transport="slow_wire")
    def by_slow_wire(self):
        return self.weights

    @ray.method(tensor_transport="gpus_only")
    def by_gpus(self):
        return self.weights

    @ray.method(tensor_transport=NAME)
    def fails(self):
        raise KeyError("own error")

    def plain(self):
        return self.weights

    def is_own(self, state):
        return state["weights"] is self.weights and state["twice"][0] is self.weights

    def total(self, state):
        return float(state["weights"].sum())

    def total_of(self, refs):
        return [self.total(ray.get(ref)) for ref in refs]

    def transports_of(self, refs):
        return [ref.tensor_transport() for ref in refs]

    def keep(self, refs):
        self.kept = refs

    def drop(self):
        del self.kept

    def put(self):
        return [ray.put({"weights": self.weights}, _tensor_transport=NAME)]

    def wait_freed(self, timeout):
        wait_tensor_freed(self.weights, timeout)

    def receive_into(self, refs):
        buffers = [np.zeros(4), np.zeros(2)]
        set_target_for_ref(refs[0], buffers)
        state = ray.get(refs[0])
        return state["weights"] is buffers[0] and state["twice"][1] is buffers[1], buffers[0]

    def kept_objects(self):
        from ray.experimental.rdt.rdt_manager import MANAGER

        return MANAGER.rdt_store.get_num_objects()

    def pid(self):
        return os.getpid()


@ray.remote(num_cpus=0)
class AsyncModel:
    @ray.method(tensor_transport=NAME)
    async def state(self):
        return {"weights": np.full(3, 2.0)}

    @ray.method(tensor_transport=NAME)
    def sync_state(self):
        return {"weights": np.full(3, 3.0)}

    async def total(self, state):
        return float(state["weights"].sum())


class TwoSided(shared_memory_transport.SharedMemoryTransport):
    @staticmethod
    def is_one_sided():
        return False


@ray.remote(num_cpus=0)
def first_of(value):
    return value[0][0]


@pytest.fixture(scope="module", autouse=True)
def log(tmp_path_factory):
    path = tmp_path_factory.mktemp("transport") / "log"
    os.environ["TRANSPORT_LOG"] = str(path)
    os.environ["TRANSPORT_PREFIX"] = f"ray_test_{os.getpid()}_"
    yield path
    ray.shutdown()
    shared_memory_transport.clean_up()
    del os.environ["TRANSPORT_LOG"], os.environ["TRANSPORT_PREFIX"]


@pytest.fixture
def actors(log, cluster):
    return Model.remote(), Model.remote()


def kept_in(actor):
    return ray.get(actor.kept_objects.remote())


def done(log, obj_id):
    """What the transport was asked to do for an object, by all processes."""
    return [line[1] for line in notes(log) if len(line) > 2 and line[2] == obj_id]


def test_get_brings_tensors_and_the_rest(actors):
    state = ray.get(actors[0].state.remote())
    assert state["step"] == 7
    assert state["weights"].tolist() == [0, 1, 2, 3]
    assert state["twice"][0] is state["weights"]
    assert state["twice"][1].tolist() == [1, 1]
    state["weights"][0] = 9  # The caller's own.


def test_argument_is_brought_by_the_transport(actors, log):
    source, receiver = actors
    ref = source.state.remote()
    assert ray.get(receiver.total.remote(ref)) == 6
    assert done(log, ref.hex()) == ["extract", "receive"]
    assert [line[1] for line in notes(log)].count("communicator") > 0


def test_own_actor_gets_the_very_tensors(actors, log):
    ref = actors[0].state.remote()
    assert ray.get(actors[0].is_own.remote(ref))
    assert not ray.get(actors[1].is_own.remote(ref))
    assert done(log, ref.hex()).count("receive") == 1


def test_references_inside_arguments(actors):
    refs = [actors[0].state.remote(), actors[0].state.remote()]
    assert ray.get(actors[1].total_of.remote(refs)) == [6, 6]


def test_tasks_get_tensors_too(actors):
    @ray.remote
    def total(state):
        return float(state["weights"].sum())

    assert ray.get(total.remote(actors[0].state.remote())) == 6


def test_last_reference_frees_the_tensors(actors, log):
    source = actors[0]
    ref = source.state.remote()
    ray.wait([ref])
    assert kept_in(source) == 1
    with pytest.raises(TimeoutError):
        ray.get(source.wait_freed.remote(0.05))
    obj_id = ref.hex()
    del ref
    ray.get(source.wait_freed.remote(10))
    wait_until(lambda: done(log, obj_id)[-1] == "collect")
    assert kept_in(source) == 0


def test_borrower_keeps_the_tensors(actors):
    source, holder = actors
    ray.get(holder.keep.remote([source.state.remote()]))
    gc.collect()
    with pytest.raises(TimeoutError):
        ray.get(source.wait_freed.remote(0.2))
    ray.get(holder.drop.remote())
    ray.get(source.wait_freed.remote(10))


def test_result_nobody_wants_is_freed(actors):
    actors[0].state.remote()
    wait_until(lambda: kept_in(actors[0]) == 0)


def test_tensor_that_was_never_returned_is_free(actors):
    ray.get(actors[0].wait_freed.remote(0))


def test_reference_inside_the_value_lives_as_long(actors):
    value = ray.get(actors[0].with_reference.remote())
    gc.collect()
    assert ray.get(value["reference"]) == "inside"


def test_value_without_tensors_stays_as_it_is(actors):
    text, other = ray.get(actors[0].nothing.remote())
    assert text == "no tensors"
    assert type(other) is Subclass
    assert kept_in(actors[0]) == 0


def test_large_rest_travels_through_the_store(actors):
    state = ray.get(actors[0].large.remote(1000))
    assert len(state["text"]) == 300_000
    assert state["weights"][-1] == 999


def test_through_the_object_store(actors, log):
    source, receiver = actors
    ref = source.state.remote()
    state = ray.get(ref, _use_object_store=True)
    assert state["weights"].tolist() == [0, 1, 2, 3]
    assert "receive" not in done(log, ref.hex())
    large = source.large.remote(100_000)
    assert ray.get([large], _use_object_store=True)[0]["weights"].sum() == 4999950000
    assert ray.get(receiver.plain.remote(), _use_object_store=True).tolist() == [0, 1, 2, 3]
    # The next get takes the usual way again.
    ray.get(ref)
    assert done(log, ref.hex()).count("receive") == 1


def test_through_the_object_store_from_a_busy_actor(actors):
    ref = actors[0].state.remote()
    ray.wait([ref])
    busy = actors[0].wait_freed.remote(20)
    assert ray.get(ref, _use_object_store=True, timeout=10)["step"] == 7
    del ref
    ray.get(busy)


def test_name_of_the_transport(actors):
    refs = [actors[0].state.remote(), actors[0].plain.remote(), ray.put(1)]
    ray.wait(refs, num_returns=3)
    expected = [NAME.upper(), None, None]
    assert [ref.tensor_transport() for ref in refs] == expected
    assert ray.get(actors[1].transports_of.remote(refs)) == expected


def test_put(actors):
    source, receiver = actors
    (ref,) = ray.get(source.put.remote())
    assert ref.tensor_transport() == NAME.upper()
    assert ray.get(ref)["weights"].tolist() == [0, 1, 2, 3]
    assert ray.get(receiver.total.remote(ref)) == 6
    del ref
    wait_until(lambda: kept_in(source) == 0)


def test_put_by_the_driver(actors):
    weights = np.ones(5)
    ref = ray.put({"weights": weights, "twice": [weights]}, _tensor_transport=NAME)
    assert ray.get(ref)["weights"] is weights
    assert ray.get(actors[0].total.remote(ref)) == 5
    assert ray.get(actors[0].total_of.remote([ref])) == [5]
    with pytest.raises(TimeoutError):
        wait_tensor_freed(weights, 0.05)
    del ref
    wait_tensor_freed(weights, 10)


def test_call_option(actors):
    plain = actors[0].plain.options(tensor_transport=NAME)
    ref = plain.remote()
    assert ref.tensor_transport() == NAME.upper()
    assert ray.get(ref).tolist() == [0, 1, 2, 3]


def test_receive_into_own_buffers(actors):
    source, receiver = actors
    is_buffer, received = ray.get(receiver.receive_into.remote([source.state.remote()]))
    assert is_buffer
    assert received.tolist() == [0, 1, 2, 3]


def test_target_holds_for_one_get(actors):
    ref = actors[0].state.remote()
    buffers = [np.zeros(4), np.zeros(2)]
    set_target_for_ref(ref, buffers)
    assert ray.get(ref)["weights"] is buffers[0]
    assert ray.get(ref)["weights"] is not buffers[0]
    set_target_for_ref(ref, buffers)
    assert ray.get(ref, _use_object_store=True)["weights"] is buffers[0]


def test_target_device(actors):
    ref = actors[0].state.remote()
    set_target_device_for_ref(ref, "cpu")
    assert ray.get(ref)["weights"].tolist() == [0, 1, 2, 3]
    set_target_device_for_ref(ref, "abacus")
    with pytest.raises(ValueError, match="abacus"):
        ray.get(ref)


@pytest.mark.parametrize("buffers", [[np.zeros(4)], [np.zeros(4), np.zeros(3)]])
def test_target_that_does_not_fit(actors, buffers):
    ref = actors[0].state.remote()
    set_target_for_ref(ref, buffers)
    with pytest.raises(ValueError, match="target buffer"):
        ray.get(ref)
    assert ray.get(ref)["step"] == 7


def test_bad_targets(actors):
    ref = actors[0].state.remote()
    with pytest.raises(TypeError):
        set_target_for_ref(ref, np.zeros(4))
    with pytest.raises(TypeError):
        set_target_for_ref("ref", [])
    with pytest.raises(TypeError):
        set_target_device_for_ref(ref, 3)
    for plain in (actors[0].plain.remote(), ray.put(1)):
        with pytest.raises(ValueError, match="no tensors"):
            set_target_for_ref(plain, [np.zeros(4)])


def test_asyncio_actor(log, cluster):
    actor, other = AsyncModel.remote(), AsyncModel.remote()
    assert ray.get(other.total.remote(actor.state.remote())) == 6
    assert ray.get(other.total.remote(actor.sync_state.remote())) == 9


async def _await(ref):
    return await ref


def test_await(actors):
    import asyncio

    assert asyncio.run(_await(actors[0].state.remote()))["step"] == 7


def test_graph_of_calls(actors):
    source, receiver = actors
    node = receiver.total.bind(source.state.bind())
    assert ray.get(node.execute()) == 6


def test_error_of_the_method(actors):
    with pytest.raises(KeyError, match="own error"):
        ray.get(actors[0].fails.remote())


def test_error_of_the_transport_reaches_the_caller(actors):
    source, receiver = actors
    ref = source.by_cut_wire.remote()
    with pytest.raises(ConnectionError, match="the wire is cut"):
        ray.get(ref)
    with pytest.raises(ConnectionError, match="the wire is cut"):
        ray.get(receiver.is_own.remote(ref))
    # That way is not affected.
    assert ray.get(ref, _use_object_store=True).tolist() == [0, 1, 2, 3]


def test_device_that_the_transport_does_not_serve(actors):
    with pytest.raises(ValueError, match="takes tensors on cuda"):
        ray.get(actors[0].by_gpus.remote())


def test_death_of_the_source(actors):
    source, receiver = actors
    cut, slow, state = (
        source.by_cut_wire.remote(),
        source.by_slow_wire.remote(),
        source.state.remote(),
    )
    ray.wait([cut, slow, state], num_returns=3)
    pid = ray.get(source.pid.remote())
    waiting = receiver.is_own.remote(slow)
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(ray.exceptions.ActorDiedError):
        ray.get(cut)
    with pytest.raises(ray.exceptions.ActorDiedError):
        ray.get(state, _use_object_store=True)
    with pytest.raises(ray.exceptions.ActorDiedError):
        ray.get(waiting)


def test_handle_in_another_process_knows_the_transport(actors):
    @ray.remote
    def call(model):
        ref = model.state.remote()
        return ref.tensor_transport(), ray.get(ref)["step"]

    assert ray.get(call.remote(actors[0])) == (NAME.upper(), 7)


def test_what_is_refused(actors):
    with pytest.raises(ValueError, match="already registered"):
        shared_memory_transport.register()
    with pytest.raises(ValueError, match="subclass of TensorTransportManager"):
        ray.experimental.register_tensor_transport("other", ["cpu"], int, np.ndarray)
    with pytest.raises(ValueError, match="two-sided"):
        ray.experimental.register_tensor_transport("other", ["cpu"], TwoSided, np.ndarray)
    with pytest.raises(TypeError, match="list of strings"):
        ray.experimental.register_tensor_transport(
            "other", "cpu", shared_memory_transport.CutWire, np.ndarray
        )
    with pytest.raises(TypeError, match="data_type"):
        ray.experimental.register_tensor_transport(
            "other", ["cpu"], shared_memory_transport.CutWire, "numpy"
        )
    with pytest.raises(ValueError, match="Invalid tensor transport 'carrier_pigeon'"):
        ray.method(tensor_transport="carrier_pigeon")(lambda self: None)
    with pytest.raises(ValueError, match="groups of actors"):
        ray.method(tensor_transport="nccl")(lambda self: None)
    with pytest.raises(TypeError):
        ray.method(tensor_transport=3)(lambda self: None)
    with pytest.raises(ValueError, match="carrier_pigeon"):
        ray.put(np.ones(1), _tensor_transport="carrier_pigeon")
    with pytest.raises(ValueError, match="num_returns=1"):
        actors[0].state.options(num_returns=2)
    with pytest.raises(ValueError, match="Invalid option keyword"):
        ray.remote(tensor_transport=NAME)(lambda: None)


def test_actor_that_does_not_enable_it(cluster):
    @ray.remote(num_cpus=0)
    class Plain:
        def weights(self):
            return np.ones(2)

    plain = Plain.remote()
    with pytest.raises(ValueError, match="enable_tensor_transport=True"):
        plain.weights.options(tensor_transport=NAME)
    with pytest.raises(ValueError, match="enable_tensor_transport=False"):
        Model.options(enable_tensor_transport=False)


def test_restarted_actor_keeps_tensors_anew(cluster):
    model = Model.options(max_restarts=1, max_task_retries=1).remote()
    cut, state = model.by_cut_wire.remote(), model.state.remote()
    ray.wait([cut, state], num_returns=2)
    os.kill(ray.get(model.pid.remote()), signal.SIGKILL)
    assert ray.get(model.state.remote())["step"] == 7
    with pytest.raises(ray.exceptions.RayDirectTransportError, match="was restarted"):
        ray.get(cut)
    with pytest.raises(ray.exceptions.RayDirectTransportError, match="was restarted"):
        ray.get(state, _use_object_store=True)


def test_method_that_runs_again_keeps_its_tensors_anew(cluster):
    @ray.remote(num_cpus=0, max_task_retries=2)
    class Flaky:
        def __init__(self):
            self.attempts = 0

        @ray.method(tensor_transport=NAME, retry_exceptions=True)
        def state(self):
            self.attempts += 1
            if self.attempts == 1:
                raise ConnectionError
            return np.full(2, self.attempts)

    assert ray.get(Flaky.remote().state.remote()).tolist() == [2, 2]


def test_child_process_leaves_the_tensors_alone(cluster):
    weights = np.ones(2)
    ref = ray.put([weights], _tensor_transport=NAME)
    child = os.fork()
    if child == 0:
        MANAGER.shutdown()
        os._exit(0)
    os.waitpid(child, 0)
    assert MANAGER.rdt_store.has_tensor(weights)
    assert float(ray.get(first_of.remote(ref))) == 1.0


def test_session_end_lets_tensors_go(log, start_cluster):
    start_cluster(num_cpus=1)
    ref = ray.put([np.ones(2)], _tensor_transport=NAME)
    obj_id = ref.hex()
    assert MANAGER.is_managed_object(obj_id)
    ray.shutdown()
    assert not MANAGER.is_managed_object(obj_id)
    assert done(log, obj_id)[-1] == "collect"
    # A later session knows what was registered before it.
    start_cluster(num_cpus=1)
    assert ray.get(Model.remote().state.remote())["step"] == 7


def test_between_nodes(log):
    ray.shutdown()
    cluster = Cluster(initialize_head=True, connect=True, head_node_args={"num_cpus": 1})
    try:
        cluster.add_node(num_cpus=1, resources={"there": 2})
        source = Model.options(resources={"there": 1}).remote()
        receiver = Model.remote()
        ref, large = source.state.remote(), source.large.remote(200_000)
        assert ray.get(receiver.total.remote(ref)) == 6
        assert ray.get(receiver.total_of.remote([ref])) == [6]
        assert ray.get(large, _use_object_store=True)["weights"][-1] == 199_999
        del ref, large
        wait_until(lambda: kept_in(source) == 0)
        last = source.by_cut_wire.remote()
        ray.wait([last])
        cluster.remove_node(next(iter(cluster.worker_nodes)), allow_graceful=False)
        with pytest.raises(ray.exceptions.ActorDiedError):
            ray.get(last)
    finally:
        ray.shutdown()
        cluster.shutdown()


def test_transport_of_the_documentation(run_program):
    page = pathlib.Path(__file__).parents[2] / "docs" / "direct_transport.md"
    before = set(shared_memory_transport.FOLDER.glob("*.npy"))
    (program,) = re.findall(r"```python\n(import os, uuid.*?)```", page.read_text(), re.DOTALL)
    assert "1000.0" in run_program(program, RAY_ADDRESS="local").finish()
    for path in set(shared_memory_transport.FOLDER.glob("*.npy")) - before:
        path.unlink(missing_ok=True)  # Its actor ended before it could.
