"""Integer products are exact by every way, on every processor, or not taken."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fahw.learn.kernels import matmul
from fahw.learn.kernels.matmul import WAYS, exact_matmul, is_exact

sizes = st.integers(1, 70)


def operands(m, k, n, low, high, dtype, columns, seed):
    generator = np.random.default_rng(seed)
    a, b = generator.integers(low, high + 1, (m, k)), generator.integers(low, high + 1, (k, n))
    if seed % 3 == 0:
        a[:], b[:] = low, high
    x, y = torch.from_numpy(a).to(dtype), torch.from_numpy(b).to(dtype)
    if columns[0]:
        x = x.t().contiguous().t()
    if columns[1]:
        y = y.t().contiguous().t()
    return a @ b, x, y


@settings(max_examples=60)
@given(sizes, st.integers(1, 600), sizes, st.tuples(st.booleans(), st.booleans()), st.integers(0, 9))
def test_bytes_multiply_exactly_in_every_layout(m, k, n, columns, seed):
    expected, a, b = operands(m, k, n, -128, 127, torch.int8, columns, seed)

    assert np.array_equal(exact_matmul(a, b, k * 2**14).numpy(), expected)


@settings(max_examples=40)
@given(
    sizes,
    st.integers(1, 300),
    sizes,
    st.integers(1, 16),
    st.sampled_from((torch.float32, torch.int32)),
    st.integers(0, 9),
)
def test_wider_words_multiply_exactly(m, k, n, bits, dtype, seed):
    limit = 2 ** (bits - 1)
    expected, a, b = operands(m, k, n, -limit, limit - 1, dtype, (False, False), seed)

    assert np.array_equal(exact_matmul(a, b, k * limit * limit).numpy(), expected)


@pytest.mark.parametrize("turned", [(False, True), (True, False), (True, True), (False, False)])
def test_parts_of_larger_matrices_multiply_exactly(turned):
    _, a, b = operands(20, 90, 24, -128, 127, torch.int8, turned, 2)
    part = slice(7, 61)

    found = exact_matmul(a[3:, part], b[part, 5:], 54 * 2**14)

    assert np.array_equal(found.numpy(), a[3:, part].numpy().astype(int) @ b[part, 5:].numpy().astype(int))


def test_sums_of_bytes_that_32_bits_cannot_hold_are_exact():
    a = torch.full((3, 1 << 17), -128, dtype=torch.int8)

    assert exact_matmul(a, a.t(), 1 << 31).tolist() == [[float(1 << 31)] * 3] * 3


@pytest.mark.parametrize("way", WAYS)
def test_every_forced_way_gives_the_same_numbers(way):
    if way == "int8" and not is_exact("int8", 9, 40, 8, False, False):
        pytest.skip("this processor multiplies bytes with saturation")
    expected, a, b = operands(9, 40, 8, -128, 127, torch.int8, (False, False), 1)

    assert np.array_equal(exact_matmul(a, b, 40 * 2**14, way).numpy(), expected)


def test_a_forced_way_that_is_not_exact_is_refused():
    a = torch.ones(2, 2000)

    with pytest.raises(ValueError, match="float32 is not exact"):
        exact_matmul(a, a.t(), 1 << 25, "float32")


def test_the_bound_decides_between_float_types():
    a = torch.ones(2, 4)

    assert exact_matmul(a, a.t(), (1 << 24) - 1).dtype == torch.float32
    assert exact_matmul(a, a.t(), 1 << 24).dtype == torch.float64
    assert exact_matmul(a, a.t(), 1 << 53).dtype == torch.int64


def test_a_way_that_multiplies_wrongly_is_found_out_and_not_used(monkeypatch):
    def saturating(a, b):
        return (a.int() @ b.int()).clamp(-(2**15), 2**15 - 1)

    is_exact.cache_clear()
    monkeypatch.setattr(torch, "_int_mm", saturating)
    try:
        a = torch.full((4, 64), -128, dtype=torch.int8)
        result = exact_matmul(a, a.t(), 64 * 2**14)
    finally:
        is_exact.cache_clear()

    assert result.dtype == torch.float32
    assert (result == 64 * 2**14).all()


_SCRIPT = """
import torch
from fahw.learn.kernels.matmul import exact_matmul
torch.set_num_threads(1)
generator = torch.Generator().manual_seed(0)
for m, k, n in ((128, 784, 512), (512, 128, 784), (10, 128, 512), (3, 5, 2)):
    for low in (-128, 127):
        a = torch.randint(-128, 128, (m, k), generator=generator).to(torch.int8)
        b = torch.randint(-128, 128, (k, n), generator=generator).to(torch.int8)
        a[0], b[:, 0] = low, -128
        expected = a.double() @ b.double()
        for x in (a, a.t().contiguous().t()):
            for y in (b, b.t().contiguous().t()):
                assert torch.equal(exact_matmul(x, y, k << 14).double(), expected), (m, k, n)
