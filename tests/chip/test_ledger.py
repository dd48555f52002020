"""The energy ledger: totals are sums of its rows, rows have addresses, and counts and widths decide them."""

from dataclasses import replace
from math import fsum, log2, sqrt

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fahw
from fahw.chip.cost import simulate
from fahw.chip.ledger import dynamic_rows, total_pj
from fahw.chip.unit_prices import Prices
from fahw.errors import ConfigError
from fahw.hardware.load import load_chip
from fahw.network.load import load_model
from fahw.rules.catalogue import RULES
from tests.support.models import graph
from tests.support.steps import step
from tests.support.strategies import CHIP, GENERATOR, HOSTED, RULE_NAMES, chip_of, network_of, swap
from tests.validation.chips import perceptron
from tests.validation.engine import random_chip, random_step

CASES = HOSTED
WIDTHS = ("weight", "feedback", "activation", "error", "gradient", "master", "optimizer", "accumulator")


def address(row):
    return row.component, row.action, row.tensor, row.phase, row.layer


def dynamic(cost, phases=("forward", "error", "gradient", "update", "transport")):
    """Count and unit of every row that counts actions, by address."""
    return {address(row): (row.count, row.unit_pj) for row in cost.ledger if not row.static and row.phase in phases}


@pytest.mark.parametrize(("chip", "rule"), CASES)
def test_energy_is_the_sum_of_the_rows(chip, rule):
    """`energy_pj` is math.fsum of the rows; each row is its count times its unit; no address occurs twice."""
    cost = simulate(chip, "mlp_digits", rule, 32)
    rows = cost.ledger
    assert cost.energy_pj == fsum(row.energy_pj for row in rows)
    assert all(row.energy_pj == row.count * row.unit_pj for row in rows)
    assert len({address(row) for row in rows}) == len(rows)
    assert all(row.count > 0 and row.unit_pj >= 0 and row.price.source for row in rows)
    assert cost.static_pj == fsum(row.energy_pj for row in rows if row.action == "static")
    phases = {row.phase for row in rows if not row.static}
    assert phases <= {"forward", "error", "gradient", "update", "transport"}
    assert ("transport" in phases) == (cost.transported_bits > 0)


@pytest.mark.parametrize("rule", RULE_NAMES)
def test_derived_figures(rule):
    """Seconds, power, throughput and efficiency follow from cycles, clock, energy and multiply-accumulates."""
    cost = simulate("edge_dual", "mlp_digits", rule, 32)
    assert cost.seconds == pytest.approx(cost.interval_cycles / 200e6)
    assert cost.power_mw == pytest.approx(cost.energy_pj * 1e-12 / cost.seconds * 1e3)
    assert cost.samples_per_second == pytest.approx(32 / cost.seconds)
    assert cost.tops_per_watt == pytest.approx(2 * cost.macs / (cost.energy_pj * 1e-12) * 1e-12)
    assert cost.energy_delay_js == pytest.approx(cost.energy_pj * 1e-12 * cost.seconds)
    assert cost.energy_pj_per_sample * 32 == pytest.approx(cost.energy_pj)
    assert 0 < cost.inference_pj_per_sample < cost.energy_pj_per_sample


@pytest.mark.parametrize(("name", "rule"), CASES)
def test_doubling_every_count_doubles_dynamic_energy(name, rule):
    """Energy is linear in the counts."""
    chip, value = load_chip(name), RULES[rule]
    tasks = step(chip, load_model("mlp_digits"), value, 8).tasks
    twice = [replace(t, counts=tuple(replace(c, count=2 * c.count) for c in t.counts)) for t in tasks]
    prices = Prices(chip)
    assert total_pj(dynamic_rows(twice, prices)) == pytest.approx(2 * total_pj(dynamic_rows(tasks, prices)), rel=1e-12)


@pytest.mark.parametrize("model", ["mlp_digits", "mlp_mnist", "lenet5"])
@pytest.mark.parametrize("form", ["copy", "write_through"])
def test_backpropagation_by_copy_is_feedback_alignment_and_transport(model, form):
    """On separate memories, in one order of loops, the ledger of bp is that of fa, row by row, and the rows of
    transport, nothing else."""
    chip = load_chip("edge_dual", {"mapping": "fixed"})
    bp, fa = simulate(chip, model, "bp", 16, form), simulate(chip, model, "fa", 16)
    extra = dynamic(bp, ("transport",))
    assert extra
    assert dynamic(bp) == dynamic(fa) | extra
    actions = {(component, action) for component, action, *_ in extra}
    expected = {("transport_link", "send"), ("transport_link", "transpose"), ("feedback_sram", "write")}
    assert actions == expected | ({("weight_sram", "read")} if form == "copy" else set())


