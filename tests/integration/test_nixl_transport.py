"""The transport "nixl", with stand-ins for the packages nixl and torch."""

import concurrent.futures
import os
import pathlib
import signal
import sys

import pytest

import ray
from integration.programs import wait_until

pytestmark = pytest.mark.ours_only

STAND_INS = str(pathlib.Path(__file__).parent / "stand_ins")


@pytest.fixture(scope="module", autouse=True)
def torch():
    """The stand-ins can be imported, here and by workers."""
    sys.path.insert(0, STAND_INS)
    import torch

    yield torch
    sys.path.remove(STAND_INS)
    for name in ("torch", "nixl"):
        sys.modules.pop(name, None)


@ray.remote(num_cpus=0, enable_tensor_transport=True)
class Trainer:
    def __init__(self):
        import torch

        self.torch = torch
        self.weights = torch.tensor([[1, 2, 3], [4, 5, 6]])

    @ray.method(tensor_transport="nixl")
    def state(self):
        return {"weights": self.weights, "bias": self.torch.tensor([7.0]), "step": 3}

    @ray.method(tensor_transport="nixl")
    def rows(self):
        return [self.weights[0], self.weights[1]]

    @ray.method(tensor_transport="nixl")
    def empty(self):
        return [self.torch.tensor([]), self.torch.tensor([1])]

    @ray.method(tensor_transport="nixl")
    def transposed(self):
        return self.weights.t()

    def set(self, value):
        self.weights.array[...] = value

    def total(self, state):
        return float(state["weights"].array.sum() + state["bias"].array.sum())

    def receive_into(self, refs):
        target = [self.torch.empty(2, 3, dtype=self.torch.float64), self.torch.tensor([0.0])]
        ray.experimental.set_target_for_ref(refs[0], target)
        state = ray.get(refs[0])
        return state["weights"] is target[0], state["weights"].tolist()

    def pin(self):
        ray.experimental.register_nixl_memory(self.weights)

    def unpin(self):
        ray.experimental.deregister_nixl_memory(self.weights)

    def use_pool(self, size):
        ray.experimental.register_nixl_memory_pool(size, self.torch.device("cpu"))

    def wait_for(self, stream):
        ray.experimental.set_nixl_cuda_stream(stream)

    def registered(self):
        """How many pieces of memory are registered, and transfers not released."""
        from ray.experimental.rdt.transports import TRANSPORTS

        agent = TRANSPORTS.manager("NIXL")._started().nixl
        return len(agent.registered), len(agent.transfers)

    def pid(self):
        return os.getpid()


class Stream:
    def synchronize(self):
        raise ConnectionError("the stream was waited for")


@pytest.fixture
def trainer(cluster):
    return Trainer.remote()


def registered(trainer):
    return ray.get(trainer.registered.remote())


def test_tensors_are_read(trainer):
    state = ray.get(trainer.state.remote())
    assert state["weights"].tolist() == [[1, 2, 3], [4, 5, 6]]
    assert (state["bias"].tolist(), state["step"]) == ([7], 3)
    assert ray.get(Trainer.remote().total.remote(trainer.state.remote())) == 28


def test_registration_lives_as_long_as_the_object(trainer):
    ref = trainer.state.remote()
    ray.wait([ref])
    assert registered(trainer) == (2, 0)
    ray.get(ref)
    del ref
    wait_until(lambda: registered(trainer) == (0, 0))


def test_receiver_registers_only_meanwhile(trainer):
    receiver = Trainer.remote()
    ray.get(receiver.total.remote(trainer.state.remote()))
    assert registered(receiver) == (0, 0)


def test_objects_share_the_memory_of_their_tensors(trainer):
    whole, rows = trainer.state.remote(), trainer.rows.remote()
    assert [row.tolist() for row in ray.get(rows)] == [[1, 2, 3], [4, 5, 6]]
    ray.wait([whole])
    assert registered(trainer)[0] == 2  # weights and bias
    del whole
    wait_until(lambda: registered(trainer)[0] == 1)
    assert ray.get(rows)[1].tolist() == [4, 5, 6]


def test_reader_follows_what_the_source_registers(trainer):
    kept = []
    for value in range(5):
        ray.get(trainer.set.remote(value))
        kept.append(trainer.state.remote())
        assert ray.get(kept[-1])["weights"].tolist() == [[value] * 3] * 2
    assert ray.get(kept[0])["weights"].tolist() == [[4] * 3] * 2  # The very memory.


