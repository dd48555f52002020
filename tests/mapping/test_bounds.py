"""Lower bounds of DRAM traffic: right by hand, never broken by any mapping, and how far off the best mapping is."""

from dataclasses import replace
from math import sqrt

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fahw.errors import ConfigError
from fahw.layers.window_axes import WindowAxis, Windows
from fahw.mapping.bounds import compulsory_bits, local_bits, lower_bound_bits, reuse_bits
from fahw.mapping.mapper import best_mapping
from fahw.mapping.problem import DATAFLOWS, MappedArray, OperandPlace, Prices, ResultPlace, TiledProduct
from tests.reference.convolution_errors import touched
from tests.support.random_products import random_product


def moved_least(product):
    """The product with prices that make the bits through DRAM the objective."""
    left, right, sums = product.left.bits, product.right.bits, product.result.sum_bits
    prices = Prices((0, 0), (left, right), 0, 2 * sums, 0, 0, product.result.bits, 0)
    return replace(product, prices=prices, objective="energy")


def plain(m, n, k, words, width=8):
    """A plain product in equal widths, with room for so many words in one memory."""
    array = MappedArray(4, 4, (DATAFLOWS["os"], DATAFLOWS["ws"], DATAFLOWS["is"]))
    place = OperandPlace(width, "one")
    return TiledProduct(
        m, n, k, array, place, place, ResultPlace(width, "one", width, 0.0), room=(("one", words * width),)
    )  # fmt: skip


def test_the_bound_of_a_plain_product_is_that_of_smith_et_al():
    """In equal widths: 2 MNK / sqrt(S) - 2 S words, S with the registers of the elements."""
    product = plain(256, 256, 256, 1000)
    words = 1000 + 4 * 4 * 3
    assert local_bits(product) == words * 8
    assert reuse_bits(product) == pytest.approx(8 * (2 * 256**3 / sqrt(words) - 2 * words))
    assert compulsory_bits(product) == 3 * 256**2 * 8


@pytest.mark.parametrize(
    ("axis", "reuse"),
    [
        (WindowAxis(8, 3, 8, -1), 3),
        (WindowAxis(4, 3, 8, -1, 2), 2),
        (WindowAxis(4, 1, 8, 0, 2), 1),
        (WindowAxis(4, 3, 9, 0, 2, 2), 3),
    ],
)
def test_windows_put_their_reuse_into_the_root(axis, reuse):
    """The most windows that a pixel lies in, along an axis; found by counting, too."""
    places = touched(axis)
    assert axis.reuse == reuse == np.bincount(places[(places >= 0) & (places < axis.places)]).max()


def test_the_bound_of_an_unfolded_operand_counts_stored_values_and_no_padding():
    """A 3 x 3 convolution on 4 x 4 pixels: R = 9, and of the places of windows 100 of 144 are pixels."""
    axis = WindowAxis(4, 3, 4, -1)
    windows = Windows(100, 16, axis, axis)
    product = replace(plain(1600, 16, 144, 100), windows=windows, unfolded="left")
    words, macs = 100 + 48, 1600 * 16 * 144 * 100 / 144
    assert reuse_bits(product) == pytest.approx(8 * (2 * macs / sqrt(9 * words) - 2 * words))
    assert compulsory_bits(product) == 8 * (100 * 16 * 16 + 144 * 16 + 1600 * 16)


def check_never_broken(product):
    """The mapping that moves least moves no less than the bounds; returns its distance, None where nothing fits."""
    product = moved_least(product)
    try:
        best = best_mapping(product)
    except ConfigError:
        return None
    bound = lower_bound_bits(product)
    assert best.dram_bits >= bound * (1 - 1e-12)
    return best.dram_bits / bound if bound else None


@given(st.integers(0, 2**32), st.sampled_from([2, 8, 40]))
@settings(max_examples=150)
def test_no_mapping_beats_the_bounds(seed, granules):
    """On random products, windows, widths and memories."""
    check_never_broken(random_product(np.random.default_rng(seed), granules))


@given(*[st.integers(1, 400)] * 3, st.integers(50, 20_000))
@settings(max_examples=60)
def test_no_mapping_of_a_plain_product_beats_the_bound_of_smith_et_al(m, n, k, words):
    """Plain products in equal-width words, all in one memory, every dataflow."""
    product = plain(m, n, k, words)
    distance = check_never_broken(product)
    assert distance is None or distance >= 1


@pytest.mark.long
@given(st.integers(0, 2**62), st.sampled_from([2, 8, 40, 200]))
@settings(max_examples=5000)
def test_no_mapping_beats_the_bounds_on_thousands_of_products(seed, granules):
    """The same on thousands."""
    check_never_broken(random_product(np.random.default_rng(seed), granules))
