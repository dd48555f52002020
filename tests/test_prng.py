"""The chip's random numbers: bulk generators against bit-by-bit definitions, and sanity of their statistics."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fahw.prng import LENGTH, TAP, Lfsr, derive, lfsr_bits, row_codes, row_seeds

MASK = 0xFFFFFFFF


def bits_of(taken):
    return np.unpackbits(taken, bitorder="little")


@pytest.mark.parametrize("seed", [0, 1, 12345678901234567890])
def test_bulk_lfsr_yields_the_bits_of_the_register(seed):
    """`Lfsr` yields, byte by byte, exactly what one register shifted bit by bit yields."""
    slow = np.fromiter(itertools.islice(lfsr_bits(seed), 40_000), np.uint8)
    assert np.array_equal(bits_of(Lfsr(seed).take(5_000)), slow)


def test_recurrence_holds_over_refills():
    """b[n] = b[n - 1279] xor b[n - 418] holds for every bit, across the borders of the buffer's refills."""
    lfsr = Lfsr(7)
    taken = np.concatenate([lfsr.take(count).copy() for count in (1, 163_711, 5, 400_000, 1_300_000, 3)])
    bits = bits_of(taken)
    assert np.array_equal(bits[LENGTH:], bits[:-LENGTH] ^ bits[LENGTH - TAP : -TAP])


@settings(max_examples=25)
@given(st.lists(st.integers(0, 200_000), min_size=1, max_size=8), st.integers(0, 3))
def test_bytes_do_not_depend_on_how_takes_are_split(counts, seed):
    """The stream is one; how it is cut into takes changes nothing."""
    lfsr = Lfsr(seed)
    parts = [lfsr.take(count).copy() for count in counts]
    assert [len(part) for part in parts] == counts
    assert np.array_equal(np.concatenate(parts), Lfsr(seed).take(sum(counts)))


@settings(max_examples=20)
@given(st.lists(st.integers(0, 300_000), max_size=5), st.integers(1, 300_000))
def test_state_goes_on_where_it_was_taken(before, after):
    """A generator restored from a state, even an older generator of another seed, goes on with the same bytes."""
    lfsr = Lfsr(3)
    for count in before:
        lfsr.take(count)
    state = lfsr.state()
    expected = lfsr.take(after).copy()
    other = Lfsr(4)
    other.take(1000)
    other.restore(state)
    assert np.array_equal(other.take(after), expected)


def test_state_is_a_copy():
    """Going on does not change a state that was taken."""
    lfsr = Lfsr(3)
    state = lfsr.state()
    kept = state[0].copy()
    lfsr.take(2_000_000)
    assert np.array_equal(state[0], kept)


def test_trinomial_is_primitive():
    """x^1279 + x^418 + 1 is irreducible: x^(2^1279) = x modulo it, and 1279 is prime. As 2^1279 - 1 is a Mersenne
    prime, every nonzero state then has period 2^1279 - 1."""

    def square(a):
        a = int(format(a, "b"), 4)  # the square of a polynomial over GF(2) spreads its bits
        while a >> LENGTH:
            high = a >> LENGTH
            a = (a & ((1 << LENGTH) - 1)) ^ high ^ (high << TAP)
        return a

    power = 0b10
    for _ in range(LENGTH):
        power = square(power)
    assert power == 0b10
    assert all(LENGTH % divisor for divisor in range(2, 36))


def test_lfsr_bits_are_balanced_and_unlike_their_shifts():
    """Ones, and agreements with the stream shifted by small and register-like lags, are half within five sigma."""
    bits = bits_of(Lfsr(11).take(125_000)).astype(np.int8)
    bound = 5 * 0.5 / len(bits) ** 0.5
    assert abs(bits.mean() - 0.5) < bound
    for lag in (1, 2, 7, 8, 16, 64, TAP, LENGTH, 2 * LENGTH):
        assert abs((bits[lag:] == bits[:-lag]).mean() - 0.5) < bound * 1.1, lag


def test_lfsr_bytes_are_uniform():
    """Rounding uses whole bytes: all 256 values are equally likely (chi-square within five sigma of its mean)."""
    counts = np.bincount(Lfsr(5).take(256_000), minlength=256)
    chi = ((counts - 1000) ** 2 / 1000).sum()
    assert abs(chi - 255) < 5 * (2 * 255) ** 0.5


def test_seeds_give_unrelated_streams():
    """Streams of neighbouring seeds agree in half of their bits."""
    streams = [bits_of(Lfsr(seed).take(10_000)) for seed in range(4)]
    for a, b in itertools.combinations(streams, 2):
        assert abs((a == b).mean() - 0.5) < 0.01


# feedback codes


