"""Windows over images: which of them overlap. The oracle goes over all places of all windows (`tests.reference`)."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from fahw.errors import ConfigError
from tests.reference.words import windows
from tests.support.hand_counts import chip_of_bits
from tests.support.models import graph, layer
from tests.support.steps import counts, step


def uses(convolution):
    """How often the windows of a convolution use each pixel of an image."""
    found = np.zeros(convolution.inputs, int)
    for _, _, where in windows(convolution):
        np.add.at(found, where[where >= 0], 1)
    return found


small = st.integers(1, 4)
pairs = st.tuples(small, small)


@given(
    st.tuples(st.integers(1, 7), st.integers(1, 7)), pairs, pairs, pairs,
    st.tuples(st.integers(0, 6), st.integers(0, 6)), st.sampled_from(("zeros", "reflect", "replicate", "circular")),
)  # fmt: skip
def test_windows_overlap_where_a_pixel_is_used_twice(image, kernel, stride, dilation, padding, mode):
    options = {"kernel": kernel, "stride": stride, "dilation": dilation, "padding": padding, "padding_mode": mode}
    try:
        convolution = layer("conv2d", "a", (1, *image), out=1, **options)
    except ConfigError:  # does not fit
        assume(False)
    assert convolution.overlapping == (uses(convolution).max() > 1)


@given(
    st.tuples(st.integers(1, 7), st.integers(1, 7)), pairs, pairs, pairs,
    st.tuples(st.integers(0, 6), st.integers(0, 6)),
)  # fmt: skip
def test_share_of_the_padding(image, kernel, stride, dilation, padding):
    options = {"kernel": kernel, "stride": stride, "dilation": dilation, "padding": padding}
    try:
        convolution = layer("conv2d", "a", (1, *image), out=1, **options)
    except ConfigError:  # does not fit
        assume(False)
    places = np.concatenate([where.ravel() for _, _, where in windows(convolution)])
    assert convolution.padding_share == pytest.approx((places < 0).mean())


def test_padding_of_a_step_by_hand():
    """3 x 3 on 4 x 4 with padding 1: 10 of 12 places on each axis are pixels. `a` sends no error."""
    net = graph(
        (1, 4, 4), {"kind": "conv2d", "name": "a", "out": 2, "kernel": 3, "padding": 1},
        {"kind": "conv2d", "name": "b", "out": 2, "kernel": 3, "padding": 1}, {"kind": "flatten"},
        {"kind": "linear", "out": 2},
    )  # fmt: skip
    work = step(chip_of_bits(), net, "bp", 3)
    a, b = 3 * 16 * 9 * 2, 3 * 16 * 9 * 2 * 2
    assert work.padding_macs == round((1 - (10 / 12) ** 2) * (2 * a + 3 * b))
    assert work.macs == 2 * a + 3 * b + 3 * 3 * 32 * 2


def network(image, **options):
    """Two convolutions and a linear layer; the second convolution sends an error."""
    first = {"kind": "conv2d", "name": "a", "out": 2, "kernel": 1}
    second = {"kind": "conv2d", "name": "b", "out": 3, **options}
    return graph((1, *image), first, second, {"kind": "flatten"}, {"kind": "linear", "out": 2})


@pytest.mark.parametrize(
    ("options", "added"),
    [({"kernel": 6}, 0), ({"kernel": 2, "dilation": 4}, 0), ({"kernel": 2, "stride": 2, "dilation": 2}, 32),
     ({"kernel": 2, "stride": 2}, 0), ({"kernel": 3, "stride": 3}, 0), ({"kernel": 2}, 200)],
    ids=str,
)  # fmt: skip
def test_only_windows_that_overlap_pay_sums(options, added):
    """On 2 x 6 x 6: kernel 2 has 25 windows of 8 values, with stride and dilation 2 it has 4 windows of 8."""
    work = step(chip_of_bits(), network((6, 6), **options), "bp", 1)
    assert counts(work, phase="error", layer="b", tensor="psum", action="add") == added


def test_a_kernel_as_large_as_its_image_needs_no_memory_for_sums():
    chip = chip_of_bits()
    memories = [
        memory.model_copy(update={"holds": tuple(tensor for tensor in memory.holds if tensor != "psum")})
        for memory in chip.memories
    ]
    assert step(chip.model_copy(update={"memories": tuple(memories)}), network((6, 6), kernel=6), "bp", 1).tasks
