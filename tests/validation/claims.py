"""Figures that published chips claim, beside what fahw says of chips like them."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from functools import cache
from math import log10

from tests.validation import claims_dfa, claims_events, claims_inference, claims_memory
from tests.validation.claim import Claim
from tests.validation.page import reference, table

TITLE = "Published chips"
SLOW = True
PICTURE = "claims.svg"

NOT_RUN = {
    "C004": "area of the error unit: its share of a core, and what else is in it",
    "C005": "energy of the error unit: what is counted to it besides the multipliers",
    "C006": "operations and external bytes that the throughput per bandwidth is made of",
    "C008": "circuits of the homogeneous core that the heterogeneous one is compared with",
    "C010": "candidates per frame and update interval of the tracker",
    "C012": "the baseline: the hardware optimised for BP is another architecture",
    "C013": "the convolutional networks and training of the accuracy comparison",
    "C014": "input sparsity and precision of the peak figure",
    "C015": "a measured sparsity: an input here, not a result",
    "C016": "whether the multiplier alone or the whole unit is meant: here fp16 takes about 4.8 (e4m3) to 7.5 (e5m2) "
    "times the energy of fp8 in the first, 2.4 to 2.7 in the second",
    "C017": "the baseline: another chip at another node",
    "C019": "which circuits the learning added", "C020": "sizes of layers and time per image",
    "C021": "sizes of layers", "C022": "spikes per operation; recurrent spiking networks are not modelled",
    "C023": "widths of states and traces; recurrent spiking networks are not modelled",
    "C026": "spikes per image, and what runs side by side", "C027": "the dynamics of its neurons",
    "C028": "nothing but the architecture is published",
    "C032": "analog computation in memory", "C033": "analog computation in memory",
    "C034": "analog computation in memory",
    "C035": "spikes per neuron and image", "C036": "spikes per neuron and image", "C037": "spikes per pixel",
    "C030": "spikes per image, and the spike-timing rule", "C040": "the energy of analog cells and converters",
    "C041": "device variation: analog arithmetic is not modelled",
    "C042": "resistive arrays and spiking data sets", "C043": "the baseline is another architecture",
    "C047": "spiking network and conversion", "C048": "power of the whole board", "C049": "power of the whole board",
    "C050": "an input of `loihi_like`, not a result", "C051": "an input of `loihi_like`, not a result",
    "C052": "the dynamics of neurons are not modelled",
    "C053": "word widths and memories of the chip", "C054": "spikes per second of the figure",
    "C055": "no energy is published",
    "C056": "optics", "C057": "optics", "C058": "optics",
    "C064": "sparsity of the network by layer", "C066": "an FPGA against a GPU",
    "C067": "dataflows before and after", "C068": "an FPGA; BP without extra weight reads is the row `shared`",
    "C069": "node and cells", "C070": "accuracy of language models", "C071": "peak power over peak rate, no model",
}  # fmt: skip
"""What is missing to run the others."""


@cache
def claims() -> tuple[Claim, ...]:
    """All that can be run."""
    return tuple(_all())


def _all() -> Iterator[Claim]:
    for module in (claims_dfa, claims_inference, claims_memory, claims_events):
        yield from module.claims()


def section() -> str:
    """Tables of what was run and of what was not."""
    rows = [_line(n, claim) for n, claim in enumerate(claims(), 1)]
    notes = "\n\n".join(f"({n}) {c.simulated}. {c.why}" for n, c in enumerate(claims(), 1))
    published = {row["id"]: row for row in csv.DictReader(reference("chip_claims.csv").splitlines())}
    missing = [
        [published[name]["chip_or_paper"].split(",")[0].split("(")[0].strip(), published[name]["metric"], reason]
        for name, reason in NOT_RUN.items()
    ]
    met = sum(claim.met for claim in claims())
    return _TEXT.format(
        table=table(_HEAD, rows, left=3), notes=notes, missing=table(_MISSING, missing, left=3), met=met,
        count=len(rows), picture=PICTURE,
    )  # fmt: skip


def _line(n: int, claim: Claim) -> list[str]:
    what, reached = f"{claim.what}, {claim.unit}", "yes" if claim.met else "**no**"
    return [f"{n}", claim.chip, what, _range(claim.theirs), _ours(claim), _gap(claim), claim.goal, reached]


def number(value: float) -> str:
    """Three significant digits, no exponent."""
    digits = 2 - int(log10(abs(value))) if abs(value) >= 1 else 3
    text = f"{value:.{max(0, digits)}f}"
    return text.rstrip("0").rstrip(".") if "." in text and abs(value) < 1 else text


def _range(ends: tuple[float, float]) -> str:
    low, high = ends
    return number(low) if low == high else f"{number(low)} to {number(high)}"


def _ours(claim: Claim) -> str:
    fixed = f"{number(claim.point)} " if claim.point is not None else ""
    return f"{fixed}({_range(claim.ours)})" if fixed else _range(claim.ours)


def _gap(claim: Claim) -> str:
    low, high = claim.theirs
    nearest = min(max(claim.value, low), high)
    if claim.unit == "%":
        return f"{claim.value - nearest:+.1f} points"
    return f"{100 * (claim.value / nearest - 1):+.0f} %"


_HEAD = ("", "chip", "claim", "theirs", "ours", "gap", "goal", "reached")
_MISSING = ("chip or paper", "figure", "what is missing")
_TEXT = """\
Every chip below is a file in `hwconfigs` whose numbers carry a source or are openly assumed. One table of energies
serves all of them: nothing is fitted to a claim, and a test fails where a chip overrides an energy without a source.
Ranges are what assumptions leave open; the value before a range is the one at the setting that was fixed before
comparing. {met} of {count} figures come as close as was asked for.

