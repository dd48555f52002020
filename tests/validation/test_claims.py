"""Chips from publications: each does its own work, none is fitted, and their figures are those of the page."""

import csv

import pytest

from fahw.chip.cost import simulate
from fahw.hardware.load import load_chip
from tests.support.strategies import ROOT, SHIPPED_CHIPS
from tests.validation import claims, claims_dfa, claims_events, claims_memory
from tests.validation.page import MissingReferenceError, reference

PRESETS = {
    "df_lnpu": ("mdnet_fc", "dfa", 8),
    "df_lnpu_2019": ("mdnet_fc", "dfa", 8),
    "efficientgrad": ("lenet5", "egrad", 16),
    "eyeriss": ("alexnet", "bp", 4),
    "koo_transposable": ("crossbar_mlp", "bp", 1),
    "loihi_like": ("mlp_mnist", "dfa", 1),
    "park_spiking": ("mlp_200", "dfa", 1),
    "spoon": ("spoon_cnn", "drtp", 1),
    "wolters_crossbar": ("vgg8", "dfa", 200),
}
"""With the network and the rule that each chip is known for, and a batch."""


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_runs_its_own_network_and_rule(name):
    """It is shipped, hosts its rule, and every part of the step costs something."""
    assert name in SHIPPED_CHIPS
    model, rule, batch = PRESETS[name]
    cost = simulate(name, model, rule, batch)
    assert {"forward", "error", "gradient", "update"} <= {row.phase for row in cost.ledger if row.energy_pj > 0}
    assert 0 < cost.interval_cycles <= cost.cycles
    assert cost.area_mm2 > 0


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_says_how_good_its_fit_is(name):
    """Above everything else, in its file."""
    comment = (ROOT / "hwconfigs" / f"{name}.yaml").read_text(encoding="utf-8").partition("\nname:")[0]
    assert "How good the fit is" in " ".join(comment.replace("#", " ").split())


@pytest.mark.parametrize("name", SHIPPED_CHIPS)
def test_no_chip_overrides_an_energy_without_a_source(name):
    """One technology table serves all: an energy that a chip file gives itself is published, or a shipped estimate."""
    chip = load_chip(name)
    given = [memory for memory in chip.memories if memory.energy is not None or memory.generates]
    given += [link for link in chip.links if link.pj_per_bit_mm is not None]
    given += list(chip.energies)
    given += [part for part in (chip.dram, chip.feedback_generator, chip.rounding_generator, chip.mesh) if part]
    assert [part for part in given if not part.source] == []
    assert chip.energy_table is None


def test_external_accesses_under_four_conventions():
    """What generated feedback weights save of DF-LNPU's external accesses depends on what is counted."""
    saved = [100 * (1 - inside / outside) for outside, inside in claims_dfa.conventions().values()]
    assert saved == pytest.approx([49.9, 43.6, 33.3, 24.9], abs=2)
    assert saved == sorted(saved, reverse=True)


@pytest.mark.slow
def test_every_published_figure_is_run_or_says_what_is_missing():
    """No row of the table of claims is passed over, and none is both."""
    try:
        rows = {row["id"] for row in csv.DictReader(reference("chip_claims.csv").splitlines())}
    except MissingReferenceError as missing:
        pytest.skip(str(missing))
    run = {name for claim in claims.claims() for name in claim.ids}
    assert run | set(claims.NOT_RUN) == rows
    assert not run & set(claims.NOT_RUN)


def test_a_row_only_memory_gives_a_word_for_every_weight_of_a_column():
    """The form `column`: as many accesses as weights, where the transposable memory needs a 256th."""
    forms = {form: simulate("koo_transposable", "crossbar_mlp", "bp", 1, form) for form in ("transposable", "column")}
    reads = {
        form: {r.layer: r.count for r in cost.ledger if (r.component, r.phase) == ("crossbar", "error")}
        for form, cost in forms.items()
    }
    assert reads["column"]["fc2"] == 256 * 256
    assert reads["transposable"]["fc2"] == 256
    assert claims_memory.error_path(forms["column"]) > 100 * claims_memory.error_path(forms["transposable"])


def test_direct_feedback_makes_the_way_back_as_long_as_one_layer():
    """With a layer per core DFA's backward part does not grow with depth, BP's does in proportion; forward is equal."""
    ends = {
        (n, rule): (claims_memory.loss_end(cost), claims_memory.error_path(cost))
        for n in (2, 8) for rule in ("bp", "dfa") for cost in [claims_memory.step(n, rule)]
    }  # fmt: skip
    assert ends[8, "dfa"][1] == pytest.approx(ends[2, "dfa"][1], rel=0.01)
    assert ends[8, "bp"][1] / ends[2, "bp"][1] > 4
    assert ends[8, "bp"][0] == pytest.approx(ends[8, "dfa"][0], rel=0.01)


def test_weights_that_meet_no_spike_are_not_read():
    """At batch 1 a layer's weights are read for the values that are not zero: 19 % of them here."""
    cost = simulate("park_spiking", "mlp_200", "dfa", 1)
    address = ("forward", "read", "weight")
    words = {row.layer: row.count for row in cost.ledger if (row.phase, row.action, row.tensor) == address}
    assert words["fc1"] == pytest.approx(0.19 * 784 * 200 * 8 / 256, rel=0.01)


def test_learning_costs_in_proportion_to_errors():
    """Fewer errors, less energy of learning; the forward pass does not know."""
    few, many = (
        simulate(load_chip("park_spiking", {"activity.zero_error": z}), "mlp_200", "dfa", 1) for z in ("0.98", "0.8")
    )
    assert claims_events.overhead(few) < claims_events.overhead(many)
    assert few.inference_pj_per_sample == many.inference_pj_per_sample
