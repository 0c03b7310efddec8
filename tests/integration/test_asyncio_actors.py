"""The event loop of an asyncio actor serves calls and whatever else the program awaits."""

import asyncio
import os
import signal
import socket
import sys
import threading
import time

import pytest

import ray

pytestmark = pytest.mark.usefixtures("cluster")


@ray.remote(num_cpus=0)
class Reader:
    """Waits for descriptors, threads, timers and processes."""

    def __init__(self):
        self.spinning = True

    def pid(self):
        return os.getpid()

    async def greet(self, name):
        return f"hello {name}"

    async def receive_line(self, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        line = await reader.readline()
        writer.close()
        return line

    async def from_a_thread(self):
        loop, done = asyncio.get_running_loop(), asyncio.Event()
        threading.Timer(0.05, loop.call_soon_threadsafe, (done.set,)).start()
        await done.wait()
        return "set"

    async def sleep(self, seconds):
        before = time.monotonic()
        await asyncio.sleep(seconds)
        return time.monotonic() - before

    async def run_program(self):
        program = await asyncio.create_subprocess_exec(
            sys.executable, "-c", "print('out')", stdout=asyncio.subprocess.PIPE
        )
        output, _ = await program.communicate()
        return output, program.returncode

    async def wait_for_signal(self):
        loop, came = asyncio.get_running_loop(), asyncio.Event()
        loop.add_signal_handler(signal.SIGUSR1, came.set)
        await came.wait()
        return "came"

    async def spin(self):
        rounds = 0
        while self.spinning:
            rounds += 1
            await asyncio.sleep(0)
        return rounds

    async def stop_spinning(self):
        self.spinning = False


@pytest.fixture
def actor():
    return Reader.remote()


def test_descriptors_and_calls_are_served_at_once(actor):
    with socket.create_server(("127.0.0.1", 0)) as server:
        line = actor.receive_line.remote(server.getsockname()[1])
        connection, _ = server.accept()
        with connection:
            # The loop waits for the descriptor and still answers.
            assert ray.get([actor.greet.remote(i) for i in range(300)])[-1] == "hello 299"
            assert ray.wait([line], timeout=0)[0] == []
            connection.sendall(b"a line\n")
            assert ray.get(line, timeout=20) == b"a line\n"


def test_threads_wake_the_loop(actor):
    assert ray.get(actor.from_a_thread.remote(), timeout=20) == "set"


def test_timers_fire_in_an_idle_loop(actor):
    assert 0.2 <= ray.get(actor.sleep.remote(0.2), timeout=20) < 5


def test_processes_are_awaited(actor):
    assert ray.get(actor.run_program.remote(), timeout=30) == (b"out\n", 0)


def test_signals_reach_an_idle_loop(actor):
    came = actor.wait_for_signal.remote()
    ray.get(actor.greet.remote("it"))  # the handler is there
    os.kill(ray.get(actor.pid.remote()), signal.SIGUSR1)
    assert ray.get(came, timeout=20) == "came"


def test_loop_that_never_rests_takes_calls(actor):
    rounds = actor.spin.remote()
    assert ray.get(actor.greet.remote("you"), timeout=20) == "hello you"
    ray.get(actor.stop_spinning.remote(), timeout=20)
    assert ray.get(rounds, timeout=20) > 0