{table}

![ours over theirs](images/{picture})

{notes}

**Not run.** What these would need is not published, or not modelled:

{missing}
"""


# the chart

_WIDTH, _LEFT, _ROW, _TOP = 900, 440, 22, 40
_LEAST, _MOST = 0.1, 10.0


def _x(ratio: float) -> float:
    share = (log10(min(max(ratio, _LEAST), _MOST)) - log10(_LEAST)) / (log10(_MOST) - log10(_LEAST))
    return round(_LEFT + share * (_WIDTH - _LEFT - 30), 1)


def pictures() -> dict[str, str]:
    """Ours over theirs, on a logarithmic axis; a bar is a range."""
    height = _TOP + _ROW * len(claims()) + 30
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" font-family="sans-serif"',
        'font-size="12">',
        f'<rect width="{_WIDTH}" height="{height}" fill="white"/>',
    ]  # fmt: skip
    for tick in (0.1, 0.2, 0.5, 1, 2, 5, 10):
        colour, x = ("#333" if tick == 1 else "#ddd"), _x(tick)
        parts.append(f'<line x1="{x}" y1="{_TOP - 12}" x2="{x}" y2="{height - 26}" stroke="{colour}"/>')
        parts.append(f'<text x="{x}" y="{height - 10}" text-anchor="middle">{tick:g}</text>')
    parts.append(f'<text x="{_x(1)}" y="16" text-anchor="middle">ours over theirs</text>')
    for row, claim in enumerate(claims()):
        parts += _row(claim, row, _TOP + _ROW * row)
    return {PICTURE: "\n".join([*parts, "</svg>", ""])}


def _row(claim: Claim, row: int, y: int) -> Iterator[str]:
    middle = sum(claim.theirs) / 2
    ends = [_x(end / middle) for end in claim.ours]
    published = [_x(end / middle) for end in claim.theirs]
    colour = "#1f77b4" if claim.met else "#d62728"
    label = f"{row + 1}. {claim.chip}: {claim.what}"
    label = label if len(label) <= 64 else f"{label[:63]}\u2026"
    yield f'<text x="8" y="{y + 4}">{label.replace("&", "&amp;")}</text>'
    if published[0] < published[1]:
        wide = f"{published[1] - published[0]:.1f}"
        yield f'<rect x="{published[0]}" y="{y - 6}" width="{wide}" height="12" fill="#ddd"/>'
    yield f'<line x1="{ends[0]}" y1="{y}" x2="{ends[1]}" y2="{y}" stroke="{colour}" stroke-width="4"/>'
    yield f'<circle cx="{_x(claim.value / middle)}" cy="{y}" r="5" fill="{colour}"/>'
