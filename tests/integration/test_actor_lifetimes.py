"""When actors begin and end."""

import os
import signal

import pytest

import ray
from integration.programs import is_running, wait_until
from ray.exceptions import ActorDiedError, RayActorError

pytestmark = pytest.mark.usefixtures("cluster")


@ray.remote(num_cpus=0)
class Process:
    def __init__(self):
        self.calls = 0

    def pid(self):
        return os.getpid()

    def count(self):
        self.calls += 1
        return self.calls


@ray.remote
def pid_of(handles):
    return ray.get(handles[0].pid.remote())


def has_ended(pid):
    return lambda: not is_running(pid)


def test_process_ends_with_the_last_handle():
    actor = Process.remote()
    pid = ray.get(actor.pid.remote())
    assert is_running(pid)
    del actor
    wait_until(has_ended(pid))


def test_handle_in_a_task_keeps_the_actor_alive():
    pid = ray.get(pid_of.remote([Process.remote()]))
    wait_until(has_ended(pid))


def test_handle_in_another_actor_keeps_the_actor_alive():
    @ray.remote(num_cpus=0)
    class Holder:
        def __init__(self, held):
            (self.held,) = held

        def pid(self):
            return ray.get(self.held.pid.remote())

    holder = Holder.remote([Process.remote()])
    pid = ray.get(holder.pid.remote())
    assert ray.get(holder.pid.remote()) == pid
    del holder
    wait_until(has_ended(pid))


def test_submitted_calls_finish_although_the_handle_is_gone():
    actor = Process.remote()
    counts = [actor.count.remote() for _ in range(50)]
    del actor
    assert ray.get(counts) == list(range(1, 51))


def test_detached_actor_stays_until_it_is_killed():
    Process.options(name="stays", lifetime="detached").remote()
    actor = ray.get_actor("stays")
    pid = ray.get(actor.pid.remote())
    del actor
    assert ray.get(ray.get_actor("stays").pid.remote()) == pid
    ray.kill(ray.get_actor("stays"))
    wait_until(has_ended(pid))


def test_calls_of_a_killed_actor_raise():
    actor = Process.remote()
    pid = ray.get(actor.pid.remote())
    ray.kill(actor)
    with pytest.raises(ActorDiedError):
        ray.get(actor.count.remote())
    wait_until(has_ended(pid))


def test_killed_process_is_restarted_with_fresh_state():
    actor = Process.options(max_restarts=1, max_task_retries=5).remote()
    assert ray.get([actor.count.remote() for _ in range(3)]) == [1, 2, 3]
    first = ray.get(actor.pid.remote())
    os.kill(first, signal.SIGKILL)
    assert ray.get(actor.count.remote()) == 1
    second = ray.get(actor.pid.remote())
    assert second != first

    os.kill(second, signal.SIGKILL)
    with pytest.raises(RayActorError):
        ray.get(actor.count.remote())


def test_named_actor_is_found_by_tasks():
    @ray.remote
    def find():
        return ray.get(ray.get_actor("well known").pid.remote())

    actor = Process.options(name="well known").remote()
    assert ray.get(find.remote()) == ray.get(actor.pid.remote())
    with pytest.raises(ValueError):
        ray.get_actor("unknown")


def test_many_actors_begin_and_end():
    actors = [Process.remote() for _ in range(8)]
    pids = ray.get([actor.pid.remote() for actor in actors])
    assert len(set(pids)) == 8
    del actors
    wait_until(lambda: not any(map(is_running, pids)))


def test_actor_classes_are_neither_subclassed_nor_called():
    @ray.remote
    class Base:
        pass

    with pytest.raises(ray.actor.ActorClassInheritanceException, match="Base is an actor class"):

        class Derived(Base):
            pass

    actor_class = type(Base)
    with pytest.raises(ray.actor.ActorClassInheritanceException, match="Base is an actor class"):
        actor_class("Derived", (Base,), {})
    with pytest.raises(AssertionError, match=r"decorate Derived with @ray\.remote"):
        actor_class("Derived", (), {})
