"""What the native side calls in Python: pickling, and the errors of tasks."""

import threading

import numpy as np
import pytest

from ray import exceptions
from ray._runtime import RUNTIME
from ray._serialization import PythonHooks, pickle_definition
from ray.exceptions import RayTaskError
from ray.util.serialization import deregister_serializer, register_serializer

HOOKS = PythonHooks()


def through_pickle(value):
    buffers = []
    data = HOOKS.dumps(value, buffers.append)
    views = [memoryview(bytes(buffer.raw())).toreadonly() for buffer in buffers]
    return HOOKS.loads(memoryview(data), views), len(buffers)


def raised_by(function, *args):
    try:
        function(*args)
    except Exception as error:
        return error
    raise AssertionError("nothing was raised")


def test_arrays_travel_out_of_band_and_come_back_read_only():
    array = np.arange(10.0)
    copy, buffers = through_pickle({"a": array})
    assert buffers == 1
    assert not copy["a"].flags.writeable
    np.testing.assert_array_equal(copy["a"], array)


@pytest.mark.parametrize("value", [bytearray(b"xy"), memoryview(b"xy")])
def test_byte_buffers_come_back_as_bytes(value):
    assert through_pickle(value)[0] == b"xy"


def test_functions_and_local_classes_travel_by_value():
    class Local:
        factor = 3

    def times(x):
        return x * Local.factor

    assert through_pickle([times])[0][0](2) == 6


class Session:
    def __init__(self, token):
        self.token = token
        self.lock = threading.Lock()


def test_registered_serializer_is_used_until_it_is_removed():
    register_serializer(Session, serializer=lambda s: s.token, deserializer=lambda t: Session(t))
    try:
        assert through_pickle([Session("abc")])[0][0].token == "abc"
    finally:
        deregister_serializer(Session)
    with pytest.raises(TypeError, match="lock"):
        through_pickle(Session("abc"))


def test_error_says_which_part_cannot_be_serialized():
    value = {"deep": [1, Session("x")]}
    with pytest.raises(TypeError, match="serialize") as raised:
        HOOKS.dumps(value, lambda buffer: False)
    assert "cannot pickle '_thread.lock' object" in str(raised.value)
    assert "value['deep'][1].lock" in str(raised.value)


def test_error_names_the_argument_and_the_function():
    value = [threading.Lock()]
    error = raised_by(HOOKS.dumps, value, lambda buffer: False)
    described = HOOKS.describe_argument_error("train", None, "model", value, error)
    assert isinstance(described, TypeError)
    assert "'model'" in str(described) and "train()" in str(described)
    assert "cannot pickle '_thread.lock' object" in str(described)
    assert "argument 1" in str(HOOKS.describe_argument_error("train", 1, None, value, error))


def test_error_names_what_a_function_captures():
    lock = threading.Lock()
    with pytest.raises(TypeError, match=r"the function f.*lock \(used by"):
        pickle_definition(lambda: lock, "the function f")


def test_bytes_that_cannot_be_read_are_a_system_error():
    with pytest.raises(exceptions.RaySystemError):
        HOOKS.loads(memoryview(b"not a pickle"), [])


def fail():
    raise ValueError("text")


def test_task_error_has_the_remote_traceback():
    error = HOOKS.task_error(raised_by(fail), "train", None)
    assert isinstance(error, RayTaskError)
    assert type(error.cause) is ValueError
    assert "ray::train()" in str(error)
    assert "in fail" in str(error) and str(error).endswith("ValueError: text")


def test_task_error_shows_the_chain_of_causes():
    def chained():
        try:
            fail()
        except ValueError as error:
            raise KeyError("outer") from error

    text = str(HOOKS.task_error(raised_by(chained), "train", None))
    assert text.index("ValueError: text") < text.index("direct cause") < text.index("'outer'")


