"""Passes of row-stationary arrays, all of them one by one, and small layers and arrays to try them on."""

from itertools import product
from math import ceil

from hypothesis import strategies as st

from fahw.hardware.arrays.mapping import Convolution
from fahw.hardware.arrays.row_movement import PassSize

EYERISS = (12, 14, (224, 12, 24), 50 * 1024)
"""Rows, columns, scratchpads and words of the buffer."""


def passes(layer, rows, cols, pads, buffer_words):
    """Every pass there is: all sizes that pads, elements and buffer can hold, tried one by one."""
    (height, width), (filter_words, input_words, sums) = layer.kernel, pads
    samples = [n for n in range(1, layer.samples + 1) if layer.samples % n == 0]
    for e, q in product(range(1, layer.out[0] + 1), range(1, min(layer.inputs, input_words // width) + 1)):
        sets = rows // height * (cols // e) if e <= cols else rows // (height * ceil(e / cols))
        strip = min(layer.image[0], (e - 1) * layer.stride + height)
        most_filters = min(layer.outputs, sums, filter_words // (q * width))
        for r, p, n in product(range(1, min(sets, layer.inputs) + 1), range(1, most_filters + 1), samples):
            for t in range(1, min(sets // r, layer.outputs) + 1):
                room = buffer_words - n * q * r * strip * layer.image[1]
                groups = room // (n * e * layer.out[1] * p * t)
                if groups > 0:
                    yield PassSize(e, p, q, r, t, min(layer.outputs, groups * p * t), n)


def convolution(n, m, c, k, e, f, u):
    return Convolution(n, m, c, (k, k), (e, f), ((e - 1) * u + k, (f - 1) * u + k), u)


small_layers = st.builds(
    convolution, st.integers(1, 3), st.integers(1, 16), st.integers(1, 8), st.integers(1, 4), st.integers(1, 8),
    st.integers(1, 8), st.integers(1, 2),
)  # fmt: skip
small_arrays = st.tuples(
    st.integers(1, 12), st.integers(1, 12), st.tuples(st.integers(1, 64), st.integers(1, 12), st.integers(1, 16)),
    st.sampled_from((100, 400, 2000, 50_000)),
)  # fmt: skip
