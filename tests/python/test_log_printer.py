"""Printing the lines of workers: prefixes and folding."""

from ray._log_printer import Folded, LineFolder, Source, format_line


def source(pid, name="f", is_stderr=False):
    return Source(name, pid, "", is_stderr)


class Printed:
    """A folder on a clock of its own, with what it has let through."""

    def __init__(self, window_s=5.0):
        self.now_s = 100.0
        self.folder = LineFolder(window_s)
        self.lines = []

    def take(self, pid, line, **facts):
        folded = self.folder.add(source(pid, **facts), line, self.now_s)
        if folded is not None:
            self.lines.append((folded.source.pid, folded.line, folded.lines))

    def advance(self, seconds):
        self.now_s += seconds
        self.keep(self.folder.expire(self.now_s))

    def keep(self, folded):
        self.lines += [(item.source.pid, item.line, item.lines) for item in folded]


def test_line_is_formatted_with_its_source():
    assert format_line(Folded(source(7), "hello", 1)) == "\x1b[36m(f pid=7)\x1b[0m hello"
    far = Source("", 7, "10.0.0.2", False)
    assert format_line(Folded(far, "x", 1)) == "\x1b[36m(pid=7, ip=10.0.0.2)\x1b[0m x"
    assert "[repeated 3x across cluster]" in format_line(Folded(source(7), "x", 3))


def test_lines_of_one_process_are_all_printed():
    printed = Printed()
    for _ in range(3):
        printed.take(1, "same")
    assert printed.lines == [(1, "same", 1)] * 3


def test_repetitions_of_other_processes_are_folded():
    printed = Printed()
    for pid in range(1, 7):
        printed.take(pid, "same")
    assert printed.lines == [(1, "same", 1)]
    printed.advance(4.9)
    assert len(printed.lines) == 1
    printed.advance(0.2)
    assert printed.lines[1:] == [(6, "same", 5)]


def test_lines_that_differ_in_digits_only_are_alike():
    printed = Printed()
    printed.take(1, "step 10 of 20")
    printed.take(2, "step 11 of 20")
    printed.take(2, "something else")
    assert printed.lines == [(1, "step 10 of 20", 1), (2, "something else", 1)]
    printed.keep(printed.folder.drain())
    assert printed.lines[2:] == [(2, "step 11 of 20", 1)]


def test_stdout_and_stderr_are_not_mixed():
    printed = Printed()
    printed.take(1, "same")
    printed.take(2, "same", is_stderr=True)
    assert len(printed.lines) == 2


def test_empty_lines_are_never_folded():
    printed = Printed()
    printed.take(1, "")
    printed.take(2, "")
    assert len(printed.lines) == 2


def test_line_is_new_again_after_a_quiet_window():
    printed = Printed()
    printed.take(1, "same")
    printed.advance(6)
    printed.take(2, "same")
    assert printed.lines == [(1, "same", 1), (2, "same", 1)]


def test_drain_gives_what_is_held_back_once():
    printed = Printed()
    printed.take(1, "same")
    printed.take(2, "same")
    printed.take(3, "same")
    printed.keep(printed.folder.drain())
    printed.keep(printed.folder.drain())
    assert printed.lines[1:] == [(3, "same", 2)]
