"""Affine words against the definition in numpy and exact fractions, and against PyTorch's own affine quantisation."""

from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fahw.chip.cost import simulate
from fahw.datasets.dataset import load_dataset
from fahw.errors import ConfigError
from fahw.formats.catalogue import number_format
from fahw.formats.precision import Precision, RoundingModes, Scaling
from fahw.formats.quantise import losses, quantise
from fahw.formats.rounding import Noise
from fahw.hardware.load import load_chip
from fahw.learn.step import step
from fahw.network.load import load_model
from fahw.rules.catalogue import RULES
from tests.support.emulation import emulated_model
from tests.support.models import batch_of, mlp
from tests.support.steps import counts
from tests.support.steps import step as work_of
from tests.support.trainings import run

AFFINE = number_format("affine6")
EVERYWHERE = {"weight", "feedback", "activation", "error", "gradient", "master", "optimizer"}
floats = st.floats(-1e6, 1e6, width=32, allow_subnormal=False)


def oracle(x):
    """Unit, zero point and values by the definition: the least power of two of which the range, zero included, has at
    most 63; code = round(x / unit) + zero point, in 0 to 63; value = unit x (code - zero point)."""
    low, high = Fraction(float(min(0, x.min()))), Fraction(float(max(0, x.max())))
    exponent = -126
    while high - low > 63 * Fraction(2) ** exponent:
        exponent += 1
    unit = Fraction(2) ** exponent if high > low else Fraction(1)
    zero = min(63, max(0, round(-low / unit)))
    codes = np.array([min(63, max(0, round(Fraction(float(value)) / unit) + zero)) for value in x.flatten()])
    return float(unit), zero, (float(unit) * (codes - zero)).reshape(x.shape)


@given(st.lists(floats, min_size=1, max_size=12), st.sampled_from([np.float32, np.float64]))
def test_values_units_and_zero_points_are_those_of_the_definition(values, dtype):
    """To the bit, in either type; no value is more than half a unit off, and what is zero stays zero."""
    x = np.array(values, dtype)
    unit, zero, expected = oracle(x)
    mine = AFFINE.unit_of(torch.from_numpy(x))
    found = quantise(torch.from_numpy(x), AFFINE, mine)
    assert (float(mine), int(AFFINE.zero_point(torch.from_numpy(x), mine))) == (unit, zero)
    assert found.numpy().dtype == dtype
    assert np.array_equal(found.numpy(), expected.astype(dtype))
    assert np.all(np.abs(expected - x.astype(np.float64)) <= unit / 2)
    assert np.all(expected[x == 0] == 0)


@given(seed=st.integers(0, 99), shift=st.floats(-3, 3), spread=st.floats(0.01, 100))
def test_it_rounds_as_torchs_affine_quantisation(seed, shift, spread):
    """With the unit as scale and the zero point, codes 0 to 63."""
    x = (torch.randn(40, generator=torch.Generator().manual_seed(seed)) + shift) * spread
    unit = AFFINE.unit_of(x)
    zero = int(AFFINE.zero_point(x, unit))
    assert torch.equal(quantise(x, AFFINE, unit), torch.fake_quantize_per_tensor_affine(x, float(unit), zero, 0, 63))


def test_all_codes_are_for_positive_values_where_there_are_no_others():
    """0 to 63 units, twice as fine as 6 bits of two's complement; of both signs as many as each needs."""
    x = torch.arange(64) / 16
    assert torch.equal(quantise(x, AFFINE, AFFINE.unit_of(x)), x)
    assert int(AFFINE.zero_point(x, AFFINE.unit_of(x))) == 0
    y = torch.arange(-20, 44) / 16
    assert torch.equal(quantise(y, AFFINE, AFFINE.unit_of(y)), y)
    assert int(AFFINE.zero_point(y, AFFINE.unit_of(y))) == 20


