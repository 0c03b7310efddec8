"""The API from several threads of a driver, and in a process forked from it."""

import concurrent.futures
import os

import pytest

import ray

pytestmark = pytest.mark.usefixtures("cluster")


@ray.remote
def double(x):
    return 2 * x


@ray.remote(num_cpus=0)
class Adder:
    def __init__(self):
        self.total = 0

    def add(self, x):
        self.total += x
        return self.total


def run_in_threads(function, count):
    with concurrent.futures.ThreadPoolExecutor(count) as pool:
        return list(pool.map(function, range(count)))


def test_threads_call_tasks():
    def work(thread):
        return ray.get([double.remote(thread * 100 + i) for i in range(100)])

    expected = [[2 * (thread * 100 + i) for i in range(100)] for thread in range(8)]
    assert run_in_threads(work, 8) == expected


def test_threads_share_an_actor():
    adder = Adder.remote()

    def work(_thread):
        return [ray.get(adder.add.remote(1)) for _ in range(50)]

    totals = sorted(total for totals in run_in_threads(work, 8) for total in totals)
    assert totals == list(range(1, 401))


def test_calls_of_one_thread_stay_in_order():
    adder = Adder.remote()

    def work(_thread):
        return ray.get([adder.add.remote(1) for _ in range(100)])

    for totals in run_in_threads(work, 4):
        assert totals == sorted(totals)


def test_threads_get_the_same_ref():
    ref = double.remote(21)
    assert run_in_threads(lambda _: ray.get(ref), 8) == [42] * 8


def test_threads_put_and_wait():
    def work(thread):
        refs = [ray.put((thread, i)) for i in range(50)]
        ready, pending = ray.wait(refs, num_returns=50)
        return pending == [] and ray.get(ready) == [(thread, i) for i in range(50)]

    assert all(run_in_threads(work, 8))


def in_forked_child(function):
    """What the function returned or raised in a forked child, as text."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            text = f"returned {function()}"
        except BaseException as error:
            text = f"{type(error).__name__}: {error}"
        os.write(writer, text.encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        text = pipe.read()
    os.waitpid(child, 0)
    return text


@pytest.mark.ours_only
@pytest.mark.parametrize("use", ["get", "put", "task", "actor"])
def test_forked_child_gets_a_clear_error(use):
    ref, adder = ray.put(1), Adder.remote()
    assert ray.get(adder.add.remote(1)) == 1
    uses = {
        "get": lambda: ray.get(ref),
        "put": lambda: ray.put(1),
        "task": lambda: ray.get(double.remote(1)),
        "actor": lambda: ray.get(adder.add.remote(1)),
    }
    text = in_forked_child(uses[use])
    assert not text.startswith("returned"), text
    assert "fork" in text, text
    # The parent's session is as it was.
    assert ray.get([double.remote(2), ref]) == [4, 1]
    assert ray.get(adder.add.remote(1)) == 2
