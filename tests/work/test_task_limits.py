"""A step that would take minutes and gigabytes to simulate is refused before its tasks are made."""

import pytest

from fahw.chip.cost import simulate
from fahw.errors import ConfigError
from fahw.hardware.load import load_chip
from fahw.work import training_step
from fahw.work.training_step import MOST_FLOWS, MOST_TASKS
from tests.support.strategies import network_of


@pytest.mark.parametrize("batch_size", [2000, 10_000_000])
def test_micro_batches_without_number_are_refused(batch_size, monkeypatch):
    """With one sample to a micro-batch, twenty thousand tasks are soon reached; none is made."""
    monkeypatch.setattr(training_step, "_tasks", None)
    chip = load_chip("edge_dual", {"micro_batch": 1})
    with pytest.raises(
        ConfigError, match=f"{batch_size:,} micro-batches.*at most {MOST_TASKS:,} are simulated"
    ) as caught:
        simulate(chip, "mlp_digits", "bp", batch_size)
    assert caught.value.problems[0].key == "micro_batch"


def test_the_bound_of_tasks_holds_what_a_step_has():
    """What is refused is not less than what would have been made."""
    chip = load_chip("edge_dual", {"micro_batch": 5})
    tasks = len(simulate(chip, "lenet5", "bp", 12).work.tasks)
    for limit, is_refused in ((tasks - 1, True), (3 * (2 + 3 * 5) + 3 * 5, False)):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(training_step, "MOST_TASKS", limit)
            if is_refused:
                with pytest.raises(ConfigError, match="tasks"):
                    simulate(chip, "lenet5", "bp", 12)
            else:
                assert simulate(chip, "lenet5", "bp", 12).cycles > 0


WIDE = "name: wide\ninput: [4096]\nlayers: [{kind: linear, out: 4096}, {kind: relu}, {kind: linear, out: 4096}]\n"


@pytest.mark.parametrize("multicast", [True, False])
def test_messages_from_everywhere_to_everywhere_are_refused(multicast, tmp_path):
    """400 cores that each tell 400 others something use millions of links."""
    cores = {"linear1": list(range(400)), "linear2": list(range(400, 800))}
    mesh = {"mesh.rows": 64, "mesh.cols": 64, "mesh.multicast": multicast, "mesh.placement": cores}
    with pytest.raises(ConfigError, match=f"more than {MOST_FLOWS:,} times a step"):
        simulate(load_chip("neurocore_mesh", mesh), network_of(tmp_path, WIDE), "bp", 1)
