"""How a command is stopped: by Ctrl-C or by a signal that tells it to end, with one line that says what comes next."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any, NoReturn

_NAMES = ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK")
"""The signals that tell a command to end; no system has all of them."""
_RESUMING = ("compare", "sweep", "data")
"""The verbs that store what is done as it is done."""
ENDED = (129, 130, 143, 149)
"""The exit codes of commands that were told to stop: 128 and the number of the signal."""


class Stopped(SystemExit):
    """The command was told to stop. No library takes it for a Ctrl-C of its own; its code is that of shells."""


@contextmanager
def stoppable() -> Iterator[None]:
    """A context in which a signal to end raises Stopped once; a second one ends the process at once. A signal that was
    ignored before, as under nohup, stays ignored; so do further ones once a stopped command has cleaned up."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    stop, ours = _Stop(), dict[int, Any]()
    for name in _NAMES:
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
            ours[number] = signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in ours.items():
            signal.signal(number, signal.SIG_IGN if stop.called else handler)


class _Stop:
    """The handler of the signals to end, which knows whether it has been called before."""

    def __init__(self) -> None:
        self.called = False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """Raise Stopped at the first call. End the process at the second, and while a module is loaded: many a module
        goes on as if nothing had been."""
        if self.called or _is_importing(frame):
            _end_now(128 + number)
        self.called = True
        raise Stopped(128 + number)


def _is_importing(frame: FrameType | None) -> bool:
    """Whether a module is being loaded in this frame or in one that called it."""
    while frame is not None and frame.f_code.co_filename != "<frozen importlib._bootstrap>":
        frame = frame.f_back
    return frame is not None


def _end_now(code: int) -> NoReturn:
    """End the process without another step; its workers end with it, and what is stored is whole."""
    with suppress(OSError):
        os.write(2, f"{farewell(sys.argv[1:])}\n".encode())
    os._exit(code)


def farewell(arguments: Sequence[str]) -> str:
    """The line for a command that was stopped: whether the same command goes on where it stopped."""
    verb = next((text for text in arguments if not text.startswith("-")), "")
    stores = any(text == "--out" or text.startswith("--out=") for text in arguments)
    if verb in _RESUMING or (verb == "train" and stores):
        return "stopped; the same command goes on where it stopped"
    if verb in ("train", "attack"):
        return "stopped; nothing is stored" + (": with --out DIR the same command goes on" if verb == "train" else "")
    return "stopped; nothing is half-written"
