"""Fast feedback codes are the definition's."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from fahw.learn.kernels.generator import lfsr_codes
from fahw.prng import row_codes, row_seeds


@given(
    rows=st.integers(1, 40),
    columns=st.integers(1, 300),
    bits=st.integers(1, 16),
    seed=st.integers(0, 2**64 - 1),
    draw=st.integers(0, 1000),
)
def test_pieces_of_rows_yield_the_codes_of_the_whole_register(rows, columns, bits, seed, draw):
    seeds = row_seeds(seed, rows, draw)

    assert np.array_equal(lfsr_codes(seeds, columns, bits), row_codes(seeds, columns, bits))
