"""Time of row-stationary arrays with fill, drain and buses: by hand, against every mapping, against measurements."""

from dataclasses import replace
from math import ceil

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fahw.errors import ConfigError
from fahw.hardware.arrays.mapping import Convolution, Product
from fahw.hardware.arrays.row_movement import Movement, PassSize, movement
from fahw.hardware.arrays.row_stationary import RowStationary
from fahw.hardware.arrays.row_time import Buses, timed_cycles, timed_movement
from fahw.hardware.load import load_chip
from fahw.network.load import load_model
from fahw.work.layer_gemms import convolution_of
from tests.support.row_passes import EYERISS, convolution, passes, small_arrays, small_layers
from tests.support.strategies import ROOT
from tests.validation.claims_inference import LAYERS, MILLISECONDS

OF_EYERISS = Buses(4, 1, 4)
OBJECTIVES = ("energy", "latency", "edp")
PUBLISHED = (
    PassSize(7, 16, 1, 1, 2, 96, 1), PassSize(27, 16, 2, 1, 1, 64, 1), PassSize(13, 16, 4, 1, 4, 64, 4),
    PassSize(13, 16, 3, 2, 2, 64, 4), PassSize(13, 16, 3, 2, 2, 64, 4),
)  # fmt: skip
"""Mappings of AlexNet's convolutions (Chen et al., JSSC 2017, recalled)."""
buses = st.builds(Buses, *3 * [st.sampled_from((1, 2, 4, 7))])


def counted_cycles(layer, size, bus):
    """Cycles of a layer, channels after channels, from what each pass brings, computes and hands on."""
    height, width = layer.kernel
    channels, filters, rows = (
        size.q * size.r,
        size.p * size.t,
        min(layer.image[0], (size.e - 1) * layer.stride + height),
    )
    windows, turn = size.n * layer.out[1], 0
    for group in range(ceil(layer.inputs / channels)):
        filter_words, first_words = filters * channels * height * width, channels * rows * min(width, layer.image[1])
        input_words, sum_words = size.n * channels * rows * layer.image[1], windows * filters * size.e
        handed_on = 1 if group or height * size.r > 1 else 0
        busy = windows * size.p * size.q * width + windows * size.p * handed_on
        turn += max(ceil(filter_words / bus.filters), ceil(first_words / bus.inputs))
        turn += max(busy, ceil(input_words / bus.inputs), ceil(sum_words / bus.sums))
        turn += height * size.r - 1
    return turn * ceil(layer.samples / size.n) * ceil(layer.out[0] / size.e) * ceil(layer.outputs / filters)


def milliseconds(number, size=None, fixed=False):
    """Of one of AlexNet's convolutions at batch 4 and 200 MHz."""
    layer = load_model("alexnet").layer(LAYERS[number])
    group = convolution_of(layer, 4)
    if fixed:
        return layer.groups * movement(group, *EYERISS).cycles / 200e3
    moves = timed_movement(group, *EYERISS, OF_EYERISS, "energy") if size is None else Movement(group, size)
    return layer.groups * timed_cycles(moves, OF_EYERISS) / 200e3


