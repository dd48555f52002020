"""Impossible chips are refused with what is wrong; whatever else is broken, a step costs something finite."""

import math
import re

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import fahw
from fahw.errors import ConfigError
from fahw.rules.catalogue import RULES
from tests.support.strategies import CHIP, GENERATOR, chip_of, network_of, swap

MESH = """\
mesh: {rows: 1, cols: 2, link_bits_per_cycle: 8, hop_pj_per_bit: 0.1, split_layers: false, assumed: a test}
transport:"""
PRNG = """\
  - name: random
    kind: prng
    holds: [weight]
    width_bits: 8
    read_bits_per_cycle: 8
    pj_per_bit: 1
    area_mm2: 0
links:"""
TWICE = """\
  - name: more
    holds: [weight]
    size_kib: 64
    bank_kib: 16
    width_bits: 32
    read_bits_per_cycle: 32
    write_bits_per_cycle: 32
links:"""

AT_LOAD = {
    "no memory for a tensor that a phase needs": ("holds: [weight]", "holds: [io]", "no memory holds weight"),
    "no memory for errors": ("error, activation]", "activation]", "no memory holds error"),
    "no bandwidth": ("read_bits_per_cycle: 32", "read_bits_per_cycle: 0", "greater than or equal to 1"),
    "negative bandwidth": ("read_bits_per_cycle: 32", "read_bits_per_cycle: -8", "greater than or equal to 1"),
    "endless bandwidth": ("read_bits_per_cycle: 32", "read_bits_per_cycle: .inf", "read_bits_per_cycle|whole|integer"),
    "a link without wires": ("width_bits: 16", "width_bits: 0", "greater than or equal to 1"),
    "a link that leads nowhere": ("to: copies", "to: nowhere", "the link leads nowhere: no memory 'nowhere'"),
    "a link from a memory to itself": ("to: copies", "to: weights", "from weights to itself"),
    "two homes at one level": ("links:", TWICE, "weight has more than one home: weights, more"),
    "a generator that holds W": ("links:", PRNG, "a prng can hold feedback and nothing else"),
    "a clock that stands still": ("clock_mhz: 100", "clock_mhz: 0", "greater than or equal to"),
    "a clock that is no number": ("clock_mhz: 100", "clock_mhz: .nan", "clock_mhz|finite|nan"),
    "no array for a phase": ("phases: {error: os}", "phases: {}", "phase error: no array runs it"),
    "two arrays for a phase": ("phases: {error: os}", "phases: {error: os, forward: os}", "phase forward: more than"),
    "an array without elements": ("rows: 4", "rows: 0", "greater than or equal to 1"),
    "an array without lanes": ("lanes: 2", "lanes: 0", "greater than or equal to 1"),
    "an array that reaches nothing": ("[copies, buffer]", "[]", "at least 1"),
    "a memory without room": ("size_kib: 64", "size_kib: 0", "number from 1e-09"),
    "a bank larger than its memory": ("bank_kib: 16", "bank_kib: 128", "larger than the memory"),
    "a core that is not on the mesh": (
        "transport:",
        swap(MESH, "split", "placement: {linear1: 7}, split"),
        "not on the",
    ),
    "a mesh without cores": ("transport:", swap(MESH, "rows: 1", "rows: 0"), "greater than or equal to 1"),
    "links of a mesh without wires": ("transport:", swap(MESH, "cycle: 8", "cycle: 0"), "greater than or equal to 1"),
    "no steps": ("transport:", "steps_in_flight: 0\ntransport:", "greater than or equal to 1"),
    "no bursts": ("transport:", "tiles_per_task: 0\ntransport:", "greater than or equal to 1"),
    "a value that holds itself": ("transport:", "energies: &a [*a]\ntransport:", ""),
    "an alias of what comes later": ("transport:", "energies: *b\nlinks: &b []\ntransport:", ""),
}


@pytest.mark.parametrize("case", AT_LOAD)
def test_an_impossible_chip_is_refused_when_it_is_loaded(case, tmp_path):
    """With the place in the file and what is wrong, before anything runs."""
    old, new, message = AT_LOAD[case]
    with pytest.raises(ConfigError) as caught:
        chip_of(tmp_path, swap(CHIP, old, new))
    found = [problem for problem in caught.value.problems if re.search(message, f"{problem.key} {problem.message}")]
    assert found, caught.value.problems
    assert re.search(r"chip\.yaml:\d+:\d+$", found[0].place)


