"""The worked example of docs/model.md: every count, price, cycle and total equals the simulator's."""

import re
from pathlib import Path

import pytest

import fahw

DOCS = Path(__file__).parent.parent.parent / "docs"
HEADING = re.compile(r"^(?:\*\*(?P<title>[^*]+?)\.?\*\*|(?P<layer>linear\d):$)")


def simulated(rule, transport=None):
    return fahw.simulate(DOCS / "worked_chip.yaml", DOCS / "worked_model.yaml", rule, 2, transport)


def hand_rows():
    """Rows of the tables by (phase, layer), and the total under each table."""
    section = (DOCS / "model.md").read_text().split("### Backpropagation")[1].split("### DFA")[0]
    address, rows, sums = ("", ""), {}, {}
    for line in section.splitlines():
        heading = HEADING.match(line)
        if heading:
            address = place_of(heading["title"], heading["layer"], address)
        cells = [cell.strip().strip("*") for cell in line.strip("|").split("|")]
        if line.startswith("| |") and cells[-2] == "sum":
            sums[address] = float(cells[-1])
        elif line.startswith("|") and len(cells) == 6 and re.match(r"[\d.]+$", cells[3]):
            tensor = "" if cells[2] == "–" else cells[2]
            rows[(*cells[:2], tensor, *address)] = tuple(map(float, cells[3:]))
    return rows, sums


def place_of(title, layer, before):
    if layer:
        return before[0], layer
    words = title.split(",")[0].split()
    return {
        "Input": ("forward", "input"),
        "loss": ("error", "loss"),
        "Time": before,
        "Static": ("", ""),
        "update": ("update", ""),
    }.get(words[0], tuple(words[:2]))


def test_every_row_of_backpropagation_is_in_the_document():
    """Addresses, counts, units and energies agree, and no row is missing on either side."""
    rows, _ = hand_rows()
    found = {
        (r.component, r.action, r.tensor, r.phase, r.layer): (r.count, r.unit_pj, r.energy_pj)
        for r in simulated("bp", "copy").ledger
    }
    assert rows.keys() == found.keys()
    for address, numbers in rows.items():
        assert found[address] == pytest.approx(numbers, abs=1e-6), address


def test_the_sums_under_the_tables_are_right():
    """Each printed sum is the sum of its rows, and they add up to the printed total."""
    rows, sums = hand_rows()
    for address, total in sums.items():
        assert sum(pj for key, (_, _, pj) in rows.items() if key[3:] == address) == pytest.approx(total, abs=1e-4)
    assert sum(sums.values()) == pytest.approx(2025.9974125, abs=1e-4)


@pytest.mark.parametrize(("rule", "energy_pj"), [("bp", 2025.9974125), ("dfa", 1990.3334125)])
def test_totals_and_cycles(rule, energy_pj):
    """The totals that the text works out by hand."""
    assert f"| {energy_pj:.7f} |" in (DOCS / "model.md").read_text()
    cost = simulated(rule)
    assert cost.energy_pj == pytest.approx(energy_pj, abs=1e-6)
    assert (cost.cycles, cost.interval_cycles) == (57, 56)


def test_inference_of_a_sample():
    """Input and forward without the mask that only the way back reads."""
    assert "= 64.688944 pJ" in (DOCS / "model.md").read_text()
    assert simulated("bp", "copy").inference_pj_per_sample == pytest.approx(64.688944, abs=1e-6)


def test_spans_of_the_tasks():
    """Start and end of every task, as the text derives them."""
    spans = {(s.phase, s.layer): (s.start, s.end) for s in simulated("bp", "copy").timing.spans}
    assert spans == {
        ("forward", "input"): (0, 1), ("forward", "linear1"): (1, 15), ("forward", "linear2"): (15, 22),
        ("error", "loss"): (22, 25), ("error", "linear2"): (25, 35), ("gradient", "linear2"): (25, 36),
        ("update", "linear2"): (36, 39), ("transport", "linear2"): (39, 47), ("gradient", "linear1"): (35, 53),
        ("update", "linear1"): (53, 57),
    }  # fmt: skip


def test_dfa_is_backpropagation_without_transport():
    """On this network B is as large as W, so only the transport rows differ."""
    rows = [row for row in simulated("bp", "copy").ledger if row.phase != "transport"]
    assert {(r.component, r.action, r.tensor, r.phase, r.layer, r.energy_pj) for r in rows} == {
        (r.component, r.action, r.tensor, r.phase, r.layer, r.energy_pj) for r in simulated("dfa").ledger
    }
