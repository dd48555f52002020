"""docs/sensitivity.md, written from what `tests.validation.sensitivity` finds."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from textwrap import fill

from tests.support.strategies import ROOT
from tests.validation.page import table
from tests.validation.sensitivity import (
    CASES,
    DENSITY_CASES,
    EXTRA_NAMES,
    Case,
    Density,
    Found,
    all_found,
    break_even,
    densities,
    percent,
    times,
)

PAGE = ROOT / "docs" / "sensitivity.md"
HEAD = ROOT / "tests" / "validation" / "sensitivity_head.md"
MODEL_ERROR = 0.01
"""Savings below this mean nothing anyway: the sum of what model.md leaves out."""

SOURCES = {
    "SRAM leakage": ("CACTI 7's of the bank", "assumed: corners differ by much; 30 where another node's is scaled"),
    "leakage of logic": ("Aladdin's 40 nm table", "assumed: thresholds of standard cells; 6 at another node"),
    "ROM leakage over SRAM leakage": ("0.2", "assumed"),
    "SRAM read": ("CACTI 7's of a word of the bank", "spread of CACTI's objectives; 4 where another node's is scaled"),
    "SRAM write": ("CACTI 7's of a word of the bank", "as a read"),
    "SRAM reads and writes": ("both of the above, and a ROM's reads", "as a read; 3 where there is a ROM"),
    "ROM read over SRAM read": ("0.6", "assumed"),
    "overhead of transposed read": ("of the bank, from CACTI 7", "none (cells read from either side) to twice that"),
    "overhead of transposed write": ("of the bank, from CACTI 7", "likewise"),
    "overhead of transposed leakage": ("of the bank, from CACTI 7", "likewise"),
    "register file": ("of 64 and 128 entries, Accelergy's Aladdin plug-in", "as all logic"),
    "all logic": ("all arithmetic, registers and clocks", "Aladdin's 32-bit multiplication takes 2.8 times Horowitz's"),
    "integer multiplier": ("0.2 pJ of 8 x 8 bits, Horowitz", "as all logic; 4 below 20 nm"),
    "integer adder": ("0.1 pJ of 32 bits, Horowitz", "as all logic"),
    "float multiplier": ("3.7 pJ in fp32, Horowitz", "as all logic"),
    "float adder": ("0.9 pJ in fp32, Horowitz", "as all logic"),
    "one-bit product": ("0.57 fJ a bit, Aladdin", "as all logic"),
    "register": ("9 fJ a bit, Aladdin", "as all logic"),
    "registers' own clock": ("7.94 of a register's 9 fJ, Aladdin", "assumed: from half to all of it"),
    "comparator": ("0.92 fJ a bit, Accelergy's Aladdin plug-in", "as all logic"),
    "shifter": ("13 fJ a bit, Accelergy's Aladdin plug-in", "as all logic"),
    "look-up table": ("0.4 pJ of 256 x 8 bits", "as all logic"),
    "multiplications of a division": ("7", "assumed"),
    "clock share": ("0.35 of the logic that it drives", "0.2 to 0.45 are common; no source could be read"),
    "idle share": ("0.1 of an active element, the chip file's", "assumed"),
    "ungated share": ("0.1 of what narrow operands leave unused", "assumed: from nearly nothing to no gating at all"),
    "wires between banks": ("CACTI 7's, over three quarters of the side of all banks", "as a wire"),
    "wire": ("CACTI 7's, half of the bits toggling; the link's", "published wires: 0.018 to 0.15 pJ; 3 at other nodes"),
    "hop": ("the chip file's, router and wire", "the chip file's uncertainty"),
    "moves in the transposer": ("2 register writes a value", "to 16: registers that shift through so many rows"),
    "all of DRAM": ("accesses, rows and static power", "the kind's or the chip file's uncertainty"),
    "DRAM read": ("the kind's or the chip file's", "likewise"),
    "DRAM write": ("the kind's or the chip file's", "likewise"),
    "DRAM activate": ("the kind's", "likewise"),
    "DRAM static power": ("standby, power-down and refresh", "likewise"),
    "feedback generator": ("the chip file's, a leaping LFSR", "the chip file's; a programmable one takes 50 times it"),
    "rounding generator": ("the chip file's, a leap-forward LFSR", "the chip file's"),
    "generator in a memory's place": ("the chip file's, a leap-forward LFSR", "the chip file's"),
    "mac (given)": ("Loihi's 23.6 pJ", "the chip file's: one secondary source disputes it"),
    "update (given)": ("Loihi's 120 pJ", "the chip file's"),
}
"""Each constant: its nominal value and its source, and where its range comes from. In the order of the page."""


def render() -> str:
    """The page."""
    return page_of(all_found(), [density for case in DENSITY_CASES for density in densities(case)])


def page_of(everything: Sequence[Found], shares: Sequence[Density]) -> str:
    """The page of these sensitivities."""
    priced = [one for one in everything if one.of.constant not in EXTRA_NAMES]
    extras = [one for one in everything if one.of.constant in EXTRA_NAMES]
    head = HEAD.read_text(encoding="utf-8").rstrip("\n")
    parts = [
        head, _wrapped(_summary(priced)),
        "## The constants\n", _constants(priced),
        "## Verdicts that a constant moves\n", *_verdicts(priced),
        "## What never moves a sign\n", _wrapped(_never(priced)),
        "## What is never priced\n", _wrapped(_EXTRAS), _extras(extras),
        "## Shares of zeros\n", _wrapped(_ZEROS), _zeros(shares),
    ]  # fmt: skip
    return "\n\n".join(part.strip("\n") for part in parts) + "\n"


def _wrapped(text: str) -> str:
    return fill(text, 120, break_long_words=False, break_on_hyphens=False)


def _verdicts_of(found: Iterable[Found]) -> set[tuple[Case, str]]:
    return {(one.case, one.of.rule) for one in found}


def _summary(priced: Sequence[Found]) -> str:
    moved = [one for one in priced if one.moves]
    large = [one for one in moved if abs(one.of.saving) > MODEL_ERROR]
    verdicts, with_moved, with_large = (len(_verdicts_of(some)) for some in (priced, moved, large))
    return (
        f"Here are {len(CASES)} pairs of a chip and a network, {verdicts} verdicts in all. Some constant moves the "
        f"sign of {with_moved} of them; of these {with_large} are verdicts of more than one percent. "
        f"{len({one.of.constant for one in moved})} of {len(SOURCES)} constants do so."
    )


def _constants(priced: Sequence[Found]) -> str:
    rows = []
    for name, (nominal, reason) in SOURCES.items():
        mine = [one for one in priced if one.of.constant == name]
        moved = _verdicts_of(one for one in mine if one.moves)
        large = _verdicts_of(one for one in mine if one.moves and abs(one.of.saving) > MODEL_ERROR)
        numbers = (len(_verdicts_of(mine)), len(moved), len(large))
        rows.append([name, nominal, _ranges(mine), reason, *numbers])
    return table(("constant", "nominal", "range", "why that range", "verdicts", "moved", "above 1 %"), rows, 4)


def _ranges(mine: Sequence[Found]) -> str:
    return ", ".join(f"{low} to {high}" for low, high in sorted({_ends(one) for one in mine}))


def _ends(one: Found) -> tuple[str, str]:
    return times(one.of.low), times(one.of.high)


def _verdicts(priced: Sequence[Found]) -> Iterable[str]:
    """A table for every chip with a verdict that moves."""
    for chip in dict.fromkeys(one.case.chip for one in priced):
        moved = [one for one in priced if one.moves and one.case.chip == chip]
        if moved:
            yield f"### {chip}\n"
            yield table(_VERDICT, map(row, moved), 4)


_VERDICT = ("network", "batch", "rule", "constant", "range", "at low", "nominal", "at high", "sign changes at")


def rows_of(text: str, case: Case) -> list[str]:
    """The lines of a page's text that say what moves the verdicts of a case."""
    section = text.partition(f"\n### {case.chip}\n")[2].partition("\n#")[0]
    return [line for line in section.splitlines() if line.startswith(f"| {case.network} | {case.batch} |")]


