"""Quantisers against outsiders that implement the same formats: torch, ml_dtypes and APyTypes."""

from fractions import Fraction
from math import floor, inf, nan

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fahw.formats.catalogue import number_format
from fahw.formats.number import FLOATS, TERNARY, Float, fixed_format
from fahw.formats.quantise import losses, quantise
from fahw.formats.rounding import Noise, noise
from fahw.prng import Lfsr

SMALL = ("fp8_e4m3", "fp8_e5m2", "fp16", "bf16")


def ml_type(name):
    """The numpy type of a format that somebody else wrote."""
    ml_dtypes = pytest.importorskip("ml_dtypes")
    theirs = {"fp8_e4m3": "float8_e4m3fn", "fp8_e5m2": "float8_e5m2", "bf16": "bfloat16"}
    return np.dtype(np.float16) if name == "fp16" else np.dtype(getattr(ml_dtypes, theirs[name]))


def every_value(name):
    """All numbers of a format, ascending, without infinities and NaN."""
    dtype = ml_type(name)
    codes = np.arange(2 ** (8 * dtype.itemsize), dtype=f"u{dtype.itemsize}")
    with np.errstate(invalid="ignore"):
        values = codes.view(dtype).astype(np.float64)
    return np.unique(values[np.isfinite(values)])


def beside(values):
    """The values, what lies halfway between neighbours, and the float32 numbers right above and below all of these."""
    points = np.concatenate([values, (values[1:] + values[:-1]) / 2]).astype(np.float32)
    return np.concatenate([points, np.nextafter(points, np.float32(inf)), np.nextafter(points, np.float32(-inf))])


def random_floats(count, seed=0):
    """Random bit patterns of float32 that are numbers."""
    values = np.random.default_rng(seed).integers(0, 2**32, count, dtype=np.uint32).view(np.float32)
    return values[np.isfinite(values)]


def saturated(values, name):
    return np.clip(values, -FLOATS[name].largest, FLOATS[name].largest)


@pytest.mark.parametrize("name", SMALL)
def test_limits_are_those_of_ml_dtypes(name):
    ml_dtypes = pytest.importorskip("ml_dtypes")
    theirs, ours = ml_dtypes.finfo(ml_type(name)), FLOATS[name]

    assert (ours.largest, ours.smallest) == (float(theirs.max), float(theirs.smallest_subnormal))
    assert (ours.bits, ours.mantissa_bits) == (theirs.bits, theirs.nmant)
    assert 2.0**ours.lowest_exponent == float(theirs.smallest_normal)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", SMALL)
def test_every_value_every_tie_and_their_neighbours_round_as_ml_dtypes_does(name, dtype):
    x = beside(every_value(name))
    x = x[np.abs(x) <= FLOATS[name].largest]

    ours = quantise(torch.from_numpy(x).to(dtype), FLOATS[name])

    theirs = x.astype(ml_type(name)).astype(np.float64)
    assert np.array_equal(ours.double().numpy(), theirs)
    assert np.array_equal(np.signbit(ours.numpy()), np.signbit(theirs))


@pytest.mark.parametrize("name", SMALL)
def test_random_numbers_of_any_size_round_as_ml_dtypes_does_and_saturate(name):
    x = saturated(random_floats(200_000), name).astype(np.float32)

    form = FLOATS[name]
    ours, slow = (way(torch.from_numpy(x)).numpy() for way in (form.rounded, form.rounded_in_places))

    assert np.array_equal(ours, x.astype(ml_type(name)).astype(np.float32))
    assert np.array_equal(ours, slow)


@pytest.mark.parametrize("name", [*SMALL, "fp32"])
def test_what_is_too_large_saturates_and_what_is_no_number_stays_so(name):
    largest = FLOATS[name].largest
    x = torch.tensor([inf, -inf, nan, 3.4e38, -3.4e38, largest])

    for ours in (quantise(x, FLOATS[name]), quantise(x, FLOATS[name], mode="floor")):
        assert ours[:2].tolist() == [largest, -largest]
        assert ours[2].isnan()
        assert ours[5] == largest
        assert bool((ours[3:5].abs() <= largest).all())
        assert name in ("bf16", "fp32") or ours[3:5].tolist() == [largest, -largest]


