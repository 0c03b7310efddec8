"""The marks in a worker's output that say who prints."""

import os

from ray._task_output import MarkedOutput


def written(write):
    """What ``write(stream, names)`` makes of it; ``names[0]`` is the current writer."""
    reader, writer = os.pipe()
    names = [""]
    stream = MarkedOutput(writer, lambda: names[0])
    write(stream, names)
    stream.flush()
    os.close(writer)
    with os.fdopen(reader) as pipe:
        return pipe.read()


def test_a_mark_comes_before_the_first_line_of_each_writer():
    def write(stream, names):
        names[0] = "f"
        print("one", file=stream)
        print("two", file=stream)
        names[0] = "g"
        print("three", file=stream)

    assert written(write) == "\x1etask:f\x1e\none\ntwo\n\x1etask:g\x1e\nthree\n"


def test_a_mark_is_never_inside_a_line():
    def write(stream, names):
        names[0] = "f"
        print("no end", end="", file=stream)
        names[0] = "g"
        print("next", file=stream)

    assert written(write) == "\x1etask:f\x1e\nno end\n\x1etask:g\x1e\nnext\n"


def test_output_outside_of_tasks_is_not_marked():
    assert written(lambda stream, names: print("setting up", file=stream)) == "setting up\n"


def test_whole_lines_are_written_at_once():
    reader, writer = os.pipe()
    stream = MarkedOutput(writer, lambda: "")
    print("line", file=stream)
    assert os.read(reader, 100) == b"line\n"
    os.close(reader)
    os.close(writer)
