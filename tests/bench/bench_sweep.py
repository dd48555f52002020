"""Time, memory and disk of whole sweeps.

    python tests/bench/bench_sweep.py [costs] [machinery] [--points N] [--trainings N] [--workers N]

costs      a sweep of N cost-only points on lenet5 (5 rules, 2 weight widths, 5 feedback widths, batches) in a new
           folder, then the same sweep again, all from the store: wall time, processor time, peak memory of all its
           processes together (shared pages counted once each), and bytes on disk
machinery  N trainings one after the other by `fahw.train` in one process, then the same N as sweeps with one worker and
           with all, each in a process of its own; and two such sweeps of one worker side by side, which share nothing:
           how much faster the machine is with two processes than with one, whatever they do

The machine should be idle: these are wall times.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

RULES, WEIGHTS, FEEDBACK = ("bp", "fa", "usf", "frsf", "dfa"), (4, 8), (1, 2, 4, 6, 8)
_GRID = len(RULES) * len(WEIGHTS) * len(FEEDBACK)
_LOOK_S = 0.2

COSTS = """\
name: costs
chip: edge_dual
model: lenet5
train: false
grid:
  rule: [{rules}]
  chip.precision.weight: [{weights}]
  chip.precision.feedback: [{feedback}]
  batch_size: [{batches}]
"""
TRAININGS = """\
name: trainings
chip: edge_dual
model: mlp_digits
epochs: {epochs}
seeds: {seeds}
grid:
  rule: [bp]
"""
_EPOCHS = 30
ALONE = """\
import time
import fahw
start = time.perf_counter()
for seed in range({seeds}):
    fahw.train("mlp_digits", "bp", "edge_dual", epochs={epochs}, seed=seed)
print(time.perf_counter() - start)
"""


def say(text: str) -> None:
    """A line of the report."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def environment() -> dict[str, str]:
    """One thread per process, as sweeps have it."""
    return os.environ | {"OMP_NUM_THREADS": "1"}


def descendants(process: int) -> list[int]:
    """A process and all that it started, as far as they live."""
    found = [process]
    for task in Path(f"/proc/{process}/task").glob("*/children"):
        try:
            found += [one for child in task.read_text().split() for one in descendants(int(child))]
        except OSError:  # ended meanwhile
            continue
    return found


def memory_mib(processes: Sequence[int]) -> float:
    """Proportional set sizes of the processes, added up."""
    total = 0
    for process in processes:
        try:
            lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
        except OSError:
            continue
        total += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total / 1024


def run(words: Sequence[str]) -> tuple[float, float, float]:
    """Run a command to its end: wall seconds, processor seconds, peak MiB of all its processes."""
    before, start, most = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter(), 0.0
    with subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=environment()) as process:
        while process.poll() is None:
            most = max(most, memory_mib(descendants(process.pid)))
            time.sleep(_LOOK_S)
        seconds = time.perf_counter() - start
        assert process.stderr is not None
        said = process.stderr.read().decode()
    if process.returncode:
        raise RuntimeError(f"{' '.join(words)}: {said}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return seconds, used, most


def sweep_words(spec: Path, out: Path, workers: int) -> list[str]:
    """The command that runs a sweep."""
    return [sys.executable, "-m", "fahw.cli", "sweep", str(spec), "--out", str(out), "--jobs", str(workers)]


def disk_mb(folder: Path) -> float:
    """Megabytes of all files."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6


def costs(folder: Path, points: int, workers: int) -> None:
    """Price them, and take them from the store."""
    spec, out = folder / "costs.yaml", folder / "costs"
    batches = range(1, max(1, points // _GRID) + 1)
    lists = {"rules": RULES, "weights": WEIGHTS, "feedback": FEEDBACK, "batches": batches}
    spec.write_text(COSTS.format(**{name: ", ".join(map(str, values)) for name, values in lists.items()}))
    say(f"{_GRID * len(batches):,} cost-only points of lenet5 on edge_dual, {workers} workers")
    for name in ("first run", "second run"):
        seconds, used, mib = run(sweep_words(spec, out, workers))
        say(f"  {name:11} {seconds:6.1f} s, processor {used:6.1f} s, {mib:4.0f} MiB, {disk_mb(out):5.1f} MB on disk")


def machinery(folder: Path, trainings: int, workers: int) -> None:
    """The same trainings alone, in a sweep, and in a sweep with workers."""
    spec = folder / "trainings.yaml"
    spec.write_text(TRAININGS.format(epochs=_EPOCHS, seeds=trainings))
    say(f"{trainings} trainings of mlp_digits under bp, {_EPOCHS} epochs")
    text = ALONE.format(epochs=_EPOCHS, seeds=trainings)
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=True, env=environment())
    alone = float(done.stdout)
    say(f"  one after the other, without starting Python: {alone:.1f} s")
    one, _, _ = run(sweep_words(spec, folder / "one", 1))
    say(f"  sweep, one worker: {one:.1f} s, {one / alone:.3f} of that")
    many, _, _ = run(sweep_words(spec, folder / "many", workers))
    say(f"  sweep, {workers} workers: {many:.1f} s, {one / many:.2f} times as fast as one")
    start = time.perf_counter()
    both = [
        subprocess.Popen(sweep_words(spec, folder / name, 1), env=environment(), stderr=subprocess.DEVNULL)
        for name in ("left", "right")
    ]
    for process in both:
        process.wait()
    together = time.perf_counter() - start
    say(f"  two sweeps of one worker side by side: {together:.1f} s, {2 * one / together:.2f} times one process's pace")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="*", default=["costs", "machinery"])
    parser.add_argument("--points", type=int, default=10_000)
    parser.add_argument("--trainings", type=int, default=8)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if "costs" in given.what:
            costs(Path(folder), given.points, given.workers)
        if "machinery" in given.what:
            machinery(Path(folder), given.trainings, given.workers)


if __name__ == "__main__":
    main()
