"""Processor time of the search for the best mapping, beside that of fixed counts: check 11 of "A fair training step".

    python -m tests.bench.bench_best [step] [points] [small] [--number N]

step    one training step of ResNet-18 on ImageNet at batch 256 on tpu_like under bp: fixed, best for the first time,
        and best again in the same process
points  N cost-only points of lenet5 on edge_dual (rules, widths, batches), each loaded and simulated with fixed counts
        and with the best mapping in turn: milliseconds a point, and what 10,000 would take on two cores
small   the same of mlp_digits, whose tensors all stay on the chip: what a search costs at least

Both sides of a comparison run in turn in one process, so that a busy machine slows both. `--number 2` is a short form.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from itertools import product
from random import Random

import fahw

MAPPINGS = ("fixed", "best")
RULES, WIDTHS, BATCHES = ("bp", "dfa", "usf", "fa", "frsf"), (4, 5, 6, 8, 12, 16), (8, 16, 32, 64, 128)
_SWEEP, _CORES = 10_000, 2


def say(text: str) -> None:
    """A line of the report."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def seconds(work: Callable[[], object]) -> float:
    """Processor time of some work."""
    begun = time.process_time()
    work()
    return time.process_time() - begun


def step() -> None:
    """Fixed, best, and best again."""
    network, spent = fahw.load_model("resnet18_imagenet"), []
    for mapping in ("fixed", "best", "best"):
        chip = fahw.load_chip("tpu_like", {"mapping": mapping})
        spent.append(seconds(lambda chip=chip: fahw.simulate(chip, network, "bp", 256)))  # type: ignore[misc]
    fixed, cold, again = spent
    say(f"resnet18_imagenet, batch 256, tpu_like, bp: fixed {fixed:.3f} s, best {cold:.3f} s, again {again:.3f} s")


def points(model: str, number: int) -> None:
    """Points of a sweep, all different."""
    network = fahw.load_model(model)
    chosen = Random(0).sample(list(product(RULES, WIDTHS, WIDTHS, BATCHES)), number)
    spent = dict.fromkeys(MAPPINGS, 0.0)
    for (rule, weight, activation, batch), mapping in product(chosen, MAPPINGS):
        keys = {"mapping": mapping, "precision.weight": str(weight), "precision.activation": str(activation)}
        spent[mapping] += seconds(lambda: fahw.simulate(fahw.load_chip("edge_dual", keys), network, rule, batch))  # noqa: B023
    fixed, best = (1e3 * spent[mapping] / number for mapping in MAPPINGS)
    sweep = best * _SWEEP / _CORES / 1e3
    times = f"fixed {fixed:.1f} ms a point, best {best:.1f} ms ({best / fixed:.1f} x)"
    say(f"{model} on edge_dual, {number} points: {times}")
    say(f"  {_SWEEP:,} points of best on {_CORES} cores: {sweep:.0f} s")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="*", default=["step", "points", "small"])
    parser.add_argument("--number", type=int, default=90)
    given = parser.parse_args()
    fahw.simulate("edge_dual", "mlp_digits", "bp", 8)  # imports, and tables of prices
    if "step" in given.what:
        step()
    if "points" in given.what:
        points("lenet5", given.number)
    if "small" in given.what:
        points("mlp_digits", given.number)


if __name__ == "__main__":
    main()
