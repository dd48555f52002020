"""Windows along an axis: pairs, places that tiles touch and touch again, against all windows and taps one by one."""

import numpy as np
from hypothesis import assume, given
from hypothesis import strategies as st

from fahw.errors import ConfigError
from fahw.layers.window_axes import WindowAxis, Windows, layer_windows, residues
from tests.reference.convolution_errors import touched
from tests.support.models import layer

few = st.integers(1, 6)
axes = st.builds(WindowAxis, st.integers(1, 12), few, st.integers(1, 30), st.integers(-8, 8), few, few, st.just(0))
"""Any axis without a border, also with windows that lie beyond its edges."""
small = st.tuples(*2 * [st.integers(1, 4)])
layers = st.fixed_dictionaries(
    {
        "image": st.tuples(*2 * [st.integers(1, 9)]), "kernel": small, "stride": small, "dilation": small,
        "padding": st.tuples(*2 * [st.integers(0, 5)]),
        "padding_mode": st.sampled_from(("zeros", "reflect", "replicate", "circular")),
    }
)  # fmt: skip


def places_of(axis, first, windows):
    """The places that windows touch, each once."""
    places = touched(axis)[first : first + windows]
    return set(places[(places >= 0) & (places < axis.places)].tolist())


@given(axes, st.integers(1, 14))
def test_tiles_of_windows_touch_these_places(axis, tile):
    """Every tile counted by itself: what it touches, and of that what another tile touched before it."""
    tiles = [places_of(axis, first, tile) for first in range(0, axis.windows, tile)]
    everything = set().union(*tiles)
    assert axis.touched == len(everything)
    assert axis.fetched(tile) == sum(map(len, tiles))
    assert axis.halo(tile) == sum(map(len, tiles)) - len(everything)
    assert axis.held(tile) == max(map(len, tiles))
    assert axis.pairs == int(((touched(axis) >= 0) & (touched(axis) < axis.places)).sum())


@given(axes)
def test_no_place_meets_more_pairs_than_reuse_says(axis):
    """And windows enough in a row meet so many somewhere."""
    where = touched(axis)
    met = where[(where >= 0) & (where < axis.places)]
    assert np.bincount(met, minlength=1).max() <= axis.reuse
    endless = WindowAxis(40, axis.taps, 1000, 0, axis.stride, axis.dilation)
    assert np.bincount(touched(endless).ravel()).max() == axis.reuse


@given(st.integers(1, 60), st.integers(1, 7), st.integers(1, 3), st.integers(1, 40))
def test_rows_of_a_tile_by_the_usual_formula(windows, taps, stride, tile):
    """Where windows leave no gap, a tile of r rows touches (r - 1) stride + taps rows, and each but the last shares
    taps - stride with the next."""
    assume(taps >= stride)
    tile = min(tile, windows)
    axis = WindowAxis(windows, taps, (windows - 1) * stride + taps, 0, stride)
    assert axis.held(tile) == (tile - 1) * stride + taps
    assert axis.halo(tile) == (-(-windows // tile) - 1) * (taps - stride)


@given(axes)
def test_residues_share_out_places_taps_and_pairs(axis):
    """Each place has one residue, each tap one at most (none where the axis is shorter than the stride), and what the
    windows over the outputs gather are the pairs of the axis, seen from the other side."""
    found = residues(axis)
    assert all(each.places for each in found)
    places = [place for each in found for place in range(each.first, axis.places, axis.stride)]
    assert sorted(places) == list(range(axis.places))
    assert [each.places for each in found] == [len(range(each.first, axis.places, axis.stride)) for each in found]
    taps = [tap for each in found for tap in each.taps]
    assert len(set(taps)) == len(taps)
    assert axis.places < axis.stride or sorted(taps) == list(range(axis.taps))
    pairs = set()
    for each in found:
        for number, outputs in enumerate(touched(each.outputs)):
            met = [(int(q), tap) for q, tap in zip(outputs, each.taps, strict=True) if 0 <= q < axis.windows]
            pairs |= {(each.first + number * axis.stride, q, tap) for q, tap in met}
    there = enumerate(touched(axis))
    assert pairs == {(int(i), q, tap) for q, row in there for tap, i in enumerate(row) if 0 <= i < axis.places}
    assert sum(each.outputs.pairs for each in found) == axis.pairs


@given(layers)
def test_windows_of_a_layer(options):
    """Pairs are the layer's share of pixels in its windows; no tile of the image holds more than the image."""
    image = options.pop("image")
    try:
        convolution = layer("conv2d", "a", (4, *image), out=2, groups=2, **options)
    except ConfigError:  # does not fit
        assume(False)
    windows = layer_windows(convolution, 3)
    assert windows.pairs == round(3 * convolution.positions * convolution.window * (1 - convolution.padding_share))
    assert windows.rows.pixels == image[0]
    assert windows.values <= 3 * 2 * image[0] * image[1]
    if convolution.padding_mode == "zeros":
        assert convolution.overlapping == (windows.pairs > windows.values)


def test_a_linear_layer_has_one_window_of_one_place():
    windows = layer_windows(layer("linear", "a", (7,), out=5), 3)
    assert (windows.values, windows.pairs, windows.held(7, 1), windows.halo(1)) == (21, 21, 7, 0)


def test_tiles_of_rows_and_columns_by_hand():
    """3 x 3 with padding 1 on 8 x 8, 2 samples of 4 channels. Tiles of 3 rows touch 4, 5 and 3 of them: halo 4 rows of
    8; tiles of 3 rows and 4 columns touch 5 of 8 columns twice."""
    windows = Windows(2, 4, *2 * [WindowAxis(8, 3, 8, -1)])
    assert windows.values == 512
    assert windows.held(1, 3) == 5 * 8
    assert windows.fetched(3) == 8 * 12 * 8
    assert windows.halo(3) == 8 * 4 * 8
    assert windows.held(1, 3, 4) == 5 * 5
    assert windows.fetched(3, 4) == 8 * 12 * 10


def test_a_border_of_copies_is_held_once():
    """A circular padding of 1 on 4 places: the windows touch 6 places, of 4 pixels."""
    axis = layer_windows(layer("conv2d", "a", (1, 4, 4), out=1, kernel=3, padding=1, padding_mode="circular"), 1).rows
    assert axis == WindowAxis(4, 3, 6, 0, 1, 1, 1)
    assert (axis.pixels, axis.touched, axis.held(4), axis.fetched(2), axis.halo(4)) == (4, 4, 4, 8, 0)