def test_a_pass_by_hand():
    """AlexNet's conv1 at batch 4, docs/model.md: 3,872 filter words over 4 a cycle are 968 cycles, 10,560 of work, 10
    up the column; 288 passes."""
    moves = Movement(convolution_of(load_model("alexnet").layer("conv1"), 4), PUBLISHED[0])
    assert moves.cycles == 288 * 16 * 55 * 11
    assert timed_cycles(moves, OF_EYERISS) == 288 * (16 * 2 * 11 * 11 // 4 + 16 * 55 * (11 + 1) + 10) == 3_322_944


def test_sums_on_their_bus_can_be_what_a_pass_waits_for():
    """conv3 as published: 43,264 sums over 4 a cycle take 10,816 cycles, as long as 9,984 products and 832 sums; on a
    bus of half the width twice as long."""
    moves = Movement(convolution_of(load_model("alexnet").layer("conv3"), 4), PUBLISHED[2])
    assert timed_cycles(moves, OF_EYERISS) == 384 * (576 + 10_816 + 2)
    assert timed_cycles(moves, replace(OF_EYERISS, sums=2)) == 384 * (576 + 2 * 10_816 + 2)


def test_alexnet_takes_as_long_as_was_measured():
    """Each layer within 10 % as it is mapped here and within 13 % as published, all of them within 2 %."""
    found = [milliseconds(number) for number in range(5)]
    as_published = [milliseconds(number, size) for number, size in enumerate(PUBLISHED)]
    assert found == pytest.approx(MILLISECONDS, rel=0.1)
    assert as_published == pytest.approx(MILLISECONDS, rel=0.13)
    for each in (found, as_published):
        assert sum(each) == pytest.approx(sum(MILLISECONDS), rel=0.02)


def test_the_page_has_these_times():
    """docs/model.md: each layer as measured, under `fixed`, as found and as published, and their sums."""
    rows = [
        (MILLISECONDS[number], milliseconds(number, fixed=True), milliseconds(number), milliseconds(number, size))
        for number, size in enumerate(PUBLISHED)
    ]
    text = (ROOT / "docs" / "model.md").read_text(encoding="utf-8")
    for name, times in zip((*LAYERS, "all"), (*rows, tuple(map(sum, zip(*rows, strict=True)))), strict=True):
        cells = [f"{time:.1f} ({100 * (time / times[0] - 1):+.0f} %)" for time in times[1:]]
        assert f"| {name} | {times[0]:.1f} | {' | '.join(cells)} |" in text


def test_a_layer_of_vgg_16_takes_as_long_as_was_measured():
    """conv4_2 at batch 3: 210.0 ms (recalled). Its published buffer accesses, 644 MB, tell the channels of a pass:
    four; with six they would be 460."""
    layer = Convolution(3, 512, 512, (3, 3), (28, 28), (28, 28))
    moves = Movement(layer, PassSize(14, 16, 4, 1, 4, 64, 1))
    words = moves.inputs_read + moves.weights_read + 2 * moves.sums_written + layer.results
    assert words * 2e-6 == pytest.approx(644, rel=0.05)
    assert timed_cycles(moves, OF_EYERISS) / 200e3 == pytest.approx(210.0, rel=0.02)


def check_best(layer, array, bus, objective):
    """Of the mappings that take at most a quarter longer than the fastest of all, the best by the objective."""
    mappings = [Movement(layer, size) for size in passes(layer, *array)]
    found = timed_movement(layer, *array, bus, objective)
    if not mappings:
        assert found is None
        return
    timed = [(counted_cycles(layer, mapping.size, bus), mapping.cost) for mapping in mappings]
    within = [(cycles, cost) for cycles, cost in timed if cycles <= 1.25 * min(timed)[0]]
    key = {
        "energy": lambda cycles, cost: (cost, cycles),
        "latency": lambda cycles, cost: (cycles, cost),
        "edp": lambda cycles, cost: ((cost + 5 * layer.macs) * cycles, cycles),
    }[objective]
    cycles = timed_cycles(found, bus)
    assert cycles == counted_cycles(layer, found.size, bus)
    assert key(cycles, found.cost) == min(key(*each) for each in within)


@settings(max_examples=25, deadline=None)
@example(convolution(1, 1, 1, 2, 1, 1, 1), (1, 1, (1, 1, 1), 100), OF_EYERISS, "energy")
@given(small_layers, small_arrays, buses, st.sampled_from(OBJECTIVES))
def test_no_mapping_is_better(layer, array, bus, objective):
    """Against all there are, tried one by one, their cycles counted otherwise."""
    check_best(layer, array, bus, objective)


@pytest.mark.long
@settings(max_examples=300, deadline=None)
@given(small_layers, small_arrays, buses, st.sampled_from(OBJECTIVES))
def test_no_mapping_is_better_on_hundreds_of_layers(layer, array, bus, objective):
    """Against all there are, tried one by one, their cycles counted otherwise."""
    check_best(layer, array, bus, objective)


@settings(max_examples=60, deadline=None)
@given(
    st.builds(convolution, st.integers(1, 4), st.integers(1, 40), st.integers(1, 20), st.integers(1, 5),
              st.integers(1, 20), st.integers(1, 20), st.integers(1, 3)),
    buses,
)  # fmt: skip
def test_fill_and_buses_take_time_and_wider_ones_less(layer, bus):
    """Never faster than the elements alone, than every word on its bus, or than on wider buses."""
    fastest = timed_cycles(timed_movement(layer, *EYERISS, bus, "latency"), bus)
    assert fastest >= layer.macs / (12 * 14)
    assert fastest >= movement(layer, *EYERISS).cycles / 1.25
    moves = timed_movement(layer, *EYERISS, bus, "energy")
    cycles = timed_cycles(moves, bus)
    assert fastest <= cycles <= 1.25 * fastest
    assert cycles >= moves.cycles + moves.weights_read / bus.filters
    assert cycles >= (moves.inputs_read + moves.weights_read) / (bus.inputs + bus.filters)
    assert cycles >= moves.layer.results * moves.channel_groups / bus.sums
    for wider in (replace(bus, filters=8), replace(bus, inputs=8), replace(bus, sums=8)):
        assert timed_cycles(moves, wider) <= cycles
        assert timed_cycles(timed_movement(layer, *EYERISS, wider, "latency"), wider) <= fastest


def test_an_array_is_timed_where_mappings_are_searched_for():
    """Folds, and cycles of one, follow; without an objective the counts are those of accesses alone."""
    array = load_chip("eyeriss").arrays[0]
    group = convolution_of(load_model("alexnet").layer("conv1"), 4)
    plain = Product(4 * 55 * 55, 96, 363, group, 50 * 1024)
    fixed, best = (RowStationary.laid_out(plain._replace(objective=each), array) for each in (None, "energy"))
    assert fixed.cycles == movement(group, *EYERISS).cycles == 288 * fixed.fold_cycles
    assert (best.cycles, best.folds, best.fold_cycles) == (3_322_944, 288, 11_538)


@pytest.mark.parametrize("key", ["filter_bus_words", "input_bus_words", "psum_bus_words"])
def test_a_bus_says_something_where_mappings_are_searched_for(key):
    """A chip file gives its width in words under `mapping: best`; under `fixed` it is refused."""
    name = f"arrays.array.scratchpads.{key}"
    with pytest.raises(ConfigError, match=r"`mapping: best` alone") as caught:
        load_chip("eyeriss", {name: "2", "mapping": "fixed"})
    assert [problem.key for problem in caught.value.problems] == [f"arrays.0.scratchpads.{key}"]
    pads = load_chip("eyeriss", {name: "2"}).arrays[0].scratchpads
    assert 2 in (pads.buses.filters, pads.buses.inputs, pads.buses.sums)
