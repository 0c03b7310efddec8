"""Drawing the progress bars of several processes, on a terminal and elsewhere."""

import builtins
import io
import re

import pytest

from ray import _progress_bars
from ray._log_printer import LogPrinter
from ray._progress_bars import RAY_TQDM_MAGIC, BarManager, parse_state


class Terminal(io.StringIO):
    """Understands what the bars write: shows what a reader of the terminal sees."""

    def isatty(self):
        return True

    def screen(self):
        lines, row, column = [""], 0, 0
        for code, text in re.findall(r"(\x1b\[\d*[AKJ]|\r|\n)|([^\x1b\r\n]+)", self.getvalue()):
            if text:
                lines[row] = (
                    lines[row][:column].ljust(column) + text + lines[row][column + len(text) :]
                )
                column += len(text)
            elif code == "\n":
                row, column = row + 1, 0
                lines += [""] * (row + 1 - len(lines))
            elif code == "\r":
                column = 0
            elif code.endswith("A"):
                row -= int(code[2:-1])
            else:
                lines[row] = lines[row][:column]
                if code.endswith("J"):
                    del lines[row + 1 :]
        return [line for line in lines if line]


class Clock:
    now_s = 1000.0

    def __call__(self):
        return self.now_s


def state(uuid="a", x=0, **facts):
    defaults = {
        "__magic_token__": RAY_TQDM_MAGIC,
        "x": x,
        "pos": 0,
        "desc": uuid,
        "total": 4,
        "unit": "it",
        "ip": "",
        "pid": 1,
        "uuid": uuid,
        "closed": False,
    }
    return {**defaults, **facts}


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def terminal():
    return Terminal()


@pytest.fixture
def bars(terminal, clock):
    return BarManager(lambda: terminal, clock)


def test_bar_shows_share_count_times_and_rate(bars, terminal, clock):
    bars.process_state_update(state(x=0))
    clock.now_s += 2
    bars.process_state_update(state(x=1))
    assert terminal.screen() == ["a:  25%|██        | 1/4 [00:02<00:06, 0.50it/s]"]


def test_bar_without_total_counts(bars, terminal, clock):
    bars.process_state_update(state(total=None, desc=""))
    clock.now_s += 3700
    bars.process_state_update(state(total=None, desc="", x=37))
    assert terminal.screen() == ["37it [1:01:40, 0.01it/s]"]


def test_bars_keep_their_places(bars, terminal):
    bars.process_state_update(state("second of 7", pid=7, pos=1))
    bars.process_state_update(state("of 8", pid=8))
    bars.process_state_update(state("first of 7", pid=7, pos=0))
    bars.process_state_update(state("of 8", pid=8, x=3))
    names = [line.partition(":")[0] for line in terminal.screen()]
    assert names == ["first of 7", "second of 7", "of 8"]


def test_lines_are_printed_above_the_bars(bars, terminal):
    bars.process_state_update(state("a"))
    bars.process_state_update(state("b", pid=2))
    bars.print_above(lambda: terminal.write("one\ntwo\n"))
    bars.process_state_update(state("a", x=1))
    screen = terminal.screen()
    assert screen[:2] == ["one", "two"]
    assert [line[0] for line in screen[2:]] == ["a", "b"]


def test_a_redraw_is_one_write_and_never_blank(bars, terminal, monkeypatch):
    bars.process_state_update(state("a"))
    bars.process_state_update(state("b", pid=2))
    writes = []
    monkeypatch.setattr(terminal, "write", writes.append)
    bars.process_state_update(state("a", x=2))
    assert len(writes) == 1
    assert writes[0].startswith("\x1b[1A\ra:")


def test_closed_bar_leaves_its_last_state_above_the_others(bars, terminal):
    bars.process_state_update(state("a"))
    bars.process_state_update(state("b", pid=2))
    bars.process_state_update(state("b", pid=2, x=4, closed=True))
    screen = terminal.screen()
    assert [line[:2] for line in screen] == ["b:", "a:"]
    assert "100%" in screen[0]
    bars.process_state_update(state("a", x=4, closed=True))
    assert [line[:2] for line in terminal.screen()] == ["b:", "a:"]


def test_closed_bar_below_another_leaves_nothing(bars, terminal):
    bars.process_state_update(state("outer"))
    bars.process_state_update(state("inner", pos=1))
    bars.process_state_update(state("inner", pos=1, x=4, closed=True))
    assert [line.partition(":")[0] for line in terminal.screen()] == ["outer"]