"""


@pytest.mark.parametrize("isa", ["AVX2", "AVX512_CORE", "SSE41"])
def test_products_stay_exact_on_processors_without_byte_dot_products(isa):
    environment = os.environ | {"ONEDNN_MAX_CPU_ISA": isa}

    done = subprocess.run([sys.executable, "-c", _SCRIPT], env=environment, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("values", [(100, 100), (2**13, 1), (1, 2**13)])
def test_lowered_matmul_precision_is_noticed(values):
    """The float32 way is tried again under other settings, whatever this processor makes of them."""
    generator = np.random.default_rng(0)
    a, b = (generator.integers(-top, top + 1, shape) for top, shape in zip(values, ((64, 900), (900, 64)), strict=True))
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("medium")
        result = exact_matmul(torch.from_numpy(a).float(), torch.from_numpy(b).float(), 900 * values[0] * values[1])
    finally:
        torch.set_float32_matmul_precision(before)

    assert np.array_equal(result.numpy(), a @ b)


@pytest.mark.parametrize("terms", [131_072, 131_073, 300_001])
def test_sums_too_long_for_int32_are_exact(terms):
    """Lowest times lowest: 2^14 each, 2^31 and more together."""
    a = torch.full((3, terms), -128, dtype=torch.int8)
    b = torch.full((terms, 2), -128, dtype=torch.int8)
    b[::3, 1] = 127
    found = exact_matmul(a, b, terms << 14)
    thirds = -(-terms // 3)
    assert found.double().tolist() == [[terms * 16384.0, (terms - thirds) * 16384.0 - thirds * 16256.0]] * 3


@pytest.mark.parametrize("turned", [(False, True), (True, False), (True, True), (False, False)])
@pytest.mark.parametrize(("m", "k", "n"), [(3, 40, 700), (16, 5000, 9), (1, 2050, 1), (130, 64, 1), (2, 1024, 300)])
def test_bytes_multiply_exactly_in_blocks(monkeypatch, m, k, n, turned):
    """As on a processor whose products of bytes are slow: short sums in columns, long ones in parts."""
    monkeypatch.setattr(matmul, "int8_is_fast", lambda device: False)
    monkeypatch.setattr(matmul, "_BLOCK", 1 << 12)
    for seed in (3, 4):
        expected, a, b = operands(m, k, n, -128, 127, torch.int8, turned, seed)

        assert np.array_equal(exact_matmul(a, b, k << 14).numpy(), expected)


def test_the_largest_bytes_multiply_exactly_in_blocks(monkeypatch):
    monkeypatch.setattr(matmul, "int8_is_fast", lambda device: False)
    a = torch.full((3, 1 << 17), -128, dtype=torch.int8)

    assert exact_matmul(a, a.t(), 1 << 31).tolist() == [[float(1 << 31)] * 3] * 3
