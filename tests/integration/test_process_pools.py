"""ray.util.multiprocessing.Pool beyond what the specification asks."""

import functools
import itertools
import os
import pickle
import time

import pytest

import ray
from integration.programs import is_running, wait_until
from ray._runtime import RUNTIME
from ray.exceptions import ActorDiedError, TaskCancelledError
from ray.util.multiprocessing import Pool, TimeoutError
from ray.util.multiprocessing.pool import PoolTaskError


@pytest.fixture
def pool(cluster):
    with Pool(2) as pool:
        yield pool


def inverse(x):
    return 1 / x


def touch_and_wait(folder, name, awaited):
    """Makes a file, and waits until others are there."""
    (folder / name).touch()
    wait_until(lambda: all((folder / other).exists() for other in awaited), 20)
    return name


def test_long_call_does_not_delay_the_others(pool, tmp_path):
    # "first" ends only after all the others, which one process then has to run.
    call = functools.partial(_run_behind, tmp_path)
    assert pool.map(call, range(6), chunksize=1) == list(range(6))


def _run_behind(folder, number):
    others = [str(other) for other in range(1, 6)] if number == 0 else []
    touch_and_wait(folder, str(number), others)
    return number


@pytest.mark.parametrize("is_closed", [False, True])
def test_chunks_sent_ahead_are_taken_back_from_behind_a_long_one(cluster, tmp_path, is_closed):
    # All are short, so that many are sent ahead, but for one in the middle that waits for the rest.
    call = functools.partial(_run_before, tmp_path)
    with Pool(2) as pool:
        result = pool.map_async(call, range(200), chunksize=1)
        if is_closed:
            pool.close()
        assert result.get(timeout=60) == list(range(200))


def _run_before(folder, number):
    later = range(101, 200) if number == 100 else []
    touch_and_wait(folder, str(number), map(str, later))
    return number


@pytest.mark.ours_only
def test_process_loads_a_function_once(pool, tmp_path):
    assert pool.map(_Loaded(tmp_path / "first"), range(40), chunksize=1) == list(range(40))
    assert pool.map(_Loaded(tmp_path / "second"), range(40), chunksize=1) == list(range(40))
    for name in ("first", "second"):
        assert 1 <= len((tmp_path / name).read_text()) <= 2


class _Loaded:
    """A function that notes each time it is loaded."""

    def __init__(self, notes):
        self.notes = notes

    def __call__(self, item):
        return item

    def __setstate__(self, state):
        self.__dict__ |= state
        with self.notes.open("a") as notes:
            notes.write("x")


def test_function_that_cannot_be_loaded_says_so_each_time(pool):
    for _ in range(2):
        with pytest.raises(Exception, match="never loads"):
            pool.map(_NeverLoads(), range(40), chunksize=1)
    assert pool.map(abs, range(-40, 0), chunksize=1) == list(range(40, 0, -1))


class _NeverLoads:
    def __call__(self, item):
        return item

    def __setstate__(self, state):
        raise OSError("never loads")

    def __getstate__(self):
        return {"some": "state"}


def test_item_that_cannot_be_sent_fails_its_result(pool):
    with pytest.raises(TypeError):
        pool.map(abs, [1, (x for x in ()), 2], chunksize=1)
    assert pool.map(abs, [-1, -2]) == [1, 2]


def test_error_shows_the_traceback_in_the_process(pool):
    with pytest.raises(ZeroDivisionError) as caught:
        pool.map(inverse, [0])
    assert "in inverse" in str(caught.value.__cause__)


def test_error_that_cannot_be_pickled_is_described(pool):
    def fail():
        error = ValueError("odd")
        error.callback = (x for x in ())
        raise error

    with pytest.raises(Exception, match="odd"):
        pool.apply(fail)


def test_error_callback_gets_a_pool_task_error(pool):
    errors = []
    pool.map_async(inverse, [0, 1], error_callback=errors.append).wait(30)
    wait_until(lambda: errors)
    assert isinstance(errors[0], PoolTaskError)
    assert isinstance(errors[0].underlying, ZeroDivisionError)


@pytest.mark.ours_only
@pytest.mark.parametrize("chunksize", [1, 3])
def test_imap_raises_where_the_item_would_be(pool, chunksize):
    results = pool.imap(inverse, [1, 0, 2], chunksize=chunksize)
    assert next(results) == 1.0
    with pytest.raises(ZeroDivisionError):
        next(results)
    assert next(results) == 0.5
    with pytest.raises(StopIteration):
        next(results)


def test_imap_takes_items_as_results_are_taken(pool):
    assert list(itertools.islice(pool.imap(abs, itertools.count()), 5)) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("method", ["imap", "imap_unordered"])
def test_imap_times_out_and_goes_on(pool, method):
    results = getattr(pool, method)(time.sleep, [0.5])
    with pytest.raises(TimeoutError):
        results.next(timeout=0.01)
    assert results.next(timeout=30) is None


