"""Scales, rounding, rate constants and tables of the fixed-point formats."""

from fractions import Fraction
from math import ceil, floor, log2

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fahw.errors import ConfigError
from fahw.formats.fixed_point import (
    carrier,
    ceil_log2,
    fraction_bits,
    nearest_log2,
    rate_constant,
    requantise_,
    useful_shift,
    wrap_,
)
from fahw.formats.lookup_tables import exp_table, function_table, pixel_table
from fahw.formats.precision import Precision
from fahw.layers.activation import Sigmoid, Tanh
from fahw.learn.arithmetic.softmax import relu_error
from fahw.learn.state.overflow import overflow_problems
from fahw.learn.state.scales import network_scales
from fahw.network.recipe import Ranges, Tuning
from fahw.rules.catalogue import COMPARED, RULES
from tests.reference.tables import sigmoid_table, tanh_table
from tests.support.models import mlp, roundings, widths

accs = st.lists(st.integers(-(2**23) + 1, 2**23 - 1), min_size=1, max_size=20)


def exact(acc, shift, bits, mode, byte):
    """The specification in rational numbers."""
    if bits == 1:
        return 1 if acc >= 0 else -1
    value = Fraction(acc) / Fraction(2) ** shift
    if mode == "nearest":
        q = round(value)
    elif mode == "floor" or shift <= 0:
        q = floor(value)
    else:
        fraction_bits = min(8, shift)
        q = floor(value + Fraction(byte >> (8 - fraction_bits), 2**fraction_bits))
    return max(-(2 ** (bits - 1)), min(2 ** (bits - 1) - 1, q))


@given(acc=accs, shift=st.integers(-20, 60), bits=widths, mode=roundings, seed=st.integers(0, 99))
def test_requantisation_is_exact_for_every_shift_width_and_mode(acc, shift, bits, mode, seed):
    bytes_ = np.random.default_rng(seed).integers(0, 256, len(acc), dtype=np.uint8)
    bytes_[0] = 255
    used = useful_shift(2**23, shift)
    values = torch.tensor(acc, dtype=carrier(2**23, used, mode))

    q = requantise_(values, used, bits, mode, torch.from_numpy(bytes_))

    assert q.tolist() == [exact(a, shift, bits, mode, int(b)) for a, b in zip(acc, bytes_, strict=True)]


@given(scale=st.integers(-6, 6), values=st.lists(st.floats(-300, 300, width=32), min_size=1, max_size=30))
def test_nearest_rounding_of_numbers_agrees_with_pytorchs_fake_quantisation(scale, values):
    x = torch.tensor(values)
    theirs = torch.fake_quantize_per_tensor_affine(x, 2.0**-scale, 0, -128, 127)

    ours = requantise_(x.clone(), 0, 16, "nearest")  # no shift: numbers are scaled first, as initial weights are
    ours = requantise_((x * 2.0**scale).round_(), 0, 8, "nearest") * 2.0**-scale

    assert torch.equal(ours, theirs)


@given(mean=st.integers(-1000, 1000), shift=st.integers(1, 12))
def test_stochastic_rounding_is_right_on_average_to_the_last_random_bit(mean, shift):
    r = torch.arange(256, dtype=torch.uint8)

    q = requantise_(torch.full((256,), float(mean)), shift, 16, "stochastic", r)

    assert float(q.mean()) == pytest.approx(mean / 2**shift, abs=2**-8)
    assert q.max() - q.min() <= 1


@given(st.lists(st.integers(-(2**45), 2**45), min_size=1), st.integers(8, 48))
def test_accumulators_wrap_as_twos_complement(values, bits):
    wrapped = wrap_(torch.tensor(values, dtype=torch.float64), bits)

    assert wrapped.tolist() == [(v + 2 ** (bits - 1)) % 2**bits - 2 ** (bits - 1) for v in values]


@given(st.floats(1e-9, 1e9))
def test_powers_of_two_are_found_without_logarithms(x):
    assert ceil_log2(x) == ceil(log2(x))
    assert abs(nearest_log2(x) - log2(x)) <= 0.5 + 1e-9


def test_a_tie_between_powers_of_two_goes_up_on_every_machine():
    assert nearest_log2((1 / 32) ** 0.5) == -2


@pytest.mark.parametrize(
    ("bits", "largest", "expected"), [(8, 1.0, 7), (8, 8.0, 4), (8, 0.5, 8), (8, 5.0, 4), (1, 8.0, -1)]
)
def test_fraction_bits_leave_room_for_the_range(bits, largest, expected):
    assert fraction_bits(bits, largest) == expected


@given(st.floats(1e-9, 1e9))
def test_rate_constants_are_within_half_a_step_of_eight_bits(value):
    rate = rate_constant(value)

    assert 128 <= rate.mantissa <= 255
    assert abs(rate.mantissa * 2.0**-rate.shift / value - 1) <= 2**-8


