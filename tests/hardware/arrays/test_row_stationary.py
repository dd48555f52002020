"""The row-stationary array: published mappings, bounds that no mapping can pass, and what a chip may say."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fahw
from fahw.errors import ConfigError
from fahw.hardware.arrays.mapping import Convolution
from fahw.hardware.arrays.row_movement import Movement, movement
from fahw.hardware.load import load_chip
from fahw.network.load import load_model
from fahw.technology.scaling import logic_energy
from fahw.work.layer_gemms import convolution_of
from tests.support.row_passes import EYERISS, convolution, passes, small_arrays, small_layers
from tests.validation import claims_inference


@pytest.mark.parametrize(
    ("layer", "e", "p", "q", "r", "t"),
    [("conv1", 7, 16, 1, 1, 2), ("conv4", 13, 16, None, 2, 2), ("conv5", 13, 16, None, 2, 2)],
)
def test_alexnet_is_mapped_as_published(layer, e, p, q, r, t):
    """Chen et al., JSSC 2017, table of mappings (recalled): rows of a strip, filters, channels and sets of a pass."""
    size = movement(convolution_of(load_model("alexnet").layer(layer), 4), *EYERISS).size
    assert (size.e, size.p, size.r, size.t) == (e, p, r, t)
    assert q in (None, size.q)


def check_best(layer, array):
    """Of the mappings that take at most a quarter longer than the fastest of all, the one that moves least."""
    mappings = [Movement(layer, size) for size in passes(layer, *array)]
    found = movement(layer, *array)
    if not mappings:
        assert found is None
        return
    fastest = min(mapping.cycles for mapping in mappings)
    least = min((m.cost, m.cycles) for m in mappings if m.cycles <= 1.25 * fastest)
    assert (found.cost, found.cycles) == least


@settings(max_examples=30)
@given(small_layers, small_arrays)
def test_no_mapping_is_better(layer, array):
    """Against all there are, tried one by one."""
    check_best(layer, array)


@pytest.mark.long
@settings(max_examples=1500)
@given(small_layers, small_arrays)
def test_no_mapping_is_better_on_thousands_of_layers(layer, array):
    """Against all there are, tried one by one."""
    check_best(layer, array)


def test_fewer_filters_at_a_time_can_be_faster():
    """By hand: 5 filters of one channel and a 1 x 1 kernel on a row of 3 pixels, one row of 4 elements, each its own
    set, with room for 4 filters an element. Two turns of (1 filter x 4 sets) take 2 x 3 cycles, as do (2 filters x 3
    sets) at once; with 4 filters at a time two sets would take 4 x 3."""
    found = movement(convolution(1, 5, 1, 1, 1, 3, 1), 1, 4, (4, 4, 4), 1000)
    assert (found.cycles, found.size.p, found.size.t, found.passes) == (6, 2, 3, 1)


convolutions = st.builds(
    convolution, st.integers(1, 4), st.integers(1, 40), st.integers(1, 20), st.integers(1, 5), st.integers(1, 20),
    st.integers(1, 20), st.integers(1, 3),
)  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(convolutions)
def test_no_mapping_beats_the_bounds(layer):
    """Time, pads and buffer hold what is mapped; every value comes at least once, and sums are never lost."""
    found = movement(layer, *EYERISS)
    size, (height, width) = found.size, layer.kernel
    assert found.cycles * 12 * 14 >= layer.macs
    assert size.p * size.q * width <= 224
    assert size.q * width <= 12
    assert size.p <= 24
    strip = min(layer.image[0], (size.e - 1) * layer.stride + height)
    assert found.waiting + size.n * size.q * size.r * strip * layer.image[1] <= EYERISS[3]
    values = layer.samples * layer.inputs * layer.image[0] * layer.image[1]
    assert found.inputs_read >= found.inputs_fetched
    assert found.weights_read >= layer.weights
    if layer.stride <= height:  # no row is left out, and each goes into one pad at least
        assert found.inputs_fetched >= values
        assert found.inputs_kept >= found.inputs_read
    rows = layer.results * layer.inputs * height / size.q  # each element's sum goes on to another, or out
    assert found.sums_passed + found.sums_written + layer.results >= rows


def test_what_fits_is_fetched_once():
    """A small convolution is one pass: inputs and weights come once, no sum waits outside the array."""
    layer = Convolution(1, 4, 2, (3, 3), (6, 6), (8, 8))
    found = movement(layer, *EYERISS)
    assert found.passes == 1
    assert found.inputs_fetched == found.inputs_read == 2 * 64
    assert found.weights_read == layer.weights
    assert found.sums_written == 0


def test_a_kernel_that_fits_no_pad_is_an_input_error():
    """Named with the layer and the sizes; and `rs` without pads is caught when the chip is read."""
    with pytest.raises(ConfigError, match=r"'conv1' .* does not fit array"):
        fahw.simulate(load_chip("eyeriss", {"arrays.array.scratchpads.input_words": "8"}), "alexnet", "bp", 4)
    with pytest.raises(ConfigError, match="give their words"):
        load_chip("eyeriss", {"arrays.array.scratchpads": "null"})


def test_gating_saves_energy_and_no_time():
    """A zero input is read and not multiplied."""
    gated, dense = (claims_inference._run(o) for o in ((), claims_inference._WITHOUT_ZEROS))
    assert claims_inference.cycles(gated) == claims_inference.cycles(dense)
    assert claims_inference.energy_per_mac(gated) < claims_inference.energy_per_mac(dense)
    assert claims_inference.dram_per_mac(gated) == claims_inference.dram_per_mac(dense)


def test_dram_accesses_of_eyeriss():
    """0.0029 per multiply-accumulate were measured."""
    assert claims_inference.dram_per_mac(claims_inference._run()) == pytest.approx(0.0029, rel=0.3)


def test_registers_that_are_not_gated_take_the_clock_in_every_cycle():
    """Per multiply-accumulate 12 + 24 registers of 16 bits at 7.94 fJ, as logic at 65 nm and 1.0 V, less the word of
    each pad that an access pays for. The filter pad is an SRAM and takes none; the tree's share of accesses stays."""
    found, gated = (
        claims_inference._run((("arrays.array.scratchpads.clock_gated", value),)) for value in ("false", "true")
    )
    rows = [row for row in found.ledger if row.action == "clock_registers" and row.layer == "conv3"]
    macs = 4 * 384 * 256 * 9 * 13 * 13
    assert {row.tensor: row.count for row in rows} == dict.fromkeys(("weight", "activation", "psum"), macs)
    expected = macs * (11 + 23) * 16 * 0.00794 * logic_energy(65).ratio * (1.0 / 0.9) ** 2
    assert sum(row.energy_pj for row in rows) == pytest.approx(expected, rel=1e-9)
    trees = [[row for row in cost.ledger if row.action == "clock_pad"] for cost in (found, gated)]
    assert trees[0] == trees[1]
    assert [row for row in gated.ledger if row.action == "clock_registers"] == []
    assert found.cycles == gated.cycles
