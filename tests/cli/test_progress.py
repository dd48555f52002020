"""Progress on stderr: bars where it is a terminal, plain lines elsewhere, with the time left."""

import io
import sys
from contextlib import suppress

import pytest

from fahw.cli.progress import bars, counter, downloads

STEPS = [
    (0.0, 2, 12, "2 from the store"),
    (10.0, 3, 12, "bp, seed [0]"),
    (14.0, 6, 12, ""),
    (30.0, 12, 12, "dfa, seed 1"),
]
"""Seconds, and what is said then."""


class Terminal(io.StringIO):
    """A stderr that says it is a terminal."""

    def isatty(self):
        return True


@pytest.fixture
def use_terminal(monkeypatch):
    """A function that makes stderr a terminal without colours, and returns it."""

    def use(kind="xterm"):
        monkeypatch.setattr(sys, "stderr", Terminal())
        monkeypatch.setenv("TERM", kind)
        monkeypatch.setenv("NO_COLOR", "1")
        return sys.stderr

    return use


@pytest.fixture
def clock(monkeypatch):
    """Seconds that the test sets."""
    now = [0.0]
    monkeypatch.setattr("rich.console.monotonic", lambda: now[0])
    return now


def count(clock, steps):
    with bars() as progress:
        show = counter(progress, "trainings")
        for clock[0], done, total, what in steps:
            show(done, total, what)


@pytest.mark.parametrize("forced", [{}, {"FORCE_COLOR": "1"}, {"TTY_COMPATIBLE": "1", "TTY_INTERACTIVE": "1"}], ids=str)
def test_a_line_for_each_step_where_stderr_is_a_file(clock, capsys, monkeypatch, forced):
    """What is done, of how many, what the last was, and the time left: the mean of what was done since the start."""
    for name, value in forced.items():
        monkeypatch.setenv(name, value)
    count(clock, STEPS)
    assert capsys.readouterr() == (
        "",
        "2/12 trainings (2 from the store)\n"
        "3/12 trainings (bp, seed [0]), 1 min 30 s left\n"
        "6/12 trainings, 0 min 21 s left\n"
        "12/12 trainings (dfa, seed 1)\n",
    )


def test_a_clock_that_is_set_back_changes_no_time_left(clock, capsys, monkeypatch):
    """Time is counted by a clock that nobody sets."""
    days = iter(range(10**6, 0, -1))
    monkeypatch.setattr("time.time", lambda: next(days) * 86_400.0)
    count(clock, STEPS)
    assert capsys.readouterr().err.splitlines()[1] == "3/12 trainings (bp, seed [0]), 1 min 30 s left"


def test_a_further_round_counts_anew(clock, capsys):
    """Its time left is estimated from its own steps."""
    count(clock, [(0.0, 0, 1, ""), (50.0, 1, 1, ""), (60.0, 1, 3, "1 from the store"), (61.0, 2, 3, "")])
    further = capsys.readouterr().err.splitlines()[2:]
    assert further == ["1/3 trainings (1 from the store)", "2/3 trainings, 0 min 01 s left"]


def test_bars_on_a_terminal(clock, use_terminal, capsys):
    """Two kinds of work at once; brackets are text, and what goes to stdout stays there."""
    terminal = use_terminal()
    with bars() as progress:
        counter(progress, "never begun")
        priced, trained = counter(progress, "points priced"), counter(progress, "trainings")
        priced(9, 9, "")
        trained(0, 2, "")
        clock[0] = 100.0
        trained(1, 2, "bp, seed [0]")
        sys.stdout.write("a result\n")
    assert capsys.readouterr().out == "a result\n"
    text = terminal.getvalue()
    assert "9/9 points priced " in text
    assert "1/2 trainings (bp, seed [0]) 0:01:40 left" in text
    assert "never begun" not in text


def test_a_terminal_without_escape_codes_gets_lines(clock, use_terminal):
    """Such as that of an editor."""
    terminal = use_terminal("dumb")
    count(clock, STEPS[:2])
    assert terminal.getvalue() == "2/12 trainings (2 from the store)\n3/12 trainings (bp, seed [0]), 1 min 30 s left\n"


def download(clock):
    with bars() as progress:
        show = downloads(progress)
        for clock[0], megabytes in enumerate((1, 3, 5)):
            show("a.gz", megabytes * 10**6, 9 * 10**6)


def test_downloads_on_a_terminal(clock, use_terminal):
    """Megabytes, and the time left."""
    terminal = use_terminal()
    download(clock)
    assert "a.gz: 5.0 of 9.0 MB 0:00:02 left" in terminal.getvalue()


def test_downloads_are_silent_elsewhere(clock, capsys):
    """No lines into files."""
    download(clock)
    assert capsys.readouterr() == ("", "")


def test_an_interruption_gives_the_terminal_back(use_terminal):
    """The cursor is shown and stderr is what it was."""
    terminal = use_terminal()
    with suppress(KeyboardInterrupt), bars() as progress:
        counter(progress, "trainings")(0, 2, "")
        raise KeyboardInterrupt
    assert sys.stderr is terminal
    assert terminal.getvalue().endswith("\x1b[?25h")
