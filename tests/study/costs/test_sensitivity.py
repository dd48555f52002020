"""Savings over the range of one constant: what simulating again gives, and a point worked out by hand."""

import pytest

import fahw
from fahw.chip import unit_prices
from fahw.hardware.memories import sram as sram_memory
from fahw.study.costs.sensitivity import Step, sensitivities_of, step_of
from fahw.technology import operations, sram, sram_tables
from tests.support.strategies import ROOT

SETUPS = (
    ("edge_dual", "mlp_digits", "bp", "copy"), ("edge_dual", "mlp_digits", "bp", "shared"),
    ("edge_dual", "mlp_digits", "usf", None), ("edge_dual", "lenet5", "brsf", None),
    ("dram_bound", "lenet5", "fa", None), ("eyeriss", "lenet5", "bp", "transposable"),
    ("spoon", "mlp_digits", "bfa", None),
)  # fmt: skip
LOGIC = (
    "integer multiplier", "integer adder", "register", "one-bit product", "comparator", "shifter", "look-up table",
)  # fmt: skip
TABLE = {"SRAM read": 0, "SRAM write": 1}
DOCS = ROOT / "docs"


def forget_prices():
    """Every price is computed anew."""
    caches = unit_prices.prices_of, unit_prices._element_cycle, sram_memory._bank, sram.sram, sram.sram_estimate
    for cached in caches:
        cached.cache_clear()


@pytest.fixture
def fresh_prices():
    """No price from before, none left behind."""
    forget_prices()
    yield
    forget_prices()


def cost_of(setup, settings=None):
    """The cost of a step of a setup, with settings of its chip changed."""
    chip, network, rule, form = setup
    return fahw.simulate(fahw.load_chip(chip, settings or {}), network, rule, 4, form)


@pytest.mark.parametrize("setup", SETUPS)
def test_every_energy_has_a_constant_with_a_name(setup):
    """The energy is all there, and none of it is of a constant without a name or a range that excludes its value."""
    step = step_of(cost_of(setup))
    groups = {"all of DRAM", "all logic", "SRAM reads and writes"}
    assert {"all logic", "register", "SRAM leakage", "DRAM read"} <= set(step.parts_pj)
    assert not {"sram", "logic", "clock", "gating", "leakage", "dram"} & set(step.parts_pj)
    assert all(low <= 1 <= high for low, high in step.ranges.values())
    assert all(0 <= step.parts_pj[name] <= step.energy_pj for name in groups & set(step.parts_pj))


@pytest.mark.parametrize("name", LOGIC)
@pytest.mark.parametrize("setup", [SETUPS[0], SETUPS[2], SETUPS[3], SETUPS[6]])
@pytest.mark.usefixtures("fresh_prices")
def test_an_operation_twice_as_dear(monkeypatch, setup, name):
    """Prices with one operation doubled give what the line says, clocks, idle and ungated elements included."""
    expected, original = step_of(cost_of(setup)).at(name, 2.0), operations.logic_constant

    def doubled(pj_at_45, node_nm, source, operation="other", factor=1.0, name_=""):
        return original(pj_at_45 * (2 if name_ == name else 1), node_nm, source, operation, factor, name_)

    def with_name(*arguments, name="", **more):
        return doubled(*arguments, name_=name, **more)

    monkeypatch.setattr(operations, "logic_constant", with_name)
    forget_prices()
    assert cost_of(setup).energy_pj == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("name", TABLE)
@pytest.mark.parametrize("setup", SETUPS[:5])
@pytest.mark.usefixtures("fresh_prices")
def test_an_access_of_an_sram_three_times_as_dear(monkeypatch, setup, name):
    """The same with the table's reads or writes tripled: the overheads of transposed access stay what they are."""
    expected, original = step_of(cost_of(setup)).at(name, 3.0), sram_tables.bank_values

    def tripled(*arguments):
        values = original(*arguments)
        values[TABLE[name]] *= 3
        return values

    monkeypatch.setattr(sram_tables, "bank_values", tripled)
    forget_prices()
    assert cost_of(setup).energy_pj == pytest.approx(expected, rel=1e-12)


SETTINGS = {
    "clock share": (2.0, {"technology.clock_share": 0.7}),
    "idle share": (3.0, {"arrays.0.idle_pe_fraction": 0.3, "arrays.1.idle_pe_fraction": 0.3}),
    "ungated share": (10.0, {"arrays.0.ungated_share": 1.0, "arrays.1.ungated_share": 1.0}),
    "wire": (0.5, {"links.0.pj_per_bit_mm": 0.035}),
    "rounding generator": (4.0, {"rounding_generator.pj_per_bit": 0.1}),
    "feedback generator": (8.0, {"feedback_generator.pj_per_bit": 0.088}),
    "DRAM read": (1.6, {"dram.read_pj_per_bit": 13.6}),
    "DRAM static power": (2.0, {"dram.background_mw": 74, "dram.powerdown_mw": 11, "dram.refresh_mw": 16.2}),
    "overhead of transposed read": (0.0, {"transposed_access.read_overhead": 0}),
    "overhead of transposed write": (0.0, {"transposed_access.write_overhead": 0}),
    "overhead of transposed leakage": (0.0, {"transposed_access.leak_overhead": 0}),
}
"""By constant: how many times its value, and the keys of `edge_dual` that make it so."""