@pytest.mark.parametrize(("mode", "theirs"), [("nearest", "TIES_EVEN"), ("floor", "TO_NEG")])
@pytest.mark.parametrize("name", SMALL)
def test_floats_round_as_apytypes_does(name, mode, theirs):
    apytypes = pytest.importorskip("apytypes")
    form = FLOATS[name]
    values = beside(every_value(name)) if form.bits == 8 else random_floats(20_000)
    edge = form.largest if form.set_apart == "exponent" else 240.0  # theirs sets the highest exponent apart
    x = values[np.abs(values) <= edge]

    ours = quantise(torch.from_numpy(x), form, mode=mode)

    wide = apytypes.APyFloatArray.from_array(x.astype(np.float64), exp_bits=11, man_bits=52)
    cast = wide.cast(form.exponent_bits, form.mantissa_bits, quantization=getattr(apytypes.QuantizationMode, theirs))
    # APyTypes 0.5.1 makes zero of what rounds up from below the smallest normal number to it
    normal = 2.0**form.lowest_exponent
    known = (ours.abs().numpy() == normal) & (np.abs(x) < normal) & (cast.to_numpy() == 0)
    assert np.array_equal(ours.double().numpy()[~known], cast.to_numpy()[~known])
    assert known.sum() < 10


@pytest.mark.parametrize(("mode", "theirs"), [("nearest", "TIES_EVEN"), ("floor", "TO_NEG")])
@pytest.mark.parametrize("bits", range(2, 17))
def test_fixed_point_rounds_and_saturates_as_apytypes_does(bits, mode, theirs):
    apytypes = pytest.importorskip("apytypes")
    frac = bits // 2
    if bits <= 8:  # every word, every tie, their neighbours, and what lies beyond the ends
        x = beside(np.arange(-(2**bits), 2**bits) * 2.0**-frac).astype(np.float64)
        x = x[(x == 0) | (np.abs(x) > 2.0**-30)]
    else:
        x = np.random.default_rng(bits).uniform(-1.2, 1.2, 5000) * 2.0 ** (bits - 1 - frac)

    ours = quantise(torch.from_numpy(x), fixed_format(bits), 2.0**-frac, mode)

    wide = apytypes.APyFixedArray.from_array(x, int_bits=24, frac_bits=60)
    cast = wide.cast(
        int_bits=bits - frac, frac_bits=frac, quantization=getattr(apytypes.QuantizationMode, theirs),
        overflow=apytypes.OverflowMode.SAT,
    )  # fmt: skip
    assert np.array_equal(ours.numpy(), cast.to_numpy())


@pytest.mark.parametrize("form", [*(fixed_format(bits) for bits in range(2, 17)), TERNARY], ids=str)
def test_fixed_point_rounds_as_torchs_fake_quantisation(form):
    unit = 2.0**-3
    words = np.arange(form.lowest - 3, form.highest + 4) if form.bits <= 8 else np.arange(-40_000, 40_000, 7)
    x = torch.from_numpy(beside(words * unit))

    theirs = torch.fake_quantize_per_tensor_affine(x, unit, 0, form.lowest, form.highest)

    assert torch.equal(quantise(x, form, unit), theirs)


@given(seed=st.integers(0, 99), channels=st.integers(1, 4), bits=st.integers(2, 8))
def test_a_unit_per_channel_rounds_as_torchs_fake_quantisation(seed, channels, bits):
    x = torch.randn(channels, 5, generator=torch.Generator().manual_seed(seed))
    x *= torch.logspace(-3, 3, channels)[:, None]
    form = fixed_format(bits)
    unit = form.unit_of(x, channel=0)

    zero = torch.zeros(channels, dtype=torch.int32)
    theirs = torch.fake_quantize_per_channel_affine(x, unit.flatten(), zero, 0, form.lowest, form.highest)

    assert torch.equal(quantise(x, form, unit), theirs)


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1, max_size=9), st.integers(2, 16))
def test_a_shared_unit_is_the_finest_power_of_two_that_holds_the_largest(values, bits):
    x, form = torch.tensor(values, dtype=torch.float64), fixed_format(bits)
    unit, largest = float(form.unit_of(x)), float(x.abs().max())

    if largest == 0:
        assert unit == 1
    elif unit > 2.0**-126:
        assert largest < unit * 2 ** (bits - 1) <= 2 * largest
    # within half a unit, but for the largest where it rounds up to what is one too many
    assert bool(((quantise(x, form, unit) - x).abs() <= unit).all())


