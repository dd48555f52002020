"""Steps on chips with a memory behind the local ones: plan against ledger, what more room does, and pins."""

from itertools import pairwise
from random import Random

import pytest

import fahw
from fahw.errors import ConfigError
from fahw.hardware.load import load_chip
from fahw.network.load import load_model
from fahw.report.mappings import pinned_text
from tests.support.plans import dynamic_pj, others_pj, product_energies, searched, step_pj, with_outer_home
from tests.support.random_setups import large_setup, tight

CASES = (
    ("edge_dual", "lenet5", "bp", 64, 64, 16), ("edge_dual", "lenet5", "dfa", 64, 32, 8),
    ("edge_shared", "lenet5", "usf", 16, 64, 8), ("tpu_like", "lenet5", "bp", 32, 128, 64),
)  # fmt: skip


def edge_dual(kib, local_kib, **changes):
    return with_outer_home(load_chip("edge_dual", changes), kib, local_kib)


def in_two_levels(one):
    """Tasks that have a product with outer tiles."""
    samples = one.step.micro_batch_sizes[0]
    for work, *_ in product_energies(one):
        products = work.products(one.step.during(work.task), work.part, samples)
        if any(getattr(gemm.mapping, "mapped", None) and gemm.mapping.mapped.outer for gemm in products):
            yield work.task


def assert_ledger_agrees(one, share=3e-4):
    """A share of the step at most is otherwise: rows of DRAM, and words that are not full."""
    step = step_pj(one)
    mapped = sum(mapped * work.times for work, mapped, _, _ in product_energies(one))
    counted = sum(counted * work.times for work, _, counted, _ in product_energies(one))
    assert counted == pytest.approx(mapped, abs=share * step)
    assert others_pj(one) == pytest.approx(one.keeping.others_pj(one.shares, one.found.products), abs=share * step)
    assert not list(one.keeping.overfull(one.found.products, one.shares))
    assert any(there.outer_reads and max(there.outer_reads) for there in one.keeping.kept(one.shares))


@pytest.mark.parametrize(("chip", "network", "rule", "batch", "kib", "local_kib"), CASES)
def test_the_ledger_has_what_the_search_decided_by(chip, network, rule, batch, kib, local_kib):
    """Both memories, what comes to the outer one and what from there, sums that wait in either; each task with
    products to a thousandth."""
    one = searched(with_outer_home(load_chip(chip), kib, local_kib), load_model(network), rule, batch)
    assert_ledger_agrees(one)
    least = step_pj(one) * 1e-5
    for work, mapped, counted, rows in product_energies(one):
        assert counted == pytest.approx(mapped, rel=1e-3, abs=max(rows * 2000.0, least)), work.task


def test_the_ledger_has_what_the_search_decided_by_on_a_mesh():
    """Every core has its own buffer behind its local memories; layers in small parts fill few words."""
    one = searched(with_outer_home(load_chip("neurocore_mesh"), 16, 2), load_model("lenet5"), "dfa", 8)
    assert_ledger_agrees(one, 0.01)


def test_products_have_tiles_in_tiles_where_that_is_cheaper():
    """Some do where hardly anything can stay; and the ledger counts what passes both memories."""
    one = searched(edge_dual(64, 8), load_model("lenet5"), "bp", 64)
    assert len(list(in_two_levels(one))) > 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("chip", "network", "rule", "batch", "kib", "local_kib"),
    [("edge_dual", "resnet20", "bp", 8, 256, 32), ("edge_dual", "resnet20", "dfa", 8, 64, 16),
     ("edge_dual", "vgg8", "bp", 4, 512, 64), ("tpu_like", "resnet20", "bp", 8, 512, 64)],
)  # fmt: skip
def test_the_ledger_has_what_the_search_decided_by_on_larger_networks(chip, network, rule, batch, kib, local_kib):
    one = searched(with_outer_home(load_chip(chip), kib, local_kib), load_model(network), rule, batch)
    assert len(list(in_two_levels(one))) > 3
    assert_ledger_agrees(one)


@pytest.mark.parametrize("rule", ["bp", "dfa"])
@pytest.mark.parametrize("local_kib", [8, 64])
def test_more_room_behind_is_never_dearer_nor_is_any(rule, local_kib):
    """At the same prices: no buffer, then larger and larger ones, up to one in which all stays."""
    costs = [dynamic_pj(fahw.simulate(edge_dual(kib, local_kib), "lenet5", rule, 32)) for kib in (0, 8, 32, 128, 1024)]
    for less, more in pairwise(costs):
        assert more <= less * 1.005
    assert costs[-1] < costs[0] * 0.8


def test_a_buffer_behind_edge_dual_saves_dram_and_lets_nothing_go_unpaid():
    """lenet5 with local memories of 32 KiB: DRAM moves less, and the buffer is written as well as read."""
    alone, both = (fahw.simulate(edge_dual(kib, 32), "lenet5", "bp", 64) for kib in (0, 256))
    dram = [
        sum(row.count for row in cost.ledger if (row.component, row.action) == ("dram", "read"))
        for cost in (alone, both)
    ]
    assert dram[1] < dram[0]
    actions = {row.action for row in both.ledger if row.component == "behind"}
    assert {"read", "write"} <= actions
    assert both.interval_cycles <= alone.interval_cycles * 1.01


