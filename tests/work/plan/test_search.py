"""The plan of a step: its costs are those of the ledger, and it is no worse than what needs no search."""

from collections import Counter
from random import Random

import pytest

import fahw
from fahw.errors import ConfigError
from fahw.hardware.load import load_chip
from fahw.network.load import load_model
from tests.support.plans import others_pj, product_energies, reads_what_it_fetches, searched, step_pj
from tests.support.random_setups import large_setup, tight

SHIPPED = (
    ("edge_dual", "resnet20", "bp", 16), ("edge_dual", "resnet20", "dfa", 16), ("edge_shared", "resnet20", "bp", 8),
    ("dram_bound", "resnet20", "usf", 16), ("tpu_like", "resnet20", "drtp", 32), ("edge_dual", "vgg8", "lrfa", 4),
)  # fmt: skip

ROW_PJ = 2000.0
"""More than what opening a row of DRAM takes."""


def assert_ledger_agrees(one, share=1e-3, of_step=5e-6, row_pj=ROW_PJ):
    """Each task to a share of its energy or of the step's; but for rows of DRAM that are opened for a few bits, of
    which the mapper counts parts, and for tasks that do not read all that comes, which cost less."""
    step, products = step_pj(one), 0.0
    for work, mapped, counted, rows in product_energies(one):
        close = pytest.approx(mapped, rel=share, abs=max(rows * row_pj, step * of_step))
        if reads_what_it_fetches(one, work):
            assert counted == close, work.task
            products += (counted - mapped) * work.times
        else:
            assert counted <= mapped or counted == close, work.task
    return products, others_pj(one) - one.keeping.others_pj(one.shares, one.found.products), step


@pytest.mark.parametrize(("chip", "network", "rule", "batch"), SHIPPED)
def test_the_ledger_has_what_the_search_decided_by(chip, network, rule, batch):
    """Products cost what the mapper says, all else what the shares of tensors on the chip say."""
    one = searched(load_chip(chip), load_model(network), rule, batch)
    products, others, step = assert_ledger_agrees(one)
    assert abs(products) <= 1e-4 * step
    assert abs(others) <= 1e-4 * step


def check_random(seeds):
    for seed in seeds:
        try:
            setup = tight(large_setup(seed), Random(seed).choice([0.1, 0.3, 0.6]))
            one = searched(setup.made_chip, setup.network, setup.rule, setup.batch)
        except ConfigError:
            continue  # no tile fits
        if one is not None:
            products, others, step = assert_ledger_agrees(one, 0.01, 0.001)
            assert abs(products) <= max(0.005 * step, 2 * ROW_PJ), seed
            assert abs(others) <= max(0.005 * step, 2 * ROW_PJ), seed


def test_the_ledger_has_what_the_search_decided_by_on_random_chips():
    """With zeros gated, skipped and packed, micro-batches, meshes, every rule."""
    check_random(range(12))


@pytest.mark.long
def test_the_ledger_has_what_the_search_decided_by_on_hundreds_of_chips():
    check_random(range(12, 300))


@pytest.mark.parametrize("rule", ["last", "frozen_conv"])
@pytest.mark.parametrize("chip", ["edge_dual", "edge_shared"])
def test_layers_that_do_not_learn_keep_no_step_waiting_in_memory(chip, rule):
    """A step whose first layers do not learn does not begin while the one before holds values."""
    best = fahw.simulate(load_chip(chip, {"mapping": "best"}), "resnet20", rule, 16)
    fixed = fahw.simulate(load_chip(chip, {"mapping": "fixed"}), "resnet20", rule, 16)
    assert best.energy_pj < fixed.energy_pj * 0.92
    assert best.interval_cycles < fixed.interval_cycles * 1.02


@pytest.mark.parametrize("delay", [0, 1, 3])
@pytest.mark.parametrize(("rule", "micro_batch"), [("bp", None), ("dfa", None), ("dfa", 5)])
def test_a_memory_that_is_built_to_fit_holds_all_and_is_no_larger(rule, micro_batch, delay):
    """A layer on each core, late updates: nothing lies in DRAM but samples, no step is slower than with memories
    without end, and the largest core's takes more than all banks but one."""
    settings = {"update_delay": delay, "steps_in_flight": delay + 1, "micro_batch": micro_batch}
    chip = load_chip("wolters_crossbar").model_copy(update=settings)
    endless = tuple(
        memory.model_copy(update={"size_kib": 1e9}) if memory.size_kib == "fit" else memory for memory in chip.memories
    )
    cost = fahw.simulate(chip, "mlp_mnist", rule, 16)
    free = fahw.simulate(chip.model_copy(update={"memories": endless}), "mlp_mnist", rule, 16)
    assert cost.spilled_bits == 0
    assert cost.interval_cycles == free.interval_cycles
    buffer = cost.work.chip.memory("buffer")
    held = Counter()
    for item in cost.placements:
        held[item.memory] += item.bits
    most = max(bits for name, bits in held.items() if name.endswith(":buffer"))
    assert (buffer.kib - buffer.bank) * 8192 < most <= buffer.kib * 8192


def test_values_of_a_fraction_of_a_bit_have_room_in_full():
    """Packed without their zeros, activations of `spoon` take fractions of bits: a tile's room is rounded up."""
    assert fahw.simulate("spoon", "resnet20", "bp", 8).energy_pj > 0