WITH_A_NETWORK = {
    "more layers than cores": ("transport:", MESH, "needs 3 cores .* the mesh has 2"),
    "no link for what must move": ("from: weights\n    to: copies", "from: copies\n    to: weights", "needs a link"),
    "no memory for a copy": ("holds: [feedback]", "holds: [io]", "no memory .*holds feedback"),
    "no room and no DRAM": ("size_kib: 64\n    bank_kib: 16\n    width_bits: 32", "size_kib: 0.01\n    bank_kib: 0.01\n"
                            "    width_bits: 32", "does not fit weights"),
}  # fmt: skip


@pytest.mark.parametrize("case", WITH_A_NETWORK)
def test_what_shows_only_with_a_network_is_refused_before_it_is_simulated(case, tmp_path):
    """More layers than cores, weights that cannot move or do not fit: an input error with advice."""
    old, new, message = WITH_A_NETWORK[case]
    network = network_of(tmp_path)
    with pytest.raises(ConfigError, match=message):
        fahw.simulate(chip_of(tmp_path, swap(CHIP, old, new)), network, "bp", 2)


RING = "  - {name: a, kind: add, from: [b, input]}\n  - {name: b, kind: add, from: [a, input]}\n"
CIRCLES = {
    "a layer that reads itself": "  - {name: a, kind: add, from: [a, input]}\n",
    "layers that read each other": RING,
}


@pytest.mark.parametrize("case", CIRCLES)
def test_networks_that_run_in_circles_are_refused(case, tmp_path):
    """A layer reads what comes before it."""
    text = "name: ring\ninput: [4]\nlayers:\n" + CIRCLES[case] + "  - {kind: linear, out: 3}\n"
    with pytest.raises(ConfigError, match=r"\b[ab]\b"):
        network_of(tmp_path, text)


WHOLE = yaml.safe_load(swap(CHIP, "transport:", GENERATOR))
NUMBERS = (0, -1, 1, 2, 3, 7, 1e-9, 0.5, 1e6, 1e9, 1e30, math.inf, -math.inf, math.nan, None, "fit", "os", True, [], {})


def places(value, path=()):
    """Every key and item of a document."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield (*path, key)
        yield from places(item, (*path, key))


PLACES = list(places(WHOLE))
damage = st.tuples(st.sampled_from(PLACES), st.sampled_from(("drop", "twice", "swap", *NUMBERS)))


def broken(steps):
    """A copy of the chip with every damage done that is still possible."""
    value = yaml.safe_load(yaml.safe_dump(WHOLE))
    for path, how in steps:
        try:
            *inner, last = path
            at = value
            for key in inner:
                at = at[key]
            at[last]
        except (KeyError, IndexError, TypeError):
            continue
        if how == "drop":
            del at[last]
        elif how == "twice" and isinstance(at, list):
            at.append(at[last])
        elif how == "swap" and isinstance(at, list):
            at.insert(0, at.pop(last))
        elif how not in ("twice", "swap"):
            at[last] = how
    return yaml.safe_dump(value)


def check_broken(steps, rule, folder):
    """A broken chip is refused, or its step takes a finite, positive time and energy."""
    try:
        cost = fahw.simulate(chip_of(folder, broken(steps)), network_of(folder), rule, 3)
    except ConfigError as error:
        refused = error
    else:
        refused = None
    if refused is not None:
        assert refused.problems
        assert all(problem.message for problem in refused.problems)
        return
    figures = (cost.cycles, cost.interval_cycles, cost.energy_pj, cost.seconds, cost.area_mm2, cost.power_mw)
    assert all(math.isfinite(figure) for figure in figures), figures
    assert cost.cycles >= 1
    assert cost.interval_cycles >= 1
    assert cost.energy_pj >= 0
    assert all(math.isfinite(row.energy_pj) and row.count >= 0 for row in cost.ledger)


@given(st.lists(damage, min_size=1, max_size=4), st.sampled_from(tuple(RULES)))
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_broken_chip_is_refused_or_costs_something_finite(tmp_path, steps, rule):
    """No traceback, no hang, no NaN, no infinite time, whatever is missing, doubled, out of order or out of range."""
    check_broken(steps, rule, tmp_path)


@pytest.mark.slow
@given(st.lists(damage, min_size=1, max_size=5), st.sampled_from(tuple(RULES)))
@settings(max_examples=800, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_hundreds_of_broken_chips(tmp_path, steps, rule):
    """The same for many more."""
    check_broken(steps, rule, tmp_path)
