"""Prices that the search goes by are those of the ledger's rows."""

import pytest

from fahw.chip.cost import simulate
from fahw.hardware.load import load_chip
from fahw.network.load import load_model
from tests.support.joint_plans import products_of
from tests.support.plans import searched


@pytest.mark.parametrize("bits", [20, 32])
def test_a_window_sum_costs_more_than_one_that_waits_by_an_addition_as_the_ledger_has_it(bits):
    chip = load_chip("edge_shared", {"error_form": "scatter", "precision.accumulator": str(bits)})
    network, layer = load_model("resnet20"), "layer1_0_conv2"
    one = searched(chip, network, "bp", 16)

    rows = [row for row in simulate(chip, network, "bp", 16).ledger if (row.tensor, row.layer) == ("psum", layer)]
    added = [row.energy_pj / row.count for row in rows if row.action in ("add", "clock_add")]
    (task,) = (task for task in one.keeping.tasks if task.task == ("error", layer))
    prices = [seen.product.prices for seen in products_of(one, task)["scatter"]]

    assert len(added) == 2
    assert [each.window_sum - each.partial_sum for each in prices] == pytest.approx([sum(added)])
