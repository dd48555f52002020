"""What layers without weights cost, against counts made by hand in docs/model.md, through whole training steps."""

import pytest

from fahw.chip.cost import simulate
from fahw.layers.catalogue import KINDS, examples
from tests.support.hand_counts import again_by_hand, chip_of_bits, differences, moving_kinds, network_of, rows

ROWS = rows()
KINDS_WITHOUT_WEIGHTS = [name for name, kind in KINDS.items() if not kind.weighted]


@pytest.mark.parametrize("row", ROWS, ids=str)
@pytest.mark.parametrize(("batch", "micro_batch"), [(3, None), (5, 2)])
def test_a_step_counts_what_the_table_says(row, batch, micro_batch):
    """Lane operations, mask bits, values that are kept and read again, random bits, parameters; in one batch of 3, and
    in micro-batches of 2, 2 and 1."""
    assert differences(row, batch, micro_batch) == {}


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_computed_again_a_layer_does_what_it_did_but_for_statistics_that_are_known(row):
    """Per sample and per batch; a batch norm has the mean and the inverse deviation of each channel left."""
    (layer,) = (layer for layer in network_of(row).layers if layer.kind == row.kind)
    again = [
        {(each.action, each.widths): each.times for each in operations}
        for operations in (layer.repeated_operations(), layer.repeated_constants())
    ]
    assert again == again_by_hand(row)


@pytest.mark.parametrize("kind", KINDS_WITHOUT_WEIGHTS)
def test_every_kind_is_counted_by_hand_on_two_shapes(kind):
    """A new kind needs its rows: without them nobody has counted what it costs."""
    shapes = {row.shapes for row in ROWS if row.kind == kind}
    assert len(shapes) >= 2, f"docs/model.md counts {kind} by hand on {len(shapes)} shapes: give it rows of two or more"


@pytest.mark.parametrize("layer", examples(), ids=lambda layer: layer.kind)
def test_no_kind_is_free_without_a_word(layer):
    """A kind multiplies its weights, has operations on the lanes, or stands among those that only move values."""
    computes = any(each.times for each in (*layer.forward_operations(), *layer.error_operations()))
    listed = layer.kind in moving_kinds()
    assert (layer.macs > 0) + computes + listed == 1, (
        f"{layer.kind}: give it lane operations, or name it in docs/model.md among the kinds that only move values"
    )


def test_the_table_counts_only_kinds_that_there_are():
    assert {row.kind for row in ROWS} <= set(KINDS)


def test_the_row_that_the_document_works_out_in_full():
    """A maximum pooling of 3 x 3 windows on 5 samples of 8 bits: 360 comparisons, 2.6496 pJ at 45 nm."""
    (row,) = (row for row in ROWS if row.kind == "maxpool2d" and row.layer["kernel"] == 3)
    cost = simulate(chip_of_bits(precision={}), network_of(row), "bp", 5)
    (found,) = (item for item in cost.ledger if item.action == "compare" and item.phase == "forward")
    assert (found.count, found.energy_pj) == (360, pytest.approx(2.6496))