def test_transport_worked_by_hand():
    """mlp_digits moves 128*64 + 64*10 weights: 8 bits each under bp, 1 bit under usf, in words of 64 bits."""
    weights = {"linear2": 8192, "linear3": 640}
    for rule, bits in (("bp", 8), ("usf", 1)):
        cost = simulate("edge_dual", "mlp_digits", rule, 16, "copy")
        counts = {key: count for key, (count, _) in dynamic(cost, ("transport",)).items()}
        for layer, n in weights.items():
            at = ("transport", layer)
            assert counts["weight_sram", "read", "weight", *at] == n * 8 / 64  # words are read whole
            assert counts["transport_link", "send", "feedback", *at] == n * bits
            assert counts["feedback_sram", "write", "feedback", *at] == n * bits / 64
        assert cost.transported_bits == sum(weights.values()) * bits
        sent = next(row for row in cost.ledger if row.component == "transport_link" and row.action == "send")
        assert sent.unit_pj == pytest.approx(2 * 0.07)


@pytest.mark.parametrize("name", WIDTHS)
@pytest.mark.parametrize("rule", ["bp", "brsf", "dfa"])
def test_energy_grows_with_every_width(name, rule, tmp_path):
    """At a fixed geometry no format takes less dynamic energy by having more bits."""
    widths = (8, 16, 32, 48) if name == "accumulator" else (1, 2, 4, 8, 12, 16)
    network, before = network_of(tmp_path), 0.0
    text = swap(CHIP, "transport:", GENERATOR)
    for bits in widths:
        others = {"precision.weight": "1"} if name == "master" else {"precision.master": "16"}
        chip, value = chip_of(tmp_path, text, others | {f"precision.{name}": str(bits)}), RULES[rule]
        work = step(chip, network, value, 8)
        energy = total_pj(dynamic_rows(work.tasks, Prices(chip)))
        assert energy >= before, (bits, energy, before)
        assert bits == widths[0] or energy > 0
        before = energy


def test_wider_batch_costs_more_but_less_per_sample():
    """A larger batch shares weights and update: more energy per step, less per sample."""
    costs = [simulate("edge_dual", "mlp_digits", "bp", batch) for batch in (1, 2, 8, 32)]
    energies = [cost.energy_pj for cost in costs]
    assert energies == sorted(energies)
    per_sample = [cost.energy_pj_per_sample for cost in costs]
    assert per_sample == sorted(per_sample, reverse=True)


def test_static_energy_is_power_times_interval():
    """Leakage and background rows are power over the steady-state interval; an isolated step's sum is apart."""
    cost = simulate("edge_dual", "mlp_digits", "fa", 32)
    rows = [row for row in cost.ledger if row.static]
    assert {row.component for row in rows} == {
        "weight_sram", "feedback_sram", "buffer_sram", "state_sram", "forward_array", "error_array", "dram",
    }  # fmt: skip
    assert all(row.count == cost.interval_cycles for row in rows)
    assert {(row.tensor, row.phase, row.layer) for row in rows} == {("", "", "")}
    leak = next(row for row in rows if row.component == "feedback_sram")
    bank = fahw.sram(64 * 1024, 64, 45, "lop", cells="lstp")
    assert leak.energy_pj == pytest.approx(5 * bank.leak_mw * cost.seconds * 1e9)  # mW x s = 1e9 pJ
    assert cost.isolated_static_pj == pytest.approx(cost.static_pj * cost.cycles / cost.interval_cycles, rel=1e-2)


def test_one_time_cost_is_writing_the_rules_own_weights():
    """fa writes B once before training, bp nothing; it is not part of a step."""
    fa, bp = (simulate("edge_dual", "mlp_digits", rule, 32) for rule in ("fa", "bp"))
    words = (8192 + 640) * 8 / 64
    bank = fahw.sram(64 * 1024, 64, 45, "lop", cells="lstp")
    wires_pj = 0.07 * (64 + log2(320 * 1024 / 8)) * 0.75 * sqrt(5 * bank.area_mm2)
    assert fa.one_time_pj == pytest.approx(words * (bank.write_pj + wires_pj))
    assert bp.one_time_pj == 0