def test_a_saved_plan_of_two_levels_gives_the_same_ledger(tmp_path):
    """Outer tiles and shares in either home among what is pinned."""
    for rule in ("bp", "dfa"):
        found = fahw.simulate(edge_dual(64, 8), "lenet5", rule, 64)
        (tmp_path / "pins.yaml").write_text(pinned_text(found))
        assert "outer_shares" in pinned_text(found)
        pinned = load_chip("edge_dual", {"mapping": "best", "pinned_mappings": str(tmp_path / "pins.yaml")})
        again = fahw.simulate(with_outer_home(pinned, 64, 8), "lenet5", rule, 64)
        assert again.ledger == found.ledger
        assert again.work.plan.tensors == found.work.plan.tensors
        assert again.interval_cycles == found.interval_cycles


def check_random(seeds):
    """Random chips and networks with little room, and a buffer behind; zeros gated, skipped and packed, micro-batches,
    meshes, every rule."""
    for seed in seeds:
        random = Random(seed)
        try:
            setup = tight(large_setup(seed), random.choice([0.1, 0.3, 0.6]))
            chip = with_outer_home(setup.made_chip, random.choice([4, 16, 64]), None)
            one = searched(chip, setup.network, setup.rule, setup.batch)
        except ConfigError:
            continue  # no tile fits
        if one is not None:
            step = step_pj(one)
            pairs = [(mapped * work.times, counted * work.times) for work, mapped, counted, _ in product_energies(one)]
            mapped, counted = map(sum, zip(*pairs, strict=True)) if pairs else (0.0, 0.0)
            assert abs(counted - mapped) <= 0.005 * step, seed
            assert abs(others_pj(one) - one.keeping.others_pj(one.shares, one.found.products)) <= 0.005 * step, seed


def test_the_ledger_has_what_the_search_decided_by_on_random_chips():
    check_random(range(8))


@pytest.mark.long
def test_the_ledger_has_what_the_search_decided_by_on_hundreds_of_chips():
    check_random(range(8, 200))


def pinned_chip(folder, text):
    """edge_dual with small memories and a buffer behind them, with what the text pins."""
    (folder / "pins.yaml").write_text(text)
    return with_outer_home(
        load_chip("edge_dual", {"mapping": "best", "pinned_mappings": str(folder / "pins.yaml")}), 64, 8
    )


FORWARD = "layer: linear1, phase: forward, dataflow: os, tile: [64, 84, 48], order: mnk"


@pytest.mark.parametrize(
    ("entry", "message", "key"),
    [
        ("outer: {tile: [64, 84, 100], order: mnk}", "tiles of 48 must fill every outer tile of 100 evenly", ""),
        ("outer: {tile: [64, 84, 400], order: mnk}", "must be from 1 to ", ""),
        (
            "outer: {tile: [64, 84, 120], order: mnk, hold: [results]}",
            "results needs no hold where k is",
            "outer.hold.0",
        ),
    ],
)
def test_outer_tiles_that_cannot_be_are_refused_at_their_place(entry, message, key, tmp_path):
    """With file, line and column, and what is wrong."""
    chip = pinned_chip(tmp_path, f"layer_mappings:\n- {{{FORWARD}, {entry}}}\n")
    with pytest.raises(ConfigError, match=message) as caught:
        fahw.simulate(chip, "lenet5", "bp", 64)
    (problem,) = caught.value.problems
    assert problem.place.startswith(f"{tmp_path / 'pins.yaml'}:2:")
    assert problem.key.endswith(key)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("name: weight linear1, shares: [0.7, 0.7], outer_shares: [0.7, 0.7]", "with `shares` it is more than all"),
        ("name: weight linear1, shares: [0, 0], outer_shares: [1]", "needs a share for each of its 2 reads"),
        ("name: weight linear1, shares: [0, 0], outer_shares: [0.5, 0.4]", "the same share at every read"),
    ],
)
def test_shares_in_outer_homes_that_cannot_be_are_refused(entry, message, tmp_path):
    chip = pinned_chip(tmp_path, f"kept_tensors:\n- {{{entry}}}\n")
    with pytest.raises(ConfigError, match=message):
        fahw.simulate(chip, "lenet5", "bp", 64)


def test_outer_tiles_on_a_chip_without_a_second_home_are_refused(tmp_path):
    (tmp_path / "pins.yaml").write_text(
        f"layer_mappings:\n- {{{FORWARD}, outer: {{tile: [64, 84, 120], order: mnk}}}}\n"
        "kept_tensors:\n- {name: weight linear1, shares: [0, 0], outer_shares: [1, 1]}\n"
    )
    chip = load_chip("edge_dual", {"mapping": "best", "pinned_mappings": str(tmp_path / "pins.yaml")})
    with pytest.raises(ConfigError) as caught:
        fahw.simulate(chip, "lenet5", "bp", 64)
    text = str(caught.value)
    assert "nothing comes through a memory behind the local ones" in text
    assert "weight has one home alone" in text
