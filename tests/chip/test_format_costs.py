"""What number formats cost: prices of floats, the search for shared exponents, random bits."""

import pytest

from fahw.chip.cost import simulate
from fahw.formats.number import FLOATS
from fahw.hardware.load import load_chip
from fahw.network.load import load_model
from fahw.technology import operations as ops
from fahw.technology.scaling import VDD_V
from tests.support.steps import counts, step

FLOAT_KEYS = ("weight", "feedback", "activation", "error", "gradient", "master", "optimizer")


def chip_with(**settings):
    """edge_dual with other formats."""
    return load_chip("edge_dual", {f"precision.{key}": value for key, value in settings.items()})


def floats(name):
    return chip_with(**dict.fromkeys(FLOAT_KEYS, name), accumulator="fp32")


def unit_pj(cost, action, phase, component=None):
    """The prices of an action in a phase."""
    rows = [row for row in cost.ledger if row.action == action and row.phase == phase]
    return {round(row.unit_pj, 6) for row in rows if component is None or row.component == component}


def test_bf16_lies_below_fp16_by_what_the_tpu_paper_says():
    """Jouppi et al. 2021, table 2, at 7 nm: bf16 multiplication 0.21 pJ and addition 0.11, fp16 0.34 and 0.16."""
    bf16, fp16 = FLOATS["bf16"], FLOATS["fp16"]

    assert ops.float_multiply_pj(bf16, 45).value / ops.float_multiply_pj(fp16, 45).value == pytest.approx(0.62, rel=0.1)
    assert ops.float_add_pj(bf16, 45).value / ops.float_add_pj(fp16, 45).value == pytest.approx(0.69, rel=0.1)


@pytest.mark.parametrize(("name", "multiply", "add"), [("fp16", 1.1, 0.4), ("fp32", 3.7, 0.9)])
def test_fp16_and_fp32_cost_what_horowitz_says(name, multiply, add):
    found = ops.float_multiply_pj(FLOATS[name], 45), ops.float_add_pj(FLOATS[name], 45)

    assert [constant.value for constant in found] == pytest.approx([multiply, add])
    assert all(constant.factor < ops.LAW_FACTOR for constant in found)


def test_more_digits_never_cost_less():
    by_digits = sorted(FLOATS.values(), key=lambda form: form.digits)
    energies = [ops.mac_pj(form.bits, form.bits, 32, 45, form, FLOATS["fp32"]).value for form in by_digits]

    assert energies == sorted(energies)
    assert ops.mac_pj(8, 8, 32, 45, FLOATS["fp8_e4m3"], FLOATS["fp32"]).factor == ops.LAW_FACTOR


def test_products_are_priced_by_their_operands_and_sums_by_the_accumulator():
    """Errors in fp8 among integers; then everything in bf16."""
    node, single = load_chip("edge_dual").technology.node_nm, FLOATS["fp32"]
    mixed = simulate(chip_with(error="fp8_e5m2", accumulator="fp32"), "mlp_digits", "bp", 32)
    pure = simulate(floats("bf16"), "mlp_digits", "bp", 32)
    scale = load_chip("edge_dual").technology.vdd_v ** 2 / VDD_V**2

    fp8 = round(ops.mac_pj(8, 8, 32, node, FLOATS["fp8_e5m2"], single).value * scale, 6)
    integer = round(ops.mac_pj(8, 8, 32, node, None, single).value * scale, 6)
    bf16 = round(ops.mac_pj(16, 16, 32, node, FLOATS["bf16"], single).value * scale, 6)
    assert unit_pj(mixed, "mac", "forward") == {integer}
    assert unit_pj(mixed, "mac", "error") == unit_pj(mixed, "mac", "gradient") == {fp8}
    assert unit_pj(pure, "mac", "forward") == unit_pj(pure, "mac", "gradient") == {bf16}


def test_narrower_floats_cost_less_and_move_less():
    costs = [simulate(floats(name), "mlp_digits", "bp", 32) for name in ("fp8_e4m3", "bf16", "fp32")]

    assert [cost.energy_pj for cost in costs] == sorted(cost.energy_pj for cost in costs)
    assert [cost.transported_bits for cost in costs] == [costs[0].transported_bits * factor for factor in (1, 2, 4)]


def test_ternary_words_take_two_bits():
    cost, integer = (simulate(chip_with(feedback=bits), "mlp_digits", "fa", 32) for bits in ("ternary", "8"))

    assert 4 * cost.feedback_bits == integer.feedback_bits


@pytest.mark.parametrize("scale", ["per_tensor", "per_channel"])
def test_a_dynamic_scale_costs_a_comparison_and_a_wait_in_memory_for_every_value(scale):
    static = step("edge_dual", "mlp_digits", "bp", batch=32)
    dynamic = step(chip_with(**{"scale.gradient": scale}), "mlp_digits", "bp", batch=32)
    weights = sum(layer.weights for layer in load_model("mlp_digits").weighted)

    new = counts(dynamic, phase="gradient", action="compare", tensor="gradient")
    assert (counts(static, phase="gradient", action="compare", tensor="gradient"), new) == (0, weights)
    for action in ("read", "write"):
        words = [counts(work, phase="gradient", action=action, tensor="gradient") for work in (static, dynamic)]
        assert words[1] - words[0] >= weights * 32 // 64  # at accumulator width, in words of at most 64 bits


def test_every_dynamic_scale_is_found_where_its_tensor_is_written():
    phases = {
        "activation": "forward", "error": "error", "gradient": "gradient", "weight": "update", "master": "update",
        "optimizer": "update", "feedback": "update",
    }  # fmt: skip
    static = simulate("edge_dual", "mlp_digits", "bp", 32)

    for tensor, phase in phases.items():
        cost = simulate(chip_with(**{f"scale.{tensor}": "per_tensor"}), "mlp_digits", "bp", 32)
        by_phase = [
            sum(row.energy_pj for row in found.ledger if row.phase == phase and not row.static)
            for found in (static, cost)
        ]
        assert by_phase[1] > by_phase[0], tensor
        assert cost.cycles >= static.cycles


@pytest.mark.parametrize("bits", [4, 16])
def test_random_bits_are_drawn_as_many_as_a_rounding_takes(bits):
    eight, other = (
        step(load_chip("edge_dual", {"rounding.random_bits": str(n)}), "mlp_digits", "bp", batch=32) for n in (8, bits)
    )

    assert 8 * counts(other, action="generate") == bits * counts(eight, action="generate")