@pytest.mark.parametrize(("bits", "frac_bits"), [(1, 0), (4, 1), (8, 4), (8, -2), (12, 8), (16, 12)])
def test_tables_agree_with_floating_point(bits, frac_bits):
    d = np.arange(2**bits)
    q = d - 2 ** (bits - 1)

    assert np.abs(exp_table(bits, frac_bits) - np.exp(-d * 2.0**-frac_bits) * 2**15).max() <= 0.5 + 1e-6
    if bits > 1:
        one = 2 ** (bits - 1)
        clipped = np.minimum(np.tanh(q * 2.0**-frac_bits) * one, one - 1)
        assert np.abs(function_table(Tanh.value, bits, frac_bits, bits - 1) - clipped).max() <= 0.5 + 1e-6


@pytest.mark.parametrize("frac_bits", [-2, 0, 3, 7, 12])
@pytest.mark.parametrize("bits", [1, 2, 5, 8, 11])
def test_tables_of_functions_are_those_of_their_own_formulas(bits, frac_bits):
    """tanh by its odd symmetry from exp(-2x), the sigmoid by halves; one bit has the limits, 0 or -1 and 1."""
    for kind, table in ((Tanh, tanh_table), (Sigmoid, sigmoid_table)):
        assert np.array_equal(function_table(kind.value, bits, frac_bits, max(0, bits - 1)), table(bits, frac_bits))


@pytest.mark.parametrize("maximum", [16, 255])
@pytest.mark.parametrize("bits", range(2, 17))
def test_pixels_round_to_the_nearest_word_and_saturate(bits, maximum):
    one = 2 ** (bits - 1)

    assert pixel_table(bits, maximum).tolist() == [min(one - 1, round(Fraction(p * one, maximum))) for p in range(256)]


@pytest.mark.parametrize("rule", sorted(COMPARED))
def test_one_bit_feedback_is_a_power_of_two_near_the_wanted_deviation(rule):
    network = mlp(64, 32, 32, 10)
    scales = network_scales(network, Precision(feedback=1), Tuning(), RULES[rule], 8)
    layer = network.weighted[1]

    std = (2 / 42) ** 0.5 if RULES[rule].path == "direct" else layer.xavier_std

    assert abs(log2(2.0 ** -scales[layer.name].feedback.frac / std)) <= 0.5


def test_an_accumulator_that_is_too_narrow_is_reported_by_layer_and_phase():
    network = mlp(64, 32, 10)
    precision = Precision(accumulator=20)
    scales = network_scales(network, precision, Tuning(), RULES["bp"], 128)

    problems = overflow_problems(network, scales, RULES["bp"], 128, 20)

    assert any(text.startswith("linear0: forward") for text in problems)
    assert any(text.startswith("linear2: gradient") for text in problems)
    assert not any(text.startswith("linear0: error") for text in problems), "the first layer sends no error"
    assert overflow_problems(network, scales, RULES["bp"], 128, 32) == ()


def test_sums_beyond_double_precision_are_refused_and_not_rounded():
    with pytest.raises(ConfigError, match="53"):
        carrier(2**53)


def test_a_larger_range_costs_fraction_bits():
    network = mlp(8, 4, 2)
    narrow, wide = (
        network_scales(network, Precision(), Tuning(ranges=Ranges(activation=a)), RULES["bp"], 4) for a in (8, 32)
    )

    assert narrow["linear0"].output.frac - wide["linear0"].output.frac == 2


def test_logits_hold_four_times_the_range_of_hidden_outputs():
    scales = network_scales(mlp(8, 4, 2), Precision(), Tuning(ranges=Ranges(activation=8)), RULES["bp"], 4)

    assert (scales["linear0"].output.frac, scales["linear2"].output.frac) == (4, 2)


@pytest.mark.parametrize("bits", range(3, 9))
def test_a_saturated_relu_passes_errors_where_pytorchs_fake_quantisation_does(bits):
    """PyTorch's straight-through estimator stops the gradient of what is clipped. Words are all that is kept here, so
    that the top one counts as clipped."""
    top = 2 ** (bits - 1) - 1
    x = torch.arange(-2.0 * top, 2.0 * top + 1, requires_grad=True)
    error = torch.arange(1, len(x) + 1)
    torch.relu(torch.fake_quantize_per_tensor_affine(x, 1.0, 0, -top - 1, top - 1)).backward(error.float())
    words = x.detach().clamp(0, top)
    assert torch.equal(relu_error(words, error.clone(), bits), x.grad.long())


@pytest.mark.parametrize("bits", [1, 2])
def test_a_relu_with_one_positive_word_passes_errors_there(bits):
    assert relu_error(torch.tensor([0, 1]), torch.tensor([5, 7]), bits).tolist() == [0, 7]
