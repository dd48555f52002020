"""Two checkouts of fahw against each other: the same work through the public library, in turn, each in a new process.

    python tests/bench/bench_versions.py BEFORE AFTER [step] [simulate] [sweep] [--rounds N]

step      trainings of small and larger networks in integers and in float, start and data loading left out
simulate  one step priced on several chips, each in a loop, the first call left out
sweep     a sweep of 200 cost-only points, and one of 6 trainings, each in a new folder

A round runs each work once with either checkout, in random order. What is printed per work is the processor time with
the second over that with the first: of the least times, and the median over the rounds. Other load on the machine
disturbs the caches alone.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

CHILD = """\
import gc, json, resource, sys, tempfile, time
import fahw

def used():
    own, children = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime

def timed(work):
    gc.collect()  # a collection of all that lives falls into some measurement, and is longer than it
    gc.disable()
    start = used()
    work()
    seconds = used() - start
    gc.enable()
    return seconds

times = {}
"""
WORKS = {
    "step": """\
fahw.train("mlp_digits", "bp", chip="edge_dual", epochs=1)
for model, rule, chip, epochs in (
    ("mlp_digits", "bp", "edge_dual", 12), ("mlp_digits", "dfa", "edge_dual", 12),
    ("mlp_digits", "brsf", "edge_dual", 8), ("mlp_digits", "fa", None, 12),
):
    name = f"{model} {rule} {'integer' if chip else 'float'}"
    times[name] = timed(lambda: fahw.train(model, rule, chip=chip, epochs=epochs))
""",
    "simulate": """\
for chip, model, rule in (
    ("edge_dual", "lenet5", "bp"), ("edge_dual", "resnet20", "dfa"), ("neurocore_mesh", "lenet5", "dfa"),
    ("tpu_like", "resnet18_imagenet", "bp"),
):
    chip, network = fahw.load_chip(chip), fahw.load_model(model)
    fahw.simulate(chip, network, rule, 32)
    sizes = range(33, 33 + max(2, 120 // len(network.layers)))  # no two alike: timings are remembered
    times[f"{chip.name} {network.name} {rule}"] = timed(
        lambda: [fahw.simulate(chip, network, rule, size) for size in sizes]
    )
""",
    "sweep": """\
from pathlib import Path
folder = Path(tempfile.mkdtemp())
(folder / "costs.yaml").write_text('''\\
{name: costs, chip: edge_dual, model: lenet5, train: false, grid: {rule: [bp, fa, usf, frsf, dfa],
 chip.precision.weight: [4, 8], chip.precision.feedback: [1, 2, 4, 8], batch_size: [8, 16, 32, 64, 128]}}
''')
(folder / "train.yaml").write_text('''\\
{name: trainings, chip: edge_dual, model: mlp_digits, epochs: 4, seeds: 2, grid: {rule: [bp, fa, dfa]}}
''')
for name in ("costs", "train"):
    times[f"sweep {name}"] = timed(lambda: fahw.sweep(folder / f"{name}.yaml", out=folder / name, workers=1))
""",
}


def run(checkout: Path, work: str) -> dict[str, float]:
    """Processor seconds of each part of a work, in a new process with `checkout` in front."""
    code = f"{CHILD}{WORKS[work]}\nprint(json.dumps(times))\nprint(fahw.__file__, file=sys.stderr)"
    environment = os.environ | {"PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1"}
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=folder, env=environment, capture_output=True, text=True, check=False
        )
    if done.returncode:
        raise SystemExit(done.stderr)
    if not done.stderr.splitlines()[-1].startswith(str(checkout.resolve())):
        raise SystemExit(f"{checkout} is not what was imported: {done.stderr.splitlines()[-1]}")
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    """Parse the command line, run, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)
    parser.add_argument("works", nargs="*", help=", ".join(WORKS))
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    times: dict[str, tuple[list[float], list[float]]] = {}
    checkouts, dice = (arguments.before, arguments.after), random.Random(0)
    for _ in range(arguments.rounds):
        for work in arguments.works or WORKS:
            for index in dice.sample((0, 1), 2):
                for name, seconds in run(checkouts[index], work).items():
                    times.setdefault(name, ([], []))[index].append(seconds)
    sys.stdout.write(f"{'after / before':<40}{'least':>8}{'median':>8}{'seconds':>9}\n")
    for name, (before, after) in times.items():
        ratios = [b / a for a, b in zip(before, after, strict=True)]
        sys.stdout.write(f"{name:<40}{min(after) / min(before):>8.2f}{median(ratios):>8.2f}{min(before):>9.2f}\n")


if __name__ == "__main__":
    main()
