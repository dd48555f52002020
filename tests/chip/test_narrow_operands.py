"""Elements with operands narrower than they are built for, and a clock that is counted once: prices by hand."""

import pytest

import fahw
from fahw.study.costs.verdict import saving

MAC, REGISTERS, OWN_CLOCK = 0.2 + 0.1, 0.009, 0.00794  # pJ: 8 x 8 + 32 bits, per bit, per bit


def rows(rule, changes, action):
    cost = fahw.simulate(fahw.load_chip("edge_dual", changes), fahw.load_model("mlp_mnist"), rule, 32)
    return [row for row in cost.ledger if row.action == action and row.phase == "error"]


def cycle_pj(product_pj, moved_bits, clock_share=0.35):
    """An element's cycle: product, 32-bit sum, registers, and the tree's share of what is not the registers' clock."""
    bits = moved_bits + 32
    active = product_pj + 0.1 + REGISTERS * bits
    return active + clock_share * (active - OWN_CLOCK * bits)


def test_the_clock_tree_is_a_share_of_what_is_not_the_registers_own_clock():
    """8 x 8 + 32 bits, operands shifting: .35 x (.732 - 48 x .00794) = .1228 pJ; with the registers' own clock that is
    half of a cycle, not two thirds."""
    (mac, clock) = (rows("bp", {}, action)[0] for action in ("mac", "clock"))
    assert mac.unit_pj == pytest.approx(MAC)
    assert clock.unit_pj == pytest.approx(0.35 * (0.732 - 48 * OWN_CLOCK))


def test_a_one_bit_product_leaves_a_share_of_the_element_running():
    """usf: 1 x 8 bits in an 8 x 8 element take .1 of what the unused part would, uncertain from .01 to all of it."""
    used, widest = cycle_pj(0.00057 * 8, 9), cycle_pj(0.2, 16)
    (row, *_) = rows("usf", {}, "ungated")
    assert row.unit_pj == pytest.approx(0.1 * (widest - used))
    assert (row.price.kind, row.price.factor) == ("gating", 10.0)
    (mac, *_) = rows("usf", {}, "mac")
    assert row.count == mac.count


def test_without_any_gating_a_narrow_product_costs_as_much_as_a_wide_one():
    """At `ungated_share` 1 the array's energy in the error path is that of fa's 8-bit products."""

    def array_pj(rule):
        changes = {"arrays.1.ungated_share": 1.0}
        actions = ("mac", "shift_operand", "shift_psum", "clock", "ungated")
        per_layer = {}
        for action in actions:
            for row in rows(rule, changes, action):
                if row.component == "error_array":
                    per_layer[row.layer] = per_layer.get(row.layer, 0.0) + row.energy_pj
        return per_layer

    narrow, wide = array_pj("usf"), array_pj("fa")
    assert narrow.keys() == wide.keys()
    assert narrow
    for layer, energy in wide.items():
        assert narrow[layer] == pytest.approx(energy)


def test_the_verdicts_range_reaches_from_full_gating_to_none():
    """usf's saving on edge_dual depends on the gating by more than a point; its range holds both ends."""
    network = fahw.load_model("mlp_mnist")

    def costs(share):
        changes = {f"arrays.{i}.ungated_share": share for i in range(2)}
        chip = fahw.load_chip("edge_dual", changes)
        return [fahw.simulate(chip, network, rule, 32).ledger for rule in ("usf", "bp")]

    here = saving(*costs(0.1))
    ends = [saving(*costs(share)).value for share in (0.0, 1.0)]
    assert here.low < min(ends) < here.value < max(ends) < here.high
    assert ends[0] - ends[1] > 0.01


def test_full_width_operands_leave_nothing_unused():
    """No row where the operands are as wide as the element."""
    assert not rows("fa", {}, "ungated")


def test_a_given_energy_of_a_mac_is_that_of_the_whole_element():
    """Where the file gives it, nothing is added for what narrow operands leave unused."""
    given = [{"component": "error_array", "action": "mac", "pj": 0.5, "source": "measured"}]
    assert all(row.energy_pj == 0 for row in rows("usf", {"energies": given}, "ungated"))
