"""The process that opens mutants one after the other, within limits of memory and time, and says what came of each."""

from __future__ import annotations

import json
import os
import re
import resource
import shutil
import signal
import sys
import time
import traceback
from pathlib import Path
from random import Random
from types import FrameType
from typing import Any

from fahw.errors import ConfigError, Problem
from tests.support.fuzzing.targets import TARGETS, Target

MOST_SECONDS = 20
MOST_BYTES = 2 << 30
_PLACE = re.compile(r":\d+:\d+$")
_SYNTAX = re.compile(r"cannot be read as JSON")
_FORBIDDEN = ("os.system", "os.exec", "os.posix_spawn", "subprocess.Popen", "socket.connect")
_UNPICKLED = "pickle.find_class"
"""What no file may bring about: to run something, to connect anywhere; to unpickle what a sweep did not pack itself."""


class TooLong(BaseException):
    """The mutant takes more seconds of the processor than it may."""


class Forbidden(BaseException):
    """The mutant brings about what no file may."""


class _Watch:
    """Whether a mutant is being opened; what is forbidden is only so then."""

    def __init__(self, target: Target) -> None:
        self._forbidden = (*_FORBIDDEN, *(() if target.packs else (_UNPICKLED,)))
        self.on = False
        self.seen = ""
        sys.addaudithook(self._hear)
        signal.signal(signal.SIGPROF, self._stop)

    def _hear(self, event: str, _: tuple[Any, ...]) -> None:
        if self.on and event.startswith(self._forbidden):
            self.seen = event
            raise Forbidden(event)

    def _stop(self, _: int, __: FrameType | None) -> None:
        if self.on:
            raise TooLong(f"more than {MOST_SECONDS} s")


def run(name: str, first: int, count: int, good: Path, folder: Path) -> None:
    """Open mutants `first` to `first + count - 1` of a target; a line of JSON about each goes to standard output."""
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    target = TARGETS[name]
    watch = _Watch(target)
    _warm_up(target, good, folder)
    used = int(re.search(r"VmSize:\s+(\d+)", Path("/proc/self/status").read_text())[1]) << 10  # type: ignore[index]
    resource.setrlimit(resource.RLIMIT_AS, (used + MOST_BYTES, resource.RLIM_INFINITY))
    for number in range(first, first + count):
        out.write(json.dumps({"number": number, **_opened(target, number, good, folder, watch)}) + "\n")
        out.flush()


def _warm_up(target: Target, good: Path, folder: Path) -> None:
    """Load the modules that the target needs, so that their memory and time do not count."""
    for number in range(3):
        watch = Path(folder / f"warm{number}")
        watch.mkdir(parents=True)
        for stage in target.stages(Random(f"warm {number}"), watch, good):
            try:
                stage()
            except Exception:  # noqa: BLE001 (what it comes to is looked at later)
                break


def _opened(target: Target, number: int, good: Path, folder: Path, watch: _Watch) -> dict[str, Any]:
    """What came of one mutant: `outcome` is value, refused or fault."""
    place = folder / str(number)
    place.mkdir(parents=True)
    start, stage_number = time.process_time(), 0
    result: dict[str, Any] = {"outcome": "value"}
    try:
        for stage_number, stage in enumerate(target.stages(Random(f"{target.name} {number}"), place, good)):
            start = start if stage_number else time.process_time()  # when the mutant is made
            signal.setitimer(signal.ITIMER_PROF, MOST_SECONDS + 5)
            watch.on, watch.seen = True, ""
            stage()
            watch.on = False
    except ConfigError as error:
        result = _refused(error, target.placed and stage_number == 0)
    except BaseException as error:  # noqa: BLE001 (whatever it is, it is the finding)
        result = {"outcome": "fault", "text": "".join(traceback.format_exception(error))[-1500:]}
    finally:
        watch.on = False
        signal.setitimer(signal.ITIMER_PROF, 0)
        seconds = time.process_time() - start
        shutil.rmtree(place, ignore_errors=True)
    if watch.seen:
        result = {"outcome": "fault", "text": f"{watch.seen} was called"}
    elif seconds > MOST_SECONDS:
        result = {"outcome": "fault", "text": f"{seconds:.0f} s"}
    return {**result, "seconds": round(seconds, 3)}


def _refused(error: ConfigError, placed: bool) -> dict[str, Any]:
    """The refusal, its text cut, with the number of its mistakes that should have a place, and of those that have."""
    counted = [problem for problem in error.problems if placed or _SYNTAX.search(problem.message)]
    unplaced = [problem for problem in counted if not _has_place(problem)]
    text = str((unplaced or error.problems)[0])
    return {"outcome": "refused", "counted": bool(counted), "placed": not unplaced, "text": text[:300]}


def _has_place(problem: Problem) -> bool:
    """Whether a mistake names line and column."""
    return _PLACE.search(problem.place) is not None


if __name__ == "__main__":
    run(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4]), Path(sys.argv[5]))