def test_one_bit_is_the_sign_and_zero_is_plus():
    x = torch.tensor([-3.0, -0.0, 0.0, 2.0])

    assert quantise(x, number_format("binary"), 0.25).tolist() == [-0.25, 0.25, 0.25, 0.25]
    assert not number_format("binary").needs_noise("stochastic")


def neighbours(value, form):
    """The numbers of the format right below and above, in rational arithmetic, and the unit there."""
    exponent = form.lowest_exponent
    while Fraction(2) ** (exponent + 1) <= abs(value):
        exponent += 1
    unit = Fraction(2) ** (exponent - form.mantissa_bits)
    return floor(value / unit), unit


@given(
    x=st.floats(-500, 500, width=32), name=st.sampled_from(["fp8_e4m3", "fp8_e5m2", "bf16"]), bits=st.integers(1, 16),
    share=st.floats(0, 1, exclude_max=True),
)  # fmt: skip
def test_stochastic_rounding_is_the_floor_of_the_sum_with_the_random_bits(x, name, bits, share):
    form, r = FLOATS[name], int(share * 2**bits)
    lower, unit = neighbours(Fraction(x), form)

    ours = quantise(torch.tensor([x]), form, mode="stochastic", noise=Noise(torch.tensor([r]), bits))

    expected = floor(Fraction(x) / unit + Fraction(r, 2**bits)) * unit
    assert float(ours) == float(max(-Fraction(form.largest), min(Fraction(form.largest), expected)))
    assert expected - lower * unit in (0, unit)


@pytest.mark.parametrize("form", [FLOATS["fp8_e4m3"], fixed_format(8)], ids=str)
def test_stochastic_rounding_is_right_on_average_to_its_last_random_bit(form):
    x = torch.full((256,), 1.0 + 2.0**-6 * 1.25, dtype=torch.float64)

    rounded = quantise(x, form, 2.0**-3, "stochastic", Noise(torch.arange(256), 8))

    assert float(rounded.mean()) == pytest.approx(float(x[0]), abs=2.0**-3 * 2**-8)


@pytest.mark.parametrize("bits", [1, 5, 8, 12, 16])
def test_noise_has_the_top_bits_of_the_generators_bytes(bits):
    taken = Lfsr(3).take(12).tolist()
    values = taken[:6] if bits <= 8 else [low + 256 * high for low, high in zip(taken[::2], taken[1::2], strict=True)]

    found = noise(Lfsr(3), torch.Size((2, 3)), bits)

    assert found.draws.flatten().tolist() == [value >> ((8 if bits <= 8 else 16) - bits) for value in values]


def test_losses_count_what_lies_beyond_the_ends_and_what_becomes_zero():
    x = torch.tensor([0.0, 0.1, -0.1, 1.0, 127.4, 127.6, -128.4, -128.6, inf])

    found = losses(x, quantise(x, fixed_format(8)), fixed_format(8))

    assert (found.values, found.saturated, found.underflowed) == (9, 3, 2)
    y = torch.tensor([2.0**-11, 448.0, 449.0, -500.0])
    found = losses(y, quantise(y, FLOATS["fp8_e4m3"]), FLOATS["fp8_e4m3"])
    assert (found.saturated, found.underflowed) == (2, 1)


def test_a_new_float_needs_no_code():
    """A format that torch has no type for takes the general way."""
    form = Float("fp6_e3m2", 3, 2, "OCP microscaling formats 1.0", "nothing")
    ml_dtypes = pytest.importorskip("ml_dtypes")
    x = random_floats(20_000)
    x = np.concatenate([x, np.linspace(-20, 20, 4001, dtype=np.float32)])
    x = x[np.abs(x) <= 28]

    theirs = x.astype(ml_dtypes.float6_e3m2fn).astype(np.float32)

    assert (form.bits, form.largest, form.smallest) == (6, 28, 0.0625)
    assert np.array_equal(quantise(torch.from_numpy(x), form).numpy(), theirs)