def test_worn_processes_are_replaced(cluster):
    with Pool(1, maxtasksperchild=2) as pool:
        pids = [pool.apply(os.getpid) for _ in range(5)]
    assert pids[0] == pids[1] != pids[2] == pids[3] != pids[4]


@pytest.mark.ours_only
def test_process_that_dies_fails_its_call_and_is_replaced(cluster):
    with Pool(1) as pool:
        with pytest.raises(ActorDiedError):
            pool.apply(os._exit, (1,))
        assert pool.map(abs, [-1, -2]) == [1, 2]


@pytest.mark.ours_only
def test_process_that_dies_fails_its_map_and_is_replaced(pool):
    for _ in range(3):
        with pytest.raises(ActorDiedError):
            pool.map(_die_at_100, range(200), chunksize=1)
        assert pool.map(abs, range(-40, 0), chunksize=1) == list(range(40, 0, -1))


def _die_at_100(number):
    if number == 100:
        os._exit(1)
    return number


@pytest.mark.ours_only
def test_only_calls_that_have_not_started_are_taken_back(cluster, tmp_path):
    @ray.remote(num_cpus=0)
    class Process:
        def run(self, name, awaited):
            return touch_and_wait(tmp_path, name, awaited)

    process = Process.remote()
    running = process.run.remote("running", ["go"])
    waiting = process.run.remote("waiting", [])
    wait_until(lambda: (tmp_path / "running").exists())
    for ref in (running, waiting):
        RUNTIME.require().cancel_unless_started(ref)
    with pytest.raises(TaskCancelledError):
        ray.get(waiting, timeout=30)
    (tmp_path / "go").touch()
    assert ray.get(running, timeout=30) == "running"
    assert not (tmp_path / "waiting").exists()
    assert ray.get(process.run.remote("next", []), timeout=30) == "next"


def test_failing_initializer_is_reported(cluster):
    with Pool(1, initializer=lambda x: 1 / x, initargs=(0,)) as pool:
        with pytest.raises(ActorDiedError, match="ZeroDivisionError"):
            pool.apply(abs, (1,))


def test_terminate_fails_what_has_not_ended(cluster):
    pool = Pool(1)
    running, waiting = (pool.apply_async(time.sleep, (60,)) for _ in range(2))
    pool.terminate()
    for result in (running, waiting):
        with pytest.raises(ActorDiedError):
            result.get(timeout=30)
    pool.join()


def test_close_lets_calls_end_and_join_waits_for_the_processes(cluster):
    pool = Pool(2)
    pids = set(pool.map(lambda _: os.getpid(), range(8)))
    results = pool.map_async(abs, range(-20, 0), chunksize=1)
    pool.close()
    pool.join()
    assert results.get(timeout=0) == list(range(20, 0, -1))
    wait_until(lambda: not any(map(is_running, pids)))


def test_bad_arguments(pool):
    with pytest.raises(ValueError, match="Processes"):
        Pool(0)
    with pytest.raises(TypeError):
        Pool("2")
    with pytest.raises(ValueError, match="only 4 CPUs"):
        Pool(5)
    with pytest.raises(TypeError):
        pool.map(abs, 3)
    with pytest.raises(TypeError):
        pool.apply(3)
    with pytest.raises((NotImplementedError, AttributeError)):
        pickle.dumps(pool)


@pytest.mark.ours_only
def test_chunks_hold_at_least_an_item(pool):
    for method in (pool.map, pool.imap, pool.imap_unordered):
        with pytest.raises(ValueError, match="chunksize"):
            method(abs, [1], chunksize=0)


def test_nothing_is_no_work(pool):
    assert pool.map(abs, []) == []
    assert list(pool.imap(abs, [])) == []
    assert pool.starmap_async(pow, [(2, 3)]).get() == [8]


def test_references_are_passed_as_they_are(pool):
    ref = ray.put(3)
    assert pool.apply(lambda x: x, (ref,)) == ref
    assert pool.map(lambda x: x, [ref]) == [ref]


def test_joblib_errors_and_all_processes(cluster):
    joblib = pytest.importorskip("joblib")
    from ray.util.joblib import register_ray

    register_ray()
    with joblib.parallel_backend("ray", n_jobs=-1):
        assert joblib.effective_n_jobs() == 4
        with pytest.raises(ZeroDivisionError):
            joblib.Parallel()(joblib.delayed(inverse)(x) for x in [1, 0])


def test_joblib_processes_take_options(cluster):
    joblib = pytest.importorskip("joblib")
    from ray.util.joblib import register_ray

    register_ray()
    with joblib.parallel_backend("ray", n_jobs=2, ray_remote_args={"max_concurrency": 2}):
        pids = joblib.Parallel()(joblib.delayed(os.getpid)() for _ in range(3))
    assert os.getpid() not in pids
    with joblib.parallel_backend("ray", n_jobs=2, ray_remote_args={"no_such_option": 1}):
        with pytest.raises(ValueError, match="no_such_option"):
            joblib.Parallel()(joblib.delayed(abs)(x) for x in [1, 2])
