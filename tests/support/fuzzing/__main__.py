"""The command line of the fuzzer: `python -m tests.support.fuzzing --count 20000`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tests.support.fuzzing.campaign import campaign, counts_of
from tests.support.fuzzing.targets import TARGETS, prepare


def main() -> int:
    """Run a campaign and print its findings; 1 where there is a fault or too few places."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=20_000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--target", action="append", choices=list(TARGETS))
    parser.add_argument("--good", type=Path, help="A folder that keeps the good run folders from one call to the next.")
    options = parser.parse_args()
    if options.good and not options.good.exists():
        options.good.mkdir(parents=True)
        prepare(options.good)
    findings = campaign(counts_of(options.count, options.target), options.first, options.good)
    lines = [f"fault: {text}" for text in findings.faults] + [f"no place: {text}" for text in findings.unplaced]
    lines += [f"{target}: {dict(outcomes)}" for target, outcomes in findings.outcomes.items()]
    lines += [f"places: {findings.placed_share:.4%} of {findings.counted}; slowest: {findings.slowest}"]
    sys.stdout.write("\n".join(lines) + "\n")
    return 1 if findings.faults or findings.placed_share < 0.995 else 0


if __name__ == "__main__":
    sys.exit(main())