def test_unknown_names_are_user_errors():
    """A rule or a form of transport that does not exist is refused with what there is."""
    with pytest.raises(ConfigError, match=r"no rule 'bpp'.*did you mean 'bp'"):
        simulate("edge_dual", "mlp_digits", "bpp")
    with pytest.raises(ConfigError, match="no transport 'transposable' on this chip; its forms: copy, write_through"):
        simulate("edge_dual", "mlp_digits", "bp", 8, "transposable")
    with pytest.raises(ConfigError, match="from 1 to"):
        simulate("edge_dual", "mlp_digits", "bp", 0)


def test_a_form_of_transport_for_a_rule_that_moves_nothing_is_checked_too():
    """A form that no chip knows is a mistake under every rule, also where nothing is transported."""
    with pytest.raises(ConfigError, match="no transport"):
        simulate("edge_dual", "mlp_digits", "fa", 8, "carrier_pigeon")


def test_processing_elements_are_built_for_the_widest_feedback():
    """Wider feedback weights need a wider multiplier at the error array: more area and leakage."""
    areas = [
        simulate(load_chip("edge_dual", {"precision.feedback": bits}), "mlp_digits", "fa", 8).area_mm2
        for bits in ("8", "16")
    ]
    assert areas[1] > areas[0]


# any chip, network and rule


def costs_of(chip, tasks):
    """Rows of the tasks, dynamic energy, and the price list."""
    prices = Prices(chip)
    rows = dynamic_rows(tasks, prices)
    return rows, total_pj(rows), prices


@given(st.randoms(use_true_random=False), st.integers(0, 5))
@settings(max_examples=60)
def test_energy_is_a_sum_of_counts_times_prices_on_any_chip(random, factor):
    """The sum of the rows is the total, and is that of every count by itself; it is linear in the counts, and no work
    costs nothing."""
    chip, tasks = random_step(random)
    rows, total, prices = costs_of(chip, tasks)
    assert total == fsum(row.energy_pj for row in rows)
    assert total == pytest.approx(
        fsum(c.count * prices.unit_price(c).value for t in tasks for c in t.counts), rel=1e-12
    )
    assert {row.phase for row in rows} <= {task.phase for task in tasks}
    scaled = [replace(t, counts=tuple(replace(c, count=factor * c.count) for c in t.counts)) for t in tasks]
    assert costs_of(chip, scaled)[1] == pytest.approx(factor * total, rel=1e-12)
    none = [replace(t, counts=tuple(replace(c, count=0) for c in t.counts)) for t in tasks]
    assert costs_of(chip, none)[1] == 0
    assert costs_of(chip, [replace(t, counts=()) for t in tasks])[:2] == ([], 0)


@given(st.randoms(use_true_random=False), st.sampled_from(WIDTHS))
@settings(max_examples=60)
def test_energy_grows_with_every_width_on_any_chip(random, name):
    """At the same memories, arrays and network no format takes less dynamic energy by having a bit more."""
    chip = random_chip(random)
    network = perceptron(*(random.randint(1, 20) for _ in range(random.randint(2, 4))))
    rule, batch = RULES[random.choice(["bp", "fa", "dfa", "usf", "frsf"])], random.randint(1, 8)
    narrow = random.randint(1, 15) + (16 if name == "accumulator" else 0)
    energies = []
    for bits in (narrow, narrow + 1):
        widths = chip.precision.model_copy(update={name: bits} | ({"weight": 1} if name == "master" else {}))
        wide = chip.model_copy(update={"precision": widths})
        tasks = step(wide, network, rule, batch).tasks
        energies.append(costs_of(wide, tasks)[1])
    assert energies[0] <= energies[1] * (1 + 1e-12)


@pytest.mark.parametrize("model", ["mlp_digits", "lenet5"])
def test_inference_is_the_same_under_every_rule(model):
    """Labels, masks, noise, what derivatives read: none of it is needed to infer."""
    chip = load_chip("edge_dual", {"mapping": "fixed"})
    costs = {rule: simulate(chip, model, rule, 8) for rule in RULES}
    assert len({cost.inference_pj_per_sample for cost in costs.values()}) == 1
    for rule in ("drtp", "wm"):
        forward = sum(row.energy_pj for row in costs[rule].ledger if row.phase == "forward") / 8
        assert costs[rule].inference_pj_per_sample < forward


def test_inference_drops_nothing():
    """A network with dropout infers as the same one without it."""
    plain, dropping = (
        graph((6,), {"kind": "linear", "out": 5}, {"kind": "relu"}, *layers, {"kind": "linear", "out": 3})
        for layers in ([], [{"kind": "dropout", "p": 0.5}])
    )
    one, other = (simulate("edge_dual", network, "bp", 4) for network in (plain, dropping))
    assert one.energy_pj < other.energy_pj
    assert one.inference_pj_per_sample == other.inference_pj_per_sample