def test_task_error_of_a_nested_task_keeps_the_first_cause():
    inner = HOOKS.task_error(raised_by(fail), "inner", None).as_instanceof_cause()
    outer = HOOKS.task_error(inner, "outer", None)
    assert type(outer.cause) is ValueError
    assert "ray::outer()" in str(outer) and "ray::inner()" in str(outer)


def test_task_error_without_a_picklable_cause_keeps_the_text():
    class Holder(Exception):
        def __init__(self):
            super().__init__("holds a lock")
            self.lock = threading.Lock()

    error = HOOKS.task_error(Holder(), "train", None).as_instanceof_cause()
    assert type(error) is RayTaskError
    assert "Holder: holds a lock" in str(error)
    assert through_pickle(error)[0].cause is not None


def test_dependency_errors_show_every_task():
    first = HOOKS.task_error(raised_by(fail), "first", None)
    third = HOOKS.dependency_error("third", HOOKS.dependency_error("second", first))
    text = str(third)
    assert [text.index(f"ray::{name}()") for name in ("third", "second", "first")] == sorted(
        text.index(f"ray::{name}()") for name in ("third", "second", "first")
    )
    assert text.count("At least one of the input arguments") == 2
    assert isinstance(HOOKS.to_raise(third), ValueError)


@pytest.mark.parametrize(
    ("code", "details", "cls", "text"),
    [
        ("WORKER_CRASHED", {}, exceptions.WorkerCrashedError, "why"),
        ("ACTOR_DIED", {"actor_id": "ab", "pid": 3}, exceptions.ActorDiedError, "pid: 3"),
        ("ACTOR_UNAVAILABLE", {"actor_id": "ab"}, exceptions.ActorUnavailableError, "why"),
        ("OBJECT_LOST", {"object_id": "cd"}, exceptions.ObjectLostError, "cd"),
        ("OWNER_DIED", {"object_id": "cd"}, exceptions.OwnerDiedError, "why"),
        ("OBJECT_STORE_FULL", {}, exceptions.ObjectStoreFullError, "why"),
        ("GET_TIMEOUT", {}, TimeoutError, "why"),
        ("TASK_CANCELLED", {}, exceptions.TaskCancelledError, "why"),
        ("PENDING_CALLS_LIMIT", {}, exceptions.PendingCallsLimitExceeded, "why"),
        (
            "RECONSTRUCTION_FAILED",
            {"object_id": "cd"},
            exceptions.ObjectReconstructionFailedError,
            "why",
        ),
    ],
)
def test_system_errors(code, details, cls, text):
    error = HOOKS.system_error(code, "why", details)
    assert isinstance(error, cls)
    assert text in str(error)
    assert HOOKS.to_raise(error) is error


def test_creation_error_is_the_cause_of_an_actor_death():
    creation_error = HOOKS.task_error(raised_by(fail), "Box.__init__", None)
    error = HOOKS.system_error("ACTOR_DIED", "", {"creation_error": creation_error})
    assert error.actor_init_failed
    assert "ray::Box.__init__()" in str(error) and "ValueError: text" in str(error)


def test_is_retryable():
    types, _ = pickle_definition((ValueError, OSError), "types")
    assert HOOKS.is_retryable(FileNotFoundError(), types)
    assert not HOOKS.is_retryable(KeyError(), types)
    assert HOOKS.is_retryable(KeyError(), b"")


@pytest.mark.parametrize("value", [(1, 2), [1, 2], (i for i in (1, 2))])
def test_returns_are_split(value):
    assert HOOKS.check_returns(value, 2, "f") == [1, 2]


def test_wrong_number_of_returns():
    with pytest.raises(ValueError, match="returned 3 objects, but num_returns=2"):
        HOOKS.check_returns((1, 2, 3), 2, "f")
    with pytest.raises(TypeError, match="no len"):
        HOOKS.check_returns(5, 2, "f")


def test_no_session_is_needed_here():
    assert RUNTIME.core is None
