"""The lifetimes of docs/model.md, section 13: shares and room, worked out by hand there, are those of the programme."""

import re

import pytest

from fahw.mapping.lifetimes import Choice, best_shares
from tests.support.strategies import ROOT

FETCH, WRITE, CAPACITY = 10, 12, 2400
SAMPLES, PIXELS, TAPS = 2, 16, 9
TENSORS = {
    "input 1": (SAMPLES * PIXELS * 1 * 8, 0, ((1, 1), (7, 1))),
    "input 2": (SAMPLES * PIXELS * 2 * 8, 1, ((2, 1), (5, 2))),
    "mask 1": (SAMPLES * PIXELS * 2 * 1, 1, ((4, 1),)),
    "output 2": (SAMPLES * PIXELS * 4 * 8, 2, ((3, 1),)),
    "error 2": (SAMPLES * PIXELS * 4 * 8, 3, ((4, 1), (5, 2))),
    "error 1": (SAMPLES * PIXELS * 2 * 8, 4, ((7, 2),)),
    "gradient 2": (TAPS * 2 * 4 * 16, 5, ((6, 1),)),
    "gradient 1": (TAPS * 1 * 2 * 16, 7, ((8, 1),)),
}
"""Bits, the moment of the write, and the reads with how often each fetches."""


def section():
    """The section, without those behind it."""
    text = (ROOT / "docs" / "model.md").read_text(encoding="utf-8")
    return re.split(r"^## ", text.split("What stays on the chip\n")[1], flags=re.MULTILINE)[0]


def table(first):
    """The rows of the table whose head begins so, each a list of its cells."""
    lines = section().splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith(f"| {first} "))
    rows = []
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split("|")])
    return rows


def gain_per_bit(reads, before):
    """pJ per bit of a tensor that is kept until one of its reads; `before`: how many of them find it there."""
    fetched = sum(times for _, times in reads[:before]) * FETCH
    return fetched + (WRITE if before == len(reads) else 0)


def choice(number, bits, begin, end, per_bit):
    moments = tuple((moment, 1) for moment in range(begin, end + 1))
    return Choice(number, "buffer", float(bits), float(bits * per_bit), moments)


CHOICES, BETWEEN = [], []
for _number, (_bits, _written, _reads) in enumerate(TENSORS.values()):
    for _before in range(len(_reads), 0, -1):
        CHOICES.append(choice(_number, _bits, _written, _reads[_before - 1][0], gain_per_bit(_reads, _before)))
    if len(_reads) == 2:
        (_first, _), (_last, _times) = _reads
        BETWEEN.append(choice(_number, _bits, _first, _last, _times * FETCH))
SHARES = best_shares([*CHOICES, *BETWEEN], {"buffer": [CAPACITY] * 9})


def test_bits_and_gains_of_the_table_are_those_of_the_layers():
    """Columns up to the gains."""
    for row, (name, (bits, written, reads)) in zip(table("tensor"), TENSORS.items(), strict=True):
        values = 1
        for factor in row[1].split(" x "):
            values *= int(factor)
        assert (row[0], values, int(row[2]), int(row[3])) == (name, bits, bits, written)
        assert row[4] == ", ".join(f"{moment}" + (" twice" if times == 2 else "") for moment, times in reads)
        assert int(row[5].rpartition("= ")[2]) == gain_per_bit(reads, len(reads))
        assert [int(row[6])] == [gain_per_bit(reads, 1)] if len(reads) == 2 else row[6] == ""


def test_the_shares_worked_out_by_hand_are_the_programmes():
    """Until the last read, until the first, and none from one to the other."""
    by_hand = []
    for row in table("tensor"):
        by_hand += [float(cell) for cell in row[7:9] if cell]
    assert list(SHARES) == pytest.approx([*by_hand, 0, 0, 0], abs=1e-6)


def test_the_room_worked_out_by_hand_is_what_the_choices_take():
    """Everything until its last read, and what is kept."""
    everything, kept = [0.0] * 9, [0.0] * 9
    last = {choice.tensor: choice for choice in reversed(CHOICES)}
    for one in last.values():
        for moment, _ in one.moments:
            everything[moment] += one.bits
    for one, share in zip([*CHOICES, *BETWEEN], SHARES, strict=True):
        for moment, _ in one.moments:
            kept[moment] += one.bits * share
    assert {row[0]: [float(cell) for cell in row[1:]] for row in table("moment")} == {
        "everything": everything,
        "kept": pytest.approx(kept, abs=0.01),
    }


def test_the_gain_worked_out_by_hand_is_kept():
    """In pJ."""
    (total,) = re.findall(r"= ([\d,]+) pJ\. It is the most", section().replace("\n", " "))
    gained = sum(one.gain * share for one, share in zip([*CHOICES, *BETWEEN], SHARES, strict=True))
    assert gained == pytest.approx(float(total.replace(",", "")), abs=0.1)
