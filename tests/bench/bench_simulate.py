"""Processor time and memory of the cost simulation.

    python tests/bench/bench_simulate.py [step] [calls] [--scalesim-python PATH] [--layers N]

step      one training step of ResNet-18 on ImageNet at batch 256 under every rule, on edge_dual and on tpu_like
calls     a thousand calls of `fahw.simulate` on lenet5 with different bit-widths, rules and batch sizes
SCALE-Sim: layers of its reference by SCALE-Sim itself and by the closed forms, case by case, in a Python that has it
          (python -m venv X; X/bin/pip install scalesim "numpy==2.3.*"; then --scalesim-python X/bin/python)

Times are processor time of one thread; memory is the peak of a fresh process, Python and libraries included. Every
result of SCALE-Sim is compared with the closed form, too.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from itertools import product
from pathlib import Path
from random import Random

import fahw
from fahw.rules.catalogue import RULES
from tests.validation.chips import plain_accesses
from tests.validation.cycles import Case, cases, counts

CHILD = Path(__file__).parent / "scalesim_child.py"
CHIPS = ("edge_dual", "tpu_like")
CALLS = 1000
_REPEATS = 100


def say(text: str) -> None:
    """A line of the report."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def one_step(chip: str, rule: str) -> None:
    """Simulate the step once in this process; print seconds and peak MiB."""
    network, value = fahw.load_model("resnet18_imagenet"), fahw.load_chip(chip)
    start = time.process_time()
    fahw.simulate(value, network, rule, 256)
    seconds = time.process_time() - start
    say(json.dumps([seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024]))


def steps() -> None:
    """Every rule on both chips, each in a process of its own."""
    say("resnet18_imagenet, batch 256: seconds and peak MiB of `simulate`")
    for chip, rule in product(CHIPS, RULES):
        words = [sys.executable, __file__, "one_step", chip, rule]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        if done.returncode:
            say(f"  {chip:10} {rule:8} {done.stderr.strip().splitlines()[-1]}")
            continue
        seconds, mib = json.loads(done.stdout)
        say(f"  {chip:10} {rule:8} {seconds:6.2f} s {mib:7.0f} MiB")


def calls() -> None:
    """A thousand different calls."""
    network = fahw.load_model("lenet5")
    points = list(product(RULES, (1, 2, 4, 8, 16), (1, 3, 8, 16), (1, 2, 5, 16, 32, 64, 128, 200, 256)))
    chosen = Random(0).sample(points, CALLS)
    start = time.process_time()
    for rule, weight, feedback, batch in chosen:
        chip = fahw.load_chip("edge_dual", {"precision.weight": str(weight), "precision.feedback": str(feedback)})
        fahw.simulate(chip, network, rule, batch)
    seconds = time.process_time() - start
    say(f"lenet5 on edge_dual, {len(chosen)} calls of load_chip and simulate: {seconds:.1f} s")


def compare_scalesim(python: str, layers: int) -> None:
    """The same products by SCALE-Sim and by the closed forms, spread over the sizes of the reference."""
    found = sorted(cases(), key=lambda case: case.mapping.m * case.mapping.n * case.mapping.k)
    chosen, accesses = found[:: max(1, len(found) // layers)], plain_accesses()
    theirs, ours = 0.0, 0.0
    with subprocess.Popen([python, str(CHILD)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        for case in chosen:
            sizes = {name: getattr(case.mapping, name) for name in ("m", "n", "k", "rows", "cols", "dataflow")}
            child.stdin.write(json.dumps(sizes) + "\n")
            child.stdin.flush()
            result = json.loads(child.stdout.readline())
            theirs += result["seconds"]
            start = time.process_time()
            for _ in range(_REPEATS):
                mine = counts(case.mapping, accesses)
            ours += (time.process_time() - start) / _REPEATS
            check(case, result, mine)
        child.stdin.close()
    say(
        f"{len(chosen)} layers of scalesim_cycles.csv, cycles and access counts: SCALE-Sim {theirs:.2f} s, closed forms"
    )
    say(f"{ours * 1e3:.3f} ms: {theirs / ours:,.0f} times as fast, all counts equal")


def check(case: Case, result: dict[str, object], mine: tuple[int, int, int, int]) -> None:
    """What SCALE-Sim says now is what the reference says, and what we count. Raises RuntimeError."""
    found = (result["cycles"], *dict(result["accesses"]).values())  # type: ignore[call-overload]
    if found != case.theirs or mine != case.corrected:
        raise RuntimeError(f"{case.name}: {found} and {mine}, expected {case.theirs} and {case.corrected}")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="*", default=["step", "calls"])
    parser.add_argument("--scalesim-python", default="")
    parser.add_argument("--layers", type=int, default=40)
    given = parser.parse_args()
    if given.what[0] == "one_step":
        one_step(*given.what[1:])
        return
    if "step" in given.what:
        steps()
    if "calls" in given.what:
        calls()
    if given.scalesim_python:
        compare_scalesim(given.scalesim_python, given.layers)


if __name__ == "__main__":
    main()