def test_bar_that_was_never_shown_stays_away_when_closed(bars, terminal):
    bars.process_state_update(state(closed=True))
    assert terminal.screen() == []


def test_hidden_bars_come_back(bars, terminal):
    bars.process_state_update(state("a"))
    bars.hide_bars()
    bars.process_state_update(state("a", x=3))
    assert terminal.screen() == []
    bars.unhide_bars()
    assert "3/4" in terminal.screen()[0]


def test_no_more_bars_than_the_terminal_has_rows(bars, terminal, monkeypatch):
    monkeypatch.setenv("LINES", "6")
    monkeypatch.setenv("COLUMNS", "20")
    for pid in range(30):
        bars.process_state_update(state(f"bar {pid}", pid=pid))
    screen = terminal.screen()
    assert len(screen) == 5
    assert screen[-1] == "... and 26 more"
    assert all(len(line) < 20 for line in screen)


def test_bars_of_other_processes_end_with_the_session(bars, terminal):
    bars.process_state_update(state("far", pid=1, x=2))
    bars.process_state_update(state("mine", pid=_progress_bars.os.getpid(), x=1))
    bars.close_others()
    bars.process_state_update(state("mine", pid=_progress_bars.os.getpid(), x=2))
    screen = terminal.screen()
    assert [line.partition(":")[0] for line in screen] == ["far", "mine"]
    assert "2/4" in screen[1]


def test_without_a_terminal_bars_are_lines_now_and_then(clock):
    stream = io.StringIO()
    bars = BarManager(lambda: stream, clock)
    for x in range(4):
        bars.process_state_update(state(x=x))
        clock.now_s += 2
    bars.process_state_update(state(x=4, closed=True))
    assert re.findall(r"(\d)/4", stream.getvalue()) == ["0", "3", "4"]
    assert "\x1b" not in stream.getvalue()


def test_stream_without_the_block_character_gets_another_one(clock):
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    bars = BarManager(lambda: stream, clock)
    bars.process_state_update(state(x=2))
    assert b"|?????     |" in stream.buffer.getvalue()


@pytest.mark.parametrize(
    "line",
    ["hello", RAY_TQDM_MAGIC, f'"{RAY_TQDM_MAGIC}"', f'{{"__magic_token__": "{RAY_TQDM_MAGIC}"}}'],
)
def test_other_lines_are_no_bars(line):
    assert parse_state(line) is None


def test_print_goes_above_while_there_are_bars(terminal, clock, monkeypatch):
    manager = BarManager(lambda: terminal, clock, patches_print=True)
    monkeypatch.setattr(_progress_bars, "MANAGER", manager)
    original = builtins.print
    manager.process_state_update(state("a"))
    print("hello", file=terminal)
    assert [line[:5] for line in terminal.screen()] == ["hello", "a:   "]
    manager.process_state_update(state("a", closed=True))
    assert builtins.print is original


class Messages:
    """A core that has these messages of workers and then ends."""

    def __init__(self, *batches):
        self._batches = list(batches)

    def next_messages(self, timeout):
        return self._batches.pop(0) if self._batches else None


def test_bar_that_comes_with_lines_appears_below_them(bars, terminal):
    bars.apply(state("a"))
    bars.print_above(lambda: terminal.write("one\n"))
    assert [line[:3] for line in terminal.screen()] == ["one", "a: "]


def test_log_printer_draws_bars_of_workers_below_their_lines(terminal, clock, monkeypatch):
    monkeypatch.setattr(_progress_bars, "MANAGER", BarManager(lambda: terminal, clock))
    monkeypatch.setattr("sys.stdout", terminal)
    monkeypatch.setattr("sys.stderr", terminal)
    bar = _progress_bars.json.dumps(state("bar", x=1))
    lines = ["before", bar, "after"]
    LogPrinter(Messages([("log", 7, "work", "", False, lines)]), "10.0.0.1").join()
    screen = [re.sub(r"\[\d*m", "", line) for line in terminal.screen()]
    assert [line.rpartition(" ")[2] for line in screen[:2]] == ["before", "after"]
    assert screen[2].startswith("bar:  25%")
    assert RAY_TQDM_MAGIC not in terminal.getvalue()