@given(st.lists(floats, min_size=1, max_size=8), st.data())
def test_stochastic_rounding_is_the_floor_of_the_sum_with_the_random_bits(values, data):
    """In exact fractions; the grid is that of the nearest rounding."""
    draws = data.draw(st.lists(st.integers(0, 255), min_size=len(values), max_size=len(values)))
    x = np.array(values, np.float64)
    unit, zero, _ = oracle(x)
    found = quantise(
        torch.from_numpy(x), AFFINE, AFFINE.unit_of(torch.from_numpy(x)), "stochastic", Noise(torch.tensor(draws), 8)
    )
    words = [(Fraction(float(v)) / Fraction(unit) * 256 // 1 + r) // 256 for v, r in zip(x, draws, strict=True)]
    codes = np.clip(np.array([int(word) for word in words]) + zero, 0, 63)
    assert found.tolist() == (unit * (codes - zero)).tolist()


def test_odd_values():
    """No values, zeros alone, infinities and what is not a number."""
    empty, zeros = torch.zeros(0, 3), torch.zeros(2, 2)
    assert quantise(empty, AFFINE, AFFINE.unit_of(empty)).shape == (0, 3)
    assert float(AFFINE.unit_of(zeros)) == 1
    assert torch.equal(quantise(zeros, AFFINE, AFFINE.unit_of(zeros)), zeros)
    odd = torch.tensor([float("nan"), float("inf"), 1.0])
    found = quantise(odd, AFFINE, AFFINE.unit_of(odd))
    assert found[0].isnan()
    assert found[1:].isfinite().all()


def test_nothing_saturates_under_its_own_unit():
    """Losses: a range that follows the values has no ends; small ones still become zero."""
    x = torch.tensor([-1.0, 0.001, 2.0])
    counted = losses(x, quantise(x, AFFINE, AFFINE.unit_of(x)), AFFINE, AFFINE.unit_of(x))
    assert (counted.values, counted.saturated, counted.underflowed) == (3, 0, 1)
    assert int(AFFINE.beyond(torch.tensor([0.0, 40.0, 80.0]), 1.0).sum()) == 1


@pytest.mark.parametrize("rule", ["bp", "fa", "usf", "brsf", "dfa"])
def test_what_products_read_has_at_most_64_values_and_the_steps_are_repeatable(rule):
    """Every tensor in it, whose values all are codes of one unit and zero point."""
    network, precision = mlp(6, 5, 4), Precision(**dict.fromkeys(EVERYWHERE, "affine6"))
    losses_seen = []
    for _ in range(2):
        model, _ = emulated_model(network, RULES[rule], precision, RoundingModes())
        pixels, labels = batch_of(network, 4)
        losses_seen.append([step(model, model.arithmetic.encode(pixels, 255), labels, 0.05, draw) for draw in range(3)])
        for layer in network.weighted:
            p = model.parameters[layer.name]
            for x in (p.weight, p.master, *p.states):
                assert np.array_equal(oracle(x.numpy())[2], x.numpy()), layer.name
    assert losses_seen[0] == losses_seen[1]


def test_digits_are_learnt_with_affine_activations():
    """An 8-bit chip whose activations have 6 bits with a zero point trains in emulation."""
    network, data = load_model("mlp_digits"), load_dataset("digits", None, None)
    precision = Precision(activation="affine6")
    assert not precision.is_integer
    result = run("bp", network, network.recipe, precision, data, epochs=3)
    assert result.epochs[-1].test_accuracy_pct >= 88


def test_a_chip_is_priced_as_with_six_bits_of_fixed_point_and_the_search():
    """The same multiply-accumulates at the same prices; the values wait while two comparisons each find the range."""
    chips = {
        form: load_chip("edge_dual", {"precision.activation": form, **more})
        for form, more in (("6", {"precision.scale.activation": "per_tensor"}), ("affine6", {}))
    }
    dynamic, affine = (work_of(chip, "mlp_digits", "bp", batch=32) for chip in chips.values())
    searched = [counts(w, phase="forward", action="compare", tensor="activation") for w in (dynamic, affine)]
    network = load_model("mlp_digits")
    assert searched[1] - searched[0] == 32 * sum(layer.outputs for layer in network.weighted)
    rows = [
        [(r.component, r.action, r.layer, r.phase, r.count, r.unit_pj) for r in simulate(chip, network, "bp", 32).ledger
         if r.action in ("mac", "read", "write", "idle", "clock")]
        for chip in chips.values()
    ]  # fmt: skip
    assert rows[0] == rows[1]


def test_it_takes_no_scale_and_sums_are_not_in_it():
    """A scale beside it and an accumulator in it are refused."""
    with pytest.raises(ValueError, match="affine6 finds its unit and zero point in the values and takes no scale"):
        Precision(activation="affine6", scale=Scaling(activation="per_tensor"))
    with pytest.raises(ConfigError, match="accumulator"):
        load_chip("edge_dual", {"precision.accumulator": "affine6"})
