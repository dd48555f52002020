"""Whatever is in a file that fahw opens: a value or a ConfigError, with its place in text, in little time and memory.

A fault names its mutant, which `python -m tests.support.fuzzing --target NAME --first NUMBER --count 1` makes again.
"""

from random import Random

import pytest

from tests.support.fuzzing import binary, text
from tests.support.fuzzing.campaign import Findings, campaign, counts_of
from tests.support.fuzzing.targets import TARGETS
from tests.support.fuzzing.worker import MOST_SECONDS

PLACED = 0.995
"""The least share of refusals of text files of which every mistake has its line and column."""


def check(findings, count):
    """Every mutant was a value or was refused, the text files with places, none slowly."""
    assert findings.faults == []
    assert findings.placed_share >= PLACED, findings.unplaced
    assert findings.slowest[0] < MOST_SECONDS, findings.slowest
    assert sum(sum(outcomes.values()) for outcomes in findings.outcomes.values()) >= count
    assert {name for name, outcomes in findings.outcomes.items() if "value" not in outcomes} == set()
    refusing = {name for name, outcomes in findings.outcomes.items() if "refused" in outcomes}
    assert refusing >= set(TARGETS) - {"store"}  # where what is damaged is made again


@pytest.mark.slow
def test_a_sample_of_mutants_is_opened_or_refused():
    """About 40 mutants of every kind of file; of the reports, which draw plots, fewer."""
    others = {"compare": 12, "store": 12, "overrides": 120}
    check(campaign({name: others.get(name, 40) for name in TARGETS}), 500)


@pytest.mark.long
def test_twenty_thousand_mutants_are_opened_or_refused():
    """The same, shared out as the targets say; another range of numbers is another 20,000."""
    check(campaign(counts_of(20_000), first=1_000_000), 19_900)


def test_mutants_are_the_same_in_every_run():
    """A number stands for one mutant, so that a fault can be looked at; others are different."""
    content = b"name: x\nlist: [1, 2.5, three]\n"
    made = [text.mutated_text(Random(f"chip {number}"), content) for number in (*range(60), *range(60))]
    assert made[:60] == made[60:]
    assert len(set(made[:60])) > 50
    assert [binary.npz(Random(5)), binary.idx(Random(5), 3, 2)] == [binary.npz(Random(5)), binary.idx(Random(5), 3, 2)]


def test_what_comes_of_mutants_is_counted():
    """Faults are told with their mutant; refusals count towards the places where they should have one."""
    findings = Findings()
    findings.note("chip", {"number": 1, "outcome": "value", "seconds": 3.0})
    findings.note("chip", {"number": 2, "outcome": "refused", "counted": True, "placed": True, "text": "a:1:2: x"})
    findings.note("chip", {"number": 3, "outcome": "refused", "counted": True, "placed": False, "text": "a: x"})
    findings.note("npz", {"number": 4, "outcome": "refused", "counted": False, "placed": False, "text": "b: x"})
    findings.note("npz", {"number": 5, "outcome": "fault", "text": "KeyError"})
    assert findings.faults == ["npz 5: KeyError"]
    assert (findings.placed_share, findings.unplaced) == (0.5, ["chip 3: a: x"])
    assert findings.slowest == (3.0, "chip 1")
