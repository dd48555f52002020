"""Accesses to tensors with two homes, by hand: which share is where, and what comes in turn through both."""

import pytest

from fahw.hardware.load import load_chip
from fahw.work.counts.accesses import InTurn
from fahw.work.counts.task_accesses import TaskAccesses, TaskShares
from tests.support.plans import with_outer_home

CHIP = with_outer_home(load_chip("edge_dual"), 64, 16)


def accesses(inner, anywhere):
    """Those of a task that finds these shares of activations in the innermost home, and in either."""
    shares = [{"activation": share} for share in (inner, anywhere)]
    both = [TaskShares(share, share, share) for share in shares]
    return TaskAccesses(CHIP, "", TaskShares(*[shares[0]] * 3, anywhere=both[1]))


def counted(traffic):
    """Counts by component and action, rows of DRAM aside."""
    found = {}
    for count in traffic.counts:
        if count.action != "activate" and count.count:
            found[count.component, count.action] = found.get((count.component, count.action), 0) + count.count
    return found


def test_a_read_finds_a_share_in_either_home_and_the_rest_in_dram():
    """1,000 values of 8 bits in words of 64: 125 words are read; half are brought from behind, a quarter from
    DRAM."""
    memory = CHIP.home("activation")
    found = counted(accesses(0.25, 0.75).read(memory, "activation", [(1, 1000)], 8))
    assert found == {
        ("buffer_sram", "read"): 125, ("buffer_sram", "write"): 63 + 32, ("behind", "read"): 63, ("dram", "read"): 2000,
    }  # fmt: skip


def test_values_in_turn_come_to_the_outer_home_and_from_there():
    """2,000 values of 8 bits come to the local memory if none is there, 1,500 from DRAM: of 16,000 bits 12,000 are
    moved, of 12,000 3,000 come from DRAM and are written behind."""
    memory = CHIP.home("activation")
    found = counted(accesses(0.25, 0.75).read(memory, "activation", [(1, 1000)], 8, fetched=InTurn(2000, 1500)))
    assert found == {
        ("buffer_sram", "read"): 125, ("buffer_sram", "write"): 188, ("behind", "read"): 188,
        ("behind", "write"): 47, ("dram", "read"): 3000,
    }  # fmt: skip


def test_what_is_kept_behind_until_a_first_read_goes_to_both():
    """Half of a tensor is written behind and all of it to DRAM: nothing stays in the innermost home to the end."""
    memory = CHIP.home("activation")
    found = counted(accesses(-0.5, 0.0).write(memory, "activation", [(1, 1000)], 8))
    assert found == {
        ("buffer_sram", "write"): 125, ("buffer_sram", "read"): 63 + 125, ("behind", "write"): 63,
        ("dram", "write"): 8000,
    }  # fmt: skip


def test_sums_go_on_to_their_outer_home_and_from_there_to_dram():
    """100 sums of 32 bits, 50 words there and back; of these 40 to DRAM and back."""
    own = accesses(1.0, 1.0)
    found = counted(own.outer_trip(CHIP.home("psum"), "psum", 100, 32) + own.sums_beyond(40, 32))
    assert found == {
        ("buffer_sram", "read"): 50, ("buffer_sram", "write"): 50, ("behind", "read"): 50 + 20,
        ("behind", "write"): 50 + 20, ("dram", "read"): 1280, ("dram", "write"): 1280,
    }  # fmt: skip


@pytest.mark.parametrize("tensor", ["activation", "psum"])
def test_a_chip_with_one_home_has_none_behind(tensor):
    assert load_chip("edge_dual").outer_home(tensor) is None
    assert not load_chip("edge_dual").has_outer_homes
    assert CHIP.outer_home(tensor).name == "behind"
