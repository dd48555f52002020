"""How tasks are cut: nobody keeps lanes or a port for long, and a faster part slows no task down by more than that."""

import pytest

from fahw.chip.timing.bursts import isolated_cycles
from fahw.hardware.load import load_chip
from fahw.work.counts.accesses import Traffic
from fahw.work.counts.record import Flow
from fahw.work.tasks import lane_task

ARRAY = load_chip("edge_dual").arrays[0]
LANES = f"{ARRAY.name}.vector"


def update(lanes, load, drain):
    """A task of `lanes` lane-cycles that loads and drains for so many cycles."""
    drains = (Flow(LANES, lanes, 1), Flow("m.write", drain, 1))
    return lane_task("update", "l", ARRAY, Traffic(loads=(Flow("m.read", load, 1),), drains=drains), [])


def test_a_task_of_the_lanes_overlaps_its_loads_with_its_drains_however_fast_they_are():
    """By hand: 26 cycles of lanes with 50 of loads and 50 of drains are four folds of at most 13 cycles at a port. The
    first fold is loaded by 13 and computed by 20, the drains of all take until 70; with 13 cycles of lanes it is 67."""
    for lanes, length in ((26, 7), (13, 4)):
        task = update(lanes, 50, 50)
        assert (task.folds, task.fold_cycles, task.cycles) == (4, length, lanes)
        assert isolated_cycles(task, 4) == 13 + length + 50


@pytest.mark.parametrize("port", [8, 50, 1000])
def test_more_lanes_slow_no_update_down_by_more_than_a_fold(port):
    """Whatever the lanes take, 17 cycles say, with fewer the task ends at most 16 cycles later."""
    cycles = [isolated_cycles(update(lanes, port, port)) for lanes in range(200, 0, -1)]
    assert all(later <= min(cycles[:i], default=later) + 16 for i, later in enumerate(cycles))
