"""The exceptions: dual types, texts, pickling."""

import pickle

import pytest

from ray import cloudpickle, exceptions
from ray.exceptions import RayError, RayTaskError


def task_error(cause, **facts):
    return RayTaskError("f", '  File "x.py", line 1, in f\nError: text', cause, **facts)


class Slotted(Exception):
    __slots__ = ("level",)

    def __init__(self, level, required):
        self.level = level


class Unhelpful(Exception):
    """Cannot be rebuilt from its args."""

    def __init__(self, a, b):
        super().__init__("only one")


CAUSES = [
    ValueError("boom"),
    KeyError("k"),
    FileNotFoundError(2, "no such file", "name"),
    UnicodeDecodeError("utf8", b"x", 0, 1, "reason"),
    StopIteration(3),
    exceptions.ActorDiedError("it died"),
    Slotted(7, "x"),
]


@pytest.mark.parametrize("cause", CAUSES, ids=lambda c: type(c).__name__)
def test_error_is_of_both_types(cause):
    error = task_error(cause, pid=12, ip="10.0.0.1").as_instanceof_cause()
    assert isinstance(error, RayTaskError) and isinstance(error, type(cause))
    assert type(error).__name__ == f"RayTaskError({type(cause).__name__})"
    assert error.cause is cause
    assert error.args == (cause,)
    assert str(error).startswith("ray::f() (pid=12, ip=10.0.0.1)\n  File")


@pytest.mark.parametrize("cause", CAUSES, ids=lambda c: type(c).__name__)
def test_dual_error_survives_pickling(cause):
    error = task_error(cause).as_instanceof_cause()
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy).__mro__[1:] == type(error).__mro__[1:]
    assert str(copy) == str(error)
    assert type(copy.cause) is type(cause)


def test_dual_error_has_the_attributes_of_the_cause():
    denied = PermissionError(13, "denied", "file")
    denied.user = "ann"
    error = task_error(denied, pid=1).as_instanceof_cause()
    assert (error.errno, error.strerror, error.filename) == (13, "denied", "file")
    assert (error.user, error.pid) == ("ann", 1)
    assert task_error(Slotted(7, "x")).as_instanceof_cause().level == 7


@pytest.mark.parametrize("cause", [Exception("x"), RayError("x"), task_error(ValueError("x"))])
def test_plain_error_where_the_cause_adds_no_type(cause):
    error = task_error(cause)
    assert error.as_instanceof_cause() is error


def test_plain_error_where_no_class_can_be_both():
    class Final(ValueError):
        def __init_subclass__(cls):
            raise TypeError("no subclasses")

    error = task_error(Final("x"))
    assert error.as_instanceof_cause() is error


def test_cause_that_cannot_be_rebuilt_arrives_as_text():
    blob = cloudpickle.dumps(task_error(Unhelpful(1, 2)))
    error = pickle.loads(blob)
    assert type(error) is exceptions.UnserializableException
    assert "ray::f()" in str(error) and "Error: text" in str(error)


def test_actor_is_named_in_the_text():
    error = task_error(ValueError(), pid=1, ip="a", actor_repr="Box(3)", actor_id="ab")
    assert str(error).splitlines()[0] == "ray::f() (pid=1, ip=a, actor_id=ab, repr=Box(3))"


def test_actor_died_shows_the_error_of_the_constructor():
    cause = task_error(ValueError("bad birth"), actor_id="ab")
    error = exceptions.ActorDiedError.from_task_error(cause)
    assert "creation task" in str(error) and "Error: text" in str(error)
    assert error.actor_init_failed and error.actor_id == "ab"
    assert not exceptions.ActorDiedError("killed").actor_init_failed


EXAMPLES = [
    exceptions.ActorDiedError("why", "ab", True),
    exceptions.ActorUnavailableError("network.", b"\x01\x02"),
    exceptions.ActorAlreadyExistsError("taken"),
    exceptions.GetTimeoutError("late"),
    exceptions.ObjectReconstructionFailedError("ab", reason_message="no retries left"),
    exceptions.OwnerDiedError("ab", None, "here.py:1"),
    exceptions.ReferenceCountingAssertionError("ab", None, ""),
    exceptions.RaySystemError("oops", "traceback"),
    exceptions.RpcError("refused", 7),
    exceptions.RuntimeEnvSetupError("pip failed"),
    exceptions.TaskCancelledError("ab", None),
    exceptions.TaskUnschedulableError("too big"),
    exceptions.WorkerCrashedError(),
]


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda e: type(e).__name__)
def test_every_error_survives_pickling(error):
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is type(error)
    assert (str(copy), copy.args, vars(copy)) == (str(error), error.args, vars(error))
    assert str(error)


def test_standard_classes_that_programs_catch():
    assert issubclass(exceptions.GetTimeoutError, TimeoutError)
    assert issubclass(exceptions.ActorAlreadyExistsError, ValueError)
    assert issubclass(exceptions.OwnerDiedError, exceptions.ObjectLostError)
    assert all(issubclass(cls, RayError) for cls in exceptions.RAY_EXCEPTION_TYPES)


@pytest.mark.parametrize(
    "error",
    [
        exceptions.WorkerCrashedError(),
        exceptions.ObjectLostError("ff" * 28),
        task_error(ValueError("boom"), pid=7),
    ],
    ids=lambda e: type(e).__name__,
)
def test_exception_survives_as_bytes(error):
    again = RayError.from_bytes(error.to_bytes())
    assert type(again) is type(error)
    assert str(again) == str(error)


@pytest.mark.parametrize("data", [b"garbage", b"", pickle.dumps(3)])
def test_other_bytes_are_refused(data):
    with pytest.raises(ValueError, match="are not an exception of ray"):
        RayError.from_bytes(data)


def test_exceptions_of_other_languages_keep_their_text():
    class Message:
        language = 0
        serialized_exception = exceptions.WorkerCrashedError().to_bytes()
        formatted_exception_string = "java.lang.NullPointerException"

    assert isinstance(RayError.from_ray_exception(Message), exceptions.WorkerCrashedError)
    Message.language = 1
    error = RayError.from_ray_exception(Message)
    assert isinstance(error, exceptions.CrossLanguageError)
    assert "NullPointerException" in str(error)
