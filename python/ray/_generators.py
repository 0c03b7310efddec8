"""The readers of generator tasks: ``ObjectRefGenerator`` (streaming) and
``DynamicObjectRefGenerator``.

Source: https://docs.ray.io/en/latest/ray-core/ray-generator.html, conformance
core/test_core_generators.py.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING, Any, Generic, NoReturn, TypeVar

if TYPE_CHECKING:
    from ray._raylet import ObjectRef, ObjectStream

R = TypeVar("R")

# Values of ``num_returns`` as the native side knows them.
STREAMING = -1
DYNAMIC = -2


def is_generator(function: Any) -> bool:
    """Whether calling the function makes a generator, synchronous or asynchronous."""
    import inspect  # Loads `ast` and `dis`; needed from the first definition on.

    return inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function)


def native_num_returns(num_returns: int | str | None, of_generator: bool, name: str) -> int:
    """``num_returns`` as TaskTemplate takes it.

    Args:
        num_returns: the option; None for a generator means "streaming", else 1.
        of_generator: whether the function is a generator.
        name: of the function, for messages.

    Raises:
        ValueError: "streaming" or "dynamic" for a function that is no generator.
    """
    if num_returns is None:
        return STREAMING if of_generator else 1
    if isinstance(num_returns, int):
        return num_returns
    if not of_generator:
        raise ValueError(
            f"num_returns={num_returns!r} is for generator functions, which use 'yield', but"
            f" {name} is none. Yield the items, or use num_returns=n."
        )
    return STREAMING if num_returns == "streaming" else DYNAMIC


class ObjectRefGenerator(Generic[R], Iterator["ObjectRef[R]"], AsyncIterator["ObjectRef[R]"]):
    """Gives references to the items of a generator task, in order, while the task runs.

    What ``.remote()`` of a generator function returns. Iterate it with ``for`` or ``async for``, or
    pass it to ``ray.wait``, which says whether the next item is there. If the task fails, one more
    reference raises its error in ``ray.get``, and the stream ends. Items that were not read are
    freed with the generator; the task itself runs on. It cannot be pickled: pass the references.
    Programs do not make one themselves: ``stream`` is the native reader.

    >>> import ray
    >>> @ray.remote
    ... def squares(n):
    ...     for i in range(n):
    ...         yield i * i
    >>> [ray.get(ref) for ref in squares.remote(3)]
    [0, 1, 4]

    Threads: any; each item is given once.

    Source: https://docs.ray.io/en/latest/ray-core/ray-generator.html, conformance
    core/test_core_generators.py.
    """

    def __init__(self, stream: ObjectStream) -> None:
        self._stream = stream
        self._finished = False

    def __iter__(self) -> ObjectRefGenerator[R]:
        return self

    def __next__(self) -> ObjectRef[R]:
        ref = self._next_sync(None)
        assert ref is not None
        return ref

    def _next_sync(self, timeout_s: float | None = None) -> ObjectRef[R] | None:
        """The next reference; None if it has not come after ``timeout_s`` seconds.

        Raises:
            StopIteration: the stream has ended.
        """
        try:
            return self._stream.next(timeout_s)
        except StopIteration:
            self._finished = True
            raise

    def __aiter__(self) -> ObjectRefGenerator[R]:
        return self

    async def __anext__(self) -> ObjectRef[R]:
        from ray._async_refs import ready_future

        while True:
            ref: ObjectRef[R] = self._stream.peek()
            await ready_future(ref)
            step = self._stream.advance(ref)
            if step == "item":
                return ref
            if step == "end":
                self._finished = True
                raise StopAsyncIteration

    def next_ready(self) -> bool:
        """Whether ``next`` would return, or end, at once."""
        from ray import wait

        return bool(wait([self], timeout=0)[0])

    def is_finished(self) -> bool:
        """Whether the end of the stream was read."""
        return self._finished

    def completed(self) -> ObjectRef[None]:
        """A reference that is ready once the task has ended; its value is None, or the task's
        error."""
        return self._stream.completed()

    @property
    def _generator_ref(self) -> ObjectRef[None]:
        return self._stream.completed()

    def _peek(self) -> ObjectRef[R]:
        """The next item's reference, for ray.wait; it may never become an item."""
        return self._stream.peek()

    def task_id(self) -> Any:
        """The id of the task."""
        return self._stream.completed().task_id()

    def send(self, value: Any) -> NoReturn:
        """Not supported: there is no way for ``value`` to the generator, which runs in another
        process. Raises NotImplementedError."""
        raise NotImplementedError("`gen.send` is not supported.")

    def throw(self, value: Any) -> NoReturn:
        """Not supported: ``value`` cannot be raised in another process; use ``ray.cancel``. Raises
        NotImplementedError."""
        raise NotImplementedError("`gen.throw` is not supported. Use ray.cancel(gen).")

    def close(self) -> NoReturn:
        """Not supported: use ``ray.cancel``. Raises NotImplementedError."""
        raise NotImplementedError("`gen.close` is not supported. Use ray.cancel(gen).")

    async def asend(self, value: Any) -> NoReturn:
        """Not supported: there is no way for ``value`` to the generator, which runs in another
        process. Raises NotImplementedError."""
        raise NotImplementedError("`gen.asend` is not supported.")

    async def athrow(self, value: Any) -> NoReturn:
        """Not supported: ``value`` cannot be raised in another process; use ``ray.cancel``. Raises
        NotImplementedError."""
        raise NotImplementedError("`gen.athrow` is not supported. Use ray.cancel(gen).")

    async def aclose(self) -> NoReturn:
        """Not supported: use ``ray.cancel``. Raises NotImplementedError."""
        raise NotImplementedError("`gen.aclose` is not supported. Use ray.cancel(gen).")

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "You cannot return or pass a generator to other task. Serializing a ObjectRefGenerator"
            " is not allowed: pass the references that it gives."
        )


class DynamicObjectRefGenerator(Generic[R]):
    """The references of all items of a task with ``num_returns="dynamic"``, once it has ended.

    Can be iterated any number of times, measured with ``len`` and passed on.

    >>> import ray
    >>> @ray.remote(num_returns="dynamic")
    ... def squares(n):
    ...     for i in range(n):
    ...         yield i * i
    >>> ray.get(list(ray.get(squares.remote(3))))
    [0, 1, 4]

    Args:
        refs: the references, in the order of the items.

    Source: https://docs.ray.io/en/latest/ray-core/tasks/generators.html, conformance
    core/test_core_generators.py.
    """

    def __init__(self, refs: list[ObjectRef[R]]) -> None:
        self._refs = refs

    def __iter__(self) -> Iterator[ObjectRef[R]]:
        return iter(self._refs)

    def __len__(self) -> int:
        return len(self._refs)