def row(one: Found) -> list[object]:
    """The cells of a verdict that a constant moves."""
    savings = (percent(share) for share in (one.of.saving_at_low, one.of.saving, one.of.saving_at_high))
    points = ", ".join(f"{scale:.4g}" for scale in one.of.break_even)
    return [
        one.case.network, one.case.batch, one.of.rule, one.of.constant, " to ".join(_ends(one)), *savings, points,
    ]  # fmt: skip


def _never(priced: Sequence[Found]) -> str:
    moving = {one.of.constant for one in priced if one.moves}
    return f"Nowhere in these {len(CASES)} cases: {', '.join(name for name in SOURCES if name not in moving)}."


_EXTRAS = (
    "What model.md lists as never priced, priced here with the size that it names: its nominal value is nothing, the "
    "other end is the most that it may be. Not every rule pays alike, so these too can move a sign."
)


def _extras(extras: Sequence[Found]) -> str:
    rows = []
    for one in extras:
        if one.moves:
            extra = EXTRA_NAMES[one.of.constant]
            points = ", ".join(f"{(scale - 1) * extra.high:.3g}" for scale in one.of.break_even)
            case, most = one.case, f"{extra.high:g} {extra.unit}"
            savings = percent(one.of.saving), percent(one.of.saving_at_high)
            rows.append([case.chip, case.network, case.batch, one.of.rule, extra.name, most, *savings, points])
    sources = "\n".join(f"* **{extra.name}**: {extra.source}." for extra in EXTRA_NAMES.values())
    head = ("chip", "network", "batch", "rule", "what", "most", "without", "with the most", "sign changes at")
    return f"{sources}\n\n{table(head, rows, 6)}"


_ZEROS = (
    "Five chips skip zeros and assume how many there are, where training has not measured it. Counts follow from these "
    "shares, so each step is simulated again with half and with twice the assumed share of values that are not zero "
    "(at most 1). A point at which a sign changes is found by bisection."
)


def _zeros(shares: Sequence[Density]) -> str:
    rows = []
    for one in shares:
        if one.moves:
            ends = " to ".join(f"{end:.3g}" for end in one.ends)
            what = f"{one.key.removeprefix('zero_')}s that are not zero, {one.nominal:.3g}"
            case, savings = one.case, map(percent, one.savings)
            rows.append([case.chip, case.network, case.batch, one.rule, what, ends, *savings, f"{break_even(one):.3g}"])
    head = ("chip", "network", "batch", "rule", "share", "range", "at low", "nominal", "at high", "sign changes at")
    return table(head, rows, 5)