@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("setup", SETUPS[:4])
def test_a_key_of_the_chip_file_changed(setup, name):
    """A constant that the chip file gives, changed there, costs what the line says under the same form."""
    scale, settings = SETTINGS[name]
    cost = cost_of(setup)
    again = (*setup[:3], cost.form if setup[3] == "shared" else setup[3])
    if setup[3] == "shared":
        chip = fahw.load_chip(setup[0], settings).without_feedback_memory()
        changed = fahw.simulate(chip, setup[1], setup[2], 4, cost.form)
    else:
        changed = cost_of(again, settings)
    assert changed.energy_pj == pytest.approx(step_of(cost).at(name, scale), rel=1e-12)


def test_the_break_even_of_the_worked_example():
    """By hand, docs/model.md section 9: fa takes its own memory's leakage, 56 pJ, beside what backpropagation on one
    transposable memory takes, and saves half of six reads of 2 pJ. At 6/56 of the leakage they are equal."""
    chip = fahw.load_chip(DOCS / "worked_chip.yaml", {"memories.feedback.energy.uncertainty": 10})
    found = {
        one.constant: one for one in fahw.sensitivity(chip, DOCS / "worked_model.yaml", ["fa"], batch_size=2)
    }["leakage (given)"]  # fmt: skip
    shared_pj = 2025.9974125 - 35.664 + 6 - 56
    assert (found.low, found.high) == (0.1, 10.0)
    assert found.saving == pytest.approx(1 - (2025.9974125 - 35.664) / shared_pj, rel=1e-9)
    assert found.saving_at_low == pytest.approx(0.4 / (shared_pj - 0.9 * 168), rel=1e-6)
    assert found.break_even == pytest.approx((6 / 56,), rel=1e-9)


def test_a_point_where_the_sign_changes_is_where_both_cost_the_same():
    """Simulated with the link's wire at that point, both take the same energy."""
    found = {one.constant: one for one in fahw.sensitivity("edge_dual", "mlp_mnist", ["egrad"], 32)}["wire"]
    (point,) = found.break_even
    chip = fahw.load_chip("edge_dual", {"links.0.pj_per_bit_mm": 0.07 * point})
    baseline = min(
        fahw.simulate(chip, "mlp_mnist", "bp", 32, form).energy_pj for form in ("copy", "write_through", "shared")
    )
    mine = min(fahw.simulate(chip, "mlp_mnist", "egrad", 32, form).energy_pj for form in ("copy", "write_through"))
    assert mine == pytest.approx(baseline, rel=1e-12)


def changes(mine, theirs, low=0.1, high=10.0):
    """Where the saving of steps of these (energy, part that goes with the constant) changes its sign."""
    sides = ([Step(energy, {"it": part}, {"it": (low, high)}) for energy, part in side] for side in (mine, theirs))
    (found,) = sensitivities_of("fa", *sides)
    return found.break_even


def test_the_cheaper_form_of_either_side_counts():
    """By hand: 10 + 2 s against the less of 6 + 4 s and 13 - s / 2 crosses at 2, where the first is less than the
    second, and not at 1.2, where the second is not the cheaper one."""
    assert changes([(12, 2)], [(10, 4)]) == pytest.approx((2,))
    assert changes([(12, 2)], [(10, 4), (12.5, -0.5)]) == ()
    assert changes([(12, 2)], [(10, 4), (17.5, -0.5)]) == pytest.approx((2, 3.2))


def test_touching_is_no_change_of_sign():
    """Savings that only become nothing at the end of the range, or in all of it, keep their sign."""
    assert changes([(10, 4)], [(12, 2)], high=2.0) == ()
    assert changes([(10, 4)], [(10, 4)]) == ()


def test_what_a_chip_cannot_host_is_left_out_or_refused():
    """A rule that the chip cannot host is left out, an unknown one refused."""
    rules = {one.rule for one in fahw.sensitivity("df_lnpu", "mlp_digits", ["usf", "dfa", "bp"], 4)}
    assert rules == {"dfa"}
    with pytest.raises(fahw.ConfigError, match="no rule 'dfaa'"):
        fahw.sensitivity("df_lnpu", "mlp_digits", ["dfaa"])
