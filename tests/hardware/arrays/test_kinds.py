"""Kinds of arrays: what a chip file may say of each, and that a new one is a class and its entry in the catalogue."""

from dataclasses import dataclass
from typing import ClassVar, get_args

import pytest

from fahw.chip.cost import simulate
from fahw.errors import ConfigError
from fahw.hardware.array import Phases
from fahw.hardware.arrays.broadcast import Broadcast
from fahw.hardware.arrays.catalogue import DATAFLOWS
from fahw.hardware.load import load_chip
from fahw.technology.constant import Constant
from tests.support.strategies import CHIP, chip_of, marked, network_of, swap


@pytest.mark.parametrize("phase", ["forward", "error", "gradient"])
def test_a_phase_runs_in_the_dataflows_that_say_so(phase):
    """The schema allows those of the catalogue whose kind has the phase."""
    allowed = get_args(get_args(Phases.model_fields[phase].annotation)[0])
    assert set(allowed) == {name for name, kind in DATAFLOWS.items() if phase in kind.phases}
    assert ("rs" in allowed) == (phase == "forward")


@pytest.mark.parametrize("dataflow", [name for name in DATAFLOWS if name != "rs"])
def test_only_kinds_that_can_skip_zeros_may(dataflow, tmp_path):
    """`skip` is refused at its place but where the lanes need not move in step."""
    old = "phases: {forward: os, gradient: os, update: vector}"
    keys = f"phases: {{forward: {dataflow}, gradient: broadcast, update: vector}}"
    keys += "\n    zero_skipping: {activation: @@skip}"
    text, places = marked(swap(CHIP, old, keys))
    (tmp_path / "chip.yaml").write_text(text + "activity: {zero_activation: 0.5, zero_error: 0.5, assumed: a test}\n")
    if DATAFLOWS[dataflow].skips_zeros:
        assert load_chip(tmp_path / "chip.yaml")
        return
    with pytest.raises(ConfigError, match="not for systolic dataflows \\(forward\\)") as caught:
        load_chip(tmp_path / "chip.yaml")
    assert [problem.place.split(":", 1)[1] for problem in caught.value.problems] == places


@dataclass(frozen=True)
class Instant(Broadcast):
    """A kind of this test: every fold takes two cycles, and its elements have an action of their own."""

    name: ClassVar[str] = "instant"

    @classmethod
    def own_actions(cls, array):
        return ("blink",)

    @classmethod
    def action_price(cls, action, widths, array, process):
        return Constant(3.0, "this test", "logic", 1.0)

    def _cycles_of(self, rows, cols):
        return 2

    def element_actions(self, result, widths, useful_macs, idle, repeats):
        actions = super().element_actions(result, widths, useful_macs, idle, repeats)
        return [*actions, type(actions[0])("blink", result, self.folds * repeats, widths)]


def test_a_new_kind_is_a_class_and_its_entry(monkeypatch, tmp_path):
    """With an entry in the catalogue alone a chip runs in it: its cycles, counts and prices are the kind's."""
    monkeypatch.setitem(DATAFLOWS, Instant.name, Instant)
    chip, network = chip_of(tmp_path), network_of(tmp_path)
    array = chip.arrays[0]
    phases = array.phases.model_copy(update={"forward": "instant"})
    arrays = (array.model_copy(update={"phases": phases}), *chip.arrays[1:])
    cost = simulate(chip.model_copy(update={"arrays": arrays, "name": "instant"}), network, "fa", 3)
    for layer in network.weighted:
        positions = layer.outputs // layer.out_shape[0]
        folds = -(-3 * positions // 4) * -(-layer.out_shape[0] // 3)  # of 3 samples on 4 rows, channels on 3 columns
        task = next(t for t in cost.work.tasks if (t.phase, t.layer) == ("forward", layer.name))
        assert task.cycles == 2 * folds
        row = next(r for r in cost.ledger if (r.layer, r.action, r.component) == (layer.name, "blink", "fwd"))
        assert (row.count, row.energy_pj) == (folds, 3.0 * folds)
