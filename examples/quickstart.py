"""A tour of the core API: tasks, objects, actors, an asyncio actor, and a parallel word count.

    python examples/quickstart.py

Every stop prints what it found and how long it took, and checks it. The text of the word count
is Python's own reference manual, which each Python brings along in `pydoc_data.topics`.
"""

import asyncio
import collections
import contextlib
import pydoc_data.topics
import re
import time

import numpy as np

import ray


@contextlib.contextmanager
def stop(title):
    print(f"\n{title}")
    start = time.perf_counter()
    yield
    print(f"  ... {(time.perf_counter() - start) * 1000:.1f} ms")


# --- Tasks: functions that run in another process.


@ray.remote
def square(x):
    return x * x


@ray.remote
def add(a, b):
    return a + b


def tour_of_tasks():
    squares = [square.remote(i) for i in range(4)]
    print(f"  squares of 0..3: {ray.get(squares)}")
    assert ray.get(squares) == [0, 1, 4, 9]

    # A result can be an argument before it exists.
    total = add.remote(add.remote(squares[1], squares[2]), squares[3])
    print(f"  1 + 4 + 9 = {ray.get(total)}, where {total}")
    assert ray.get(total) == 14


# --- Objects: values in shared memory, passed by reference.


@ray.remote
def mean(array):
    return float(array.mean())


def tour_of_objects():
    array = np.arange(5_000_000, dtype=np.float64)
    ref = ray.put(array)
    first, again = ray.get([ref, ref])
    print(f"  {array.nbytes / 1e6:.0f} MB stored once; their mean: {ray.get(mean.remote(ref))}")
    print(f"  both gets share memory: {np.shares_memory(first, again)}")
    assert ray.get(mean.remote(ref)) == array.mean()
    assert np.shares_memory(first, again) and not first.flags.writeable


# --- Actors: objects with state that live in a process of their own.


@ray.remote
class Counter:
    def __init__(self):
        self.value = 0

    def increment(self, by=1):
        self.value += by
        return self.value


def tour_of_actors():
    counters = [Counter.remote() for _ in range(4)]
    for _ in range(10):
        values = ray.get([counter.increment.remote() for counter in counters])
    print(f"  four counters after ten increments each: {values}")
    assert values == [10, 10, 10, 10]


# --- An asyncio actor: one process, many calls at a time.


@ray.remote
class Meeting:
    """Calls wait for each other, which only works because they run at the same time."""

    def __init__(self, size):
        self.size = size
        self.present = []
        self.complete = asyncio.Event()

    async def join(self, name):
        self.present.append(name)
        if len(self.present) == self.size:
            self.complete.set()
        await self.complete.wait()
        return self.present.index(name)


def tour_of_asyncio():
    meeting = Meeting.remote(100)
    places = ray.get([meeting.join.remote(f"guest {i}") for i in range(100)])
    print(f"  {len(places)} calls of one actor met while all were running")
    assert sorted(places) == list(range(100))


# --- The parallel word count: map over parts of the text, then merge in a tree.


@ray.remote
def count_words(text):
    return collections.Counter(re.findall(r"[a-z]+", text.lower()))


@ray.remote
def merge(left, right):
    return left + right


def tour_of_word_count():
    pages = list(pydoc_data.topics.topics.values())
    counts = [count_words.remote(page) for page in pages]
    while len(counts) > 1:
        merged = [merge.remote(left, right) for left, right in zip(counts[::2], counts[1::2])]
        counts = merged + counts[len(merged) * 2 :]
    parallel = ray.get(counts[0])

    top = ", ".join(f"{word} {count}" for word, count in parallel.most_common(5))
    print(f"  {len(pages)} pages, {parallel.total():,} words; the most frequent: {top}")
    assert parallel == collections.Counter(re.findall(r"[a-z]+", "\n".join(pages).lower()))


def main():
    with stop("Starting a cluster on this machine"):
        ray.init()
        print(f"  resources: {ray.cluster_resources()}")
    with stop("Tasks"):
        tour_of_tasks()
    with stop("Objects"):
        tour_of_objects()
    with stop("Actors"):
        tour_of_actors()
    with stop("An asyncio actor"):
        tour_of_asyncio()
    with stop("A parallel word count"):
        tour_of_word_count()
    with stop("Stopping the cluster"):
        ray.shutdown()


if __name__ == "__main__":
    main()
