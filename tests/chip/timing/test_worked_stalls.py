"""The worked stalls of docs/model.md: start and end of every task, latency and interval equal the simulator's."""

import re
from pathlib import Path

import pytest

import fahw
from fahw.chip.timing.clock import time_step

DOCS = Path(__file__).parents[3] / "docs"
SECTION = (DOCS / "model.md").read_text(encoding="utf-8").split("## 10. Worked stalls")[1].split("\n## ")[0]


def tables():
    """The settings of every case, and its row of times by column."""
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in SECTION.splitlines() if line[:1] == "|"]
    starts = [i for i, line in enumerate(lines) if line[0] == "case"]
    settings = {
        line[0]: dict(item.split(": ") for item in re.findall(r"`(.+?)`", line[1])) for line in lines[2 : starts[1]]
    }
    names = lines[starts[1]]
    return settings, {line[0]: dict(zip(names, line, strict=True)) for line in lines[starts[1] + 2 :]}


SETTINGS, TIMES = tables()


def simulated(case):
    chip = fahw.load_chip(DOCS / "worked_chip.yaml", SETTINGS[case])
    return chip, fahw.simulate(chip, DOCS / "worked_model.yaml", "bp", 2, "copy")


def test_there_are_six_cases_beside_the_one_without_stalls():
    """Both tables have the same cases."""
    assert list(SETTINGS) == list(TIMES)
    assert len(SETTINGS) == 7


@pytest.mark.parametrize("case", TIMES)
def test_tasks_start_and_end_as_worked_out(case):
    """Every task, to the cycle."""
    cost = simulated(case)[1]
    names = {("forward", "input"): "input"}
    found = {
        names.get((span.phase, span.layer), f"{span.phase} {span.layer}"): f"{span.start}-{span.end}"
        for span in cost.timing.spans
    }
    found |= {"case": case, "cycles": str(cost.cycles), "interval": f"{cost.interval_cycles:g}"}
    assert found == TIMES[case]


@pytest.mark.parametrize("case", TIMES)
def test_the_case_without_stalls_is_the_fastest(case):
    """Fold by fold, too, slow parts make a step slower, and bursts of these small tasks are its folds."""
    chip, cost = simulated(case)
    exact = time_step(cost.work.tasks, chip.tiles_per_task, chip.steps_in_flight, exact=True)
    assert exact.cycles == cost.cycles
    assert cost.cycles >= int(TIMES["none"]["cycles"])


def test_stalls_of_the_slow_reads():
    """The cycles that the array waits for the weights are those of the text."""
    assert simulated("slow reads")[1].timing.stalls["fwd", "load weights.read"] == 61
