"""A campaign: mutants of all targets, in a process for each target that is started again where a mutant kills it."""

from __future__ import annotations

import json
import queue
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support.fuzzing.targets import TARGETS, prepare
from tests.support.strategies import ROOT

_MOST_SILENCE_S = 300.0
"""Seconds without a word after which a process hangs where no signal reaches it."""


@dataclass
class Findings:
    """What came of the mutants: counts of outcomes by target, faults, and refusals of text files without a place."""

    outcomes: dict[str, Counter[str]] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    unplaced: list[str] = field(default_factory=list)
    counted: int = 0
    slowest: tuple[float, str] = (0.0, "")

    @property
    def placed_share(self) -> float:
        """The share of the refusals of text files whose mistakes all have a place."""
        return 1 - len(self.unplaced) / self.counted if self.counted else 1.0

    def note(self, target: str, result: dict[str, Any]) -> None:
        """Count what came of one mutant."""
        name = f"{target} {result['number']}"
        self.outcomes.setdefault(target, Counter())[result["outcome"]] += 1
        self.slowest = max(self.slowest, (result.get("seconds", 0.0), name))
        if result["outcome"] == "fault":
            self.faults.append(f"{name}: {result['text']}")
        elif result.get("counted"):
            self.counted += 1
            if not result["placed"]:
                self.unplaced.append(f"{name}: {result['text']}")


def campaign(counts: dict[str, int], first: int = 0, good: Path | None = None) -> Findings:
    """The findings of so many mutants of each target, from number `first` on."""
    findings = Findings()
    with tempfile.TemporaryDirectory() as folder:
        if good is None:
            good = Path(folder) / "good"
            good.mkdir()
            prepare(good)
        for target, count in counts.items():
            for result in _results(target, first, count, good, Path(folder)):
                findings.note(target, result)
    return findings


def _results(target: str, first: int, count: int, good: Path, folder: Path) -> Iterator[dict[str, Any]]:
    """What came of each mutant; one that ends the process is a fault, and the next are opened by another process."""
    number, end, run = first, first + count, 0
    while number < end:
        run += 1
        for result in _of_one_process(target, number, end - number, good, folder / f"{target}{run}"):
            yield result
            number = result["number"] + 1
        if number < end:
            yield {"number": number, "outcome": "fault", "text": "its process ended or hung"}
            number += 1


def _of_one_process(target: str, first: int, count: int, good: Path, folder: Path) -> Iterator[dict[str, Any]]:
    """The results of a process until it ends, or says nothing for long."""
    command = [
        sys.executable,
        "-m",
        "tests.support.fuzzing.worker",
        target,
        str(first),
        str(count),
        str(good),
        str(folder),
    ]
    lines: queue.Queue[str | None] = queue.Queue()
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, encoding="utf-8") as process:
        pump = threading.Thread(target=_pump, args=(process.stdout, lines))
        pump.start()
        try:
            while (line := lines.get(timeout=_MOST_SILENCE_S)) is not None:
                yield json.loads(line)
        except queue.Empty:
            pass
        finally:
            process.kill()
            pump.join()


def _pump(stream: Any, lines: queue.Queue[str | None]) -> None:
    """Put the lines of a stream into a queue, and None at its end."""
    for line in stream:
        lines.put(line)
    lines.put(None)


def counts_of(count: int, names: list[str] | None = None) -> dict[str, int]:
    """So many mutants shared out among the targets as their shares say."""
    chosen = [TARGETS[name] for name in names or TARGETS]
    total = sum(target.share for target in chosen)
    return {target.name: max(1, round(count * target.share / total)) for target in chosen}