def slow_codes(seed, columns, bits):
    """Marsaglia's xorshift32 (13, 17, 5) in plain integers; a code is the low end of a field of 1 to 16 bits."""
    x, codes = int(seed), []
    while len(codes) < columns:
        x ^= (x << 13) & MASK
        x ^= x >> 17
        x ^= (x << 5) & MASK
        width = next(w for w in (1, 2, 4, 8, 16) if w >= bits)
        codes += [(x >> (width * i)) & ((1 << bits) - 1) for i in range(32 // width)]
    return codes[:columns]


@given(st.lists(st.integers(1, MASK), min_size=1, max_size=4), st.integers(1, 70), st.integers(1, 16))
def test_row_codes_are_one_xorshift_per_row(seeds, columns, bits):
    """Every width from 1 to 16 bits gives the codes of the obvious per-row generator, each within its range."""
    codes = row_codes(np.array(seeds, np.uint32), columns, bits)
    assert codes.shape == (len(seeds), columns)
    assert codes.tolist() == [slow_codes(seed, columns, bits) for seed in seeds]


def test_xorshift_is_marsaglias():
    """The first numbers after 2463534242 are those that Marsaglia's xor() gives (723471715 is its first)."""
    codes = row_codes(np.array([2463534242], np.uint32), 4, 16)[0].tolist()
    assert codes[0] | codes[1] << 16 == 723471715
    assert codes[2] | codes[3] << 16 == 2497366906


@given(st.integers(0, 2**64 - 1), st.integers(1, 40), st.integers(1, 60), st.integers(1, 16))
def test_numbers_do_not_depend_on_the_size_of_the_matrix(seed, rows, columns, bits):
    """A row has its own seed and a stream along its columns: a larger matrix has the smaller one in its corner."""
    large = row_codes(row_seeds(seed, rows + 7), columns + 13, bits)
    assert np.array_equal(row_codes(row_seeds(seed, rows), columns, bits), large[:rows, :columns])


@pytest.mark.parametrize("bits", range(1, 17))
def test_codes_are_uniform_and_signs_balanced(bits):
    """Codes of every width fill their range evenly, over rows and columns of a matrix as fahw draws it."""
    codes = row_codes(row_seeds(derive(1, "test"), 256), 1024, bits)
    assert codes.max() < 1 << bits
    high = np.bincount((codes >> max(0, bits - 4)).ravel())  # the sign and the highest bits of the magnitude
    expected = codes.size / len(high)
    chi = ((high - expected) ** 2 / expected).sum()
    degrees = len(high) - 1
    assert len(high) == 1 << min(bits, 4)
    assert abs(chi - degrees) < 5 * (2 * degrees) ** 0.5 + 4
    per_row = codes.astype(np.float64).mean(axis=1) / ((1 << bits) - 1)
    assert abs(per_row - 0.5).max() < 0.1


def test_rows_are_unlike():
    """Rows of a matrix, and redraws of a row, are uncorrelated."""
    signs = row_codes(row_seeds(9, 64), 4096, 1).astype(np.float64) * 2 - 1
    correlation = np.corrcoef(signs) - np.eye(64)
    assert np.abs(correlation).max() < 6 / 4096**0.5
    again = row_codes(row_seeds(9, 64, draw=1), 4096, 1).astype(np.float64) * 2 - 1
    assert np.abs((signs * again).mean(axis=1)).max() < 6 / 4096**0.5


def test_row_seeds_are_distinct_and_never_zero():
    """A register that starts at zero would stay there; two rows with one seed would be the same row."""
    seeds = row_seeds(0, 100_000)
    assert seeds.dtype == np.uint32
    assert seeds.min() > 0
    assert len(np.unique(seeds)) == len(seeds)
    assert not set(row_seeds(0, 100).tolist()) & set(row_seeds(0, 100, draw=1).tolist())


def test_derive_is_stable():
    """Golden values: BLAKE2b of "seed/part/...", 8 bytes, little end first, as `printf 0 | b2sum -l 64` gives them."""
    assert derive(0) == 0x75DFCD439D7D2B84
    assert derive(1, "feedback", "linear2", 3) == 0x1242F18F7BC66982


@given(st.integers(0, 1000), st.text("abc", max_size=3), st.integers(0, 1000))
def test_derive_is_64_bits_and_tells_its_parts_apart(seed, part, number):
    """Seeds fit 64 bits; another part or number gives another seed."""
    value = derive(seed, part, number)
    assert 0 <= value < 2**64
    assert value == derive(seed, part, number)
    assert (
        len({value, derive(seed + 1, part, number), derive(seed, part + "x", number), derive(seed, part, number + 1)})
        == 4
    )
