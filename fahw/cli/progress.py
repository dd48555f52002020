"""Progress on stderr: bars where it is a terminal, else a line for each step, and nothing of downloads."""

from __future__ import annotations

import sys
from collections.abc import Callable
from math import inf

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from fahw.cli.terminal import say


def bars() -> Progress:
    """Bars for a block of work, with the time left; where stderr is no terminal they count and print nothing.

    Variables that force colours do not matter: a file gets no bars. A speed is the mean since the start, because
    trainings take minutes.
    """
    console = Console(stderr=True, force_terminal=sys.stderr.isatty())
    console.quiet = not (console.is_terminal and console.is_interactive)
    columns = (BarColumn(20), TextColumn("{task.description}", markup=False), TimeRemainingColumn(), "left")
    return Progress(*columns, console=console, disable=console.quiet, redirect_stdout=False, speed_estimate_period=inf)


def counter(progress: Progress, unit: str) -> Callable[[int, int, str], None]:
    """A function that shows how many things called `unit` are done, of how many, and what the last one was.

    A count that comes after the last one begins anew.
    """
    number = progress.add_task(unit, start=False, visible=False)
    task = progress.tasks[-1]

    def show(done: int, total: int, what: str) -> None:
        if task.finished or not task.started:
            progress.reset(number, total=total, visible=True)
        progress.update(number, description=f"{done}/{total} {unit}{f' ({what})' if what else ''}")
        progress.advance(number, done - task.completed)  # even by 0: the speed counts from the first call
        if progress.disable:
            minutes, seconds = divmod(int(task.time_remaining or 0), 60)
            left = f", {minutes} min {seconds:02d} s left" if task.time_remaining else ""
            say(f"{task.description}{left}", err=True)

    return show


def downloads(progress: Progress) -> Callable[[str, int, int], None]:
    """A function that shows how many bytes of a file are here, of how many (0: not known)."""
    numbers: dict[str, TaskID] = {}

    def show(name: str, here: int, total: int) -> None:
        if name not in numbers:
            numbers[name] = progress.add_task(name, total=total or None, completed=here)
        text = f"{name}: {here / 1e6:.1f}{f' of {total / 1e6:.1f}' if total else ''} MB"
        progress.update(numbers[name], description=text, total=total or None, completed=here)

    return show