def test_many_readers_at_once(trainer):
    receivers = [Trainer.remote() for _ in range(3)]
    refs = [trainer.state.remote() for _ in range(4)]
    totals = [receiver.total.remote(ref) for receiver in receivers for ref in refs]
    assert ray.get(totals) == [28] * 12


def test_threads_that_read_while_the_source_registers(trainer):
    def read(_):
        return ray.get(trainer.state.remote())["bias"].tolist()

    with concurrent.futures.ThreadPoolExecutor(8) as threads:
        assert list(threads.map(read, range(100))) == [[7]] * 100


def test_empty_tensors(trainer):
    assert [tensor.tolist() for tensor in ray.get(trainer.empty.remote())] == [[], [1]]


def test_tensor_in_pieces_is_refused(trainer):
    with pytest.raises(ValueError, match="not contiguous"):
        ray.get(trainer.transposed.remote())


def test_received_into_buffers(trainer):
    is_target, values = ray.get(Trainer.remote().receive_into.remote([trainer.state.remote()]))
    assert is_target
    assert values == [[1, 2, 3], [4, 5, 6]]


def test_target_device(trainer):
    ref = trainer.state.remote()
    ray.experimental.set_target_device_for_ref(ref, "cpu")
    assert ray.get(ref)["bias"].tolist() == [7]
    ray.experimental.set_target_device_for_ref(ref, "cuda:0")
    with pytest.raises(RuntimeError, match="no device cuda:0"):
        ray.get(ref)


def test_memory_registered_for_good(trainer):
    ray.get(trainer.pin.remote())
    ray.get(trainer.state.remote())
    wait_until(lambda: registered(trainer) == (1, 0))
    ray.get(trainer.unpin.remote())
    assert registered(trainer) == (0, 0)
    with pytest.raises(ValueError, match="not registered"):
        ray.get(trainer.unpin.remote())


def test_pool(trainer):
    ray.get(trainer.use_pool.remote(200))
    first, second = trainer.state.remote(), trainer.state.remote()
    ray.wait([first, second], num_returns=2)
    assert registered(trainer)[0] == 1
    ray.get(trainer.set.remote(0))
    # Snapshots.
    assert ray.get(Trainer.remote().total.remote(first)) == 28
    assert ray.get(second)["weights"].tolist() == [[1, 2, 3], [4, 5, 6]]
    third = trainer.state.remote()
    ray.wait([third])
    with pytest.raises(RuntimeError, match="no room for 56 bytes"):
        ray.get(trainer.state.remote())
    del first
    wait_until(lambda: room_again(trainer))


def room_again(trainer):
    try:
        return ray.get(trainer.state.remote())
    except RuntimeError:
        return None


def test_stream_is_waited_for(trainer):
    ray.get(trainer.wait_for.remote(Stream()))
    with pytest.raises(ConnectionError, match="the stream was waited for"):
        ray.get(trainer.state.remote())
    ray.get(trainer.wait_for.remote(None))
    assert ray.get(trainer.state.remote())["step"] == 3
    with pytest.raises(TypeError, match="CUDA stream"):
        ray.experimental.set_nixl_cuda_stream(3)


def test_put(torch, trainer):
    weights = torch.tensor([[1, 1, 1], [1, 1, 1]])
    ref = ray.put({"weights": weights, "bias": weights[0]}, _tensor_transport="nixl")
    assert ref.tensor_transport() == "NIXL"
    assert ray.get(trainer.total.remote(ref)) == 9
    assert ray.get(ref)["weights"] is weights


def test_source_that_dies(trainer):
    ref = trainer.state.remote()
    ray.wait([ref])
    os.kill(ray.get(trainer.pid.remote()), signal.SIGKILL)
    with pytest.raises(ray.exceptions.ActorDiedError):
        ray.get(ref)


def test_missing_package(cluster, run_program):
    program = run_program(
        """
import numpy as np, pytest, ray
from ray.experimental.rdt import nixl_tensor_transport
ray.init(address="local", num_cpus=1, include_dashboard=False)
with pytest.raises(ImportError, match="pip install nixl"):
    ray.experimental.register_nixl_memory(np.ones(2))
print("said so")
"""
    )
    assert "said so" in program.finish()
