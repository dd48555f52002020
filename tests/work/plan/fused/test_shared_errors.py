"""Errors that two tasks share tile by tile: counts by hand, what is saved, their room, and pins that cannot be."""

import pytest

import fahw
from fahw.errors import ConfigError
from fahw.hardware.load import load_chip
from fahw.network.load import load_model
from fahw.report.mappings import pinned_text
from fahw.work.plan import search
from tests.support.plans import others_pj, searched, step_pj
from tests.support.strategies import CHIP, MODEL, chip_of, marked, network_of, swap

STRIDED = "  - {kind: conv2d, out: 4, kernel: 3, padding: 1, stride: 2}\n  - {kind: relu}\n  - {kind: maxpool2d"
NETWORK = swap(MODEL, "  - {kind: relu}\n  - {kind: maxpool2d", STRIDED)
"""Its second convolution has 4 x 2 x 2 outputs a sample, and 4 x 27 weights."""
DRAM = "mapping: best\npinned_mappings: pins.yaml\ndram: {kind: lpddr4, gbyte_per_s: 1, assumed: a test}\n"
SHARED = "shared_errors:\n- {name: error conv2d2, samples: 2}\n"


def pinned_on(folder, rule, entries, text=CHIP, batch=8):
    """The cost of eight samples on the tiny chip, with these entries."""
    (folder / "pins.yaml").write_text(entries, encoding="utf-8")
    return fahw.simulate(chip_of(folder, DRAM + text), network_of(folder, NETWORK), rule, batch)


def bits_of(cost, layer, component, action, tensor):
    return sum(
        row.count
        for row in cost.ledger
        if (row.layer, row.component, row.action, row.tensor) == (layer, component, action, tensor)
    )


def products_of(cost, layer, phase):
    return [(one.sizes, one.repeats) for one in cost.work.plan.products if (one.layer, one.phase) == (layer, phase)]


def test_layer_by_layer_an_error_is_brought_once_for_both_tasks(tmp_path):
    """8 samples x 16 errors x 8 bits, none of them there; three times 4 x 27 sums of 32 bits wait for the next two."""
    cost = pinned_on(tmp_path, "bp", SHARED + "kept_tensors:\n- {name: error conv2d2, shares: [0, 0]}\n")
    assert bits_of(cost, "conv2d2", "dram", "read", "error") == 8 * 16 * 8
    assert products_of(cost, "conv2d2", "gradient") == [((4, 27, 2 * 4), 4)]
    assert [times for _, times in products_of(cost, "conv2d2", "error")] == [4] * 4
    sums = [row for row in cost.ledger if (row.layer, row.phase, row.tensor) == ("conv2d2", "gradient", "psum")]
    assert {(row.action, row.count) for row in sums if row.component == "buffer"} == {
        ("write", 3 * 4 * 27), ("read", 3 * 4 * 27),
    }  # fmt: skip


def test_under_a_direct_rule_dram_does_not_see_the_error(tmp_path):
    """The task that makes it, of the layer above, has sub-batches too."""
    cost = pinned_on(tmp_path, "dfa", SHARED)
    assert not bits_of(cost, "conv2d2", "dram", "read", "error") + bits_of(cost, "linear1", "dram", "write", "error")
    assert [times for _, times in products_of(cost, "linear1", "error")] == [4]
    assert products_of(cost, "conv2d2", "gradient") == [((4, 27, 2 * 4), 4)]
    (record,) = cost.work.plan.fused
    assert (record.tasks, record.samples) == (("error linear1", "gradient conv2d2"), 2)


@pytest.mark.parametrize(("kib", "batch"), [(1, 8), (2, 64)])
def test_a_shared_error_leaves_room_for_smaller_tiles(kib, batch, tmp_path):
    """Where the largest tiles do not fit beside it, others are taken."""
    buffer = "holds: [psum, mask, error, activation]\n    size_kib: "
    small = swap(CHIP, f"{buffer}64\n    bank_kib: 16", f"{buffer}{kib}\n    bank_kib: 1")
    (record,) = pinned_on(tmp_path, "dfa", SHARED, small, batch).work.plan.fused
    assert (record.name, record.samples) == ("error conv2d2", 2)


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ("{name: @@error conv2d9, samples: 2}", "did you mean 'error conv2d2'"),
        ("{name: @@weight conv2d1, samples: 2}", "no two tasks can share"),
        ("{name: error conv2d2, samples: @@3}", "of 8 samples (got 3)"),
        ("{name: error conv2d2, samples: @@8}", "of 8 samples (got 8)"),
    ],
)
def test_what_cannot_be_shared_is_refused_at_its_place(entry, said, tmp_path):
    text, places = marked(f"shared_errors:\n- {entry}\n")
    with pytest.raises(ConfigError) as caught:
        pinned_on(tmp_path, "bp", text)
    (problem,) = caught.value.problems
    assert said in problem.message
    assert str(problem.place).endswith(f"pins.yaml:{places[0]}")


@pytest.mark.parametrize("network", ["alexnet", pytest.param("vgg8", marks=pytest.mark.slow)])
def test_sharing_saves_what_the_search_says_in_the_room_that_there_is(network, monkeypatch):
    """On tpu_like under dfa: less energy than without, as the ledger counts it, and no memory is too full."""
    chip, model = load_chip("tpu_like"), load_model(network)
    one = searched(chip, model, "dfa", 64)
    assert one.step.plan.fused
    assert abs(others_pj(one) - one.keeping.others_pj(one.shares, one.found.products)) <= 1e-4 * step_pj(one)
    assert not list(one.keeping.overfull(one.found.products, one.shares))
    monkeypatch.setattr(search, "worth_sharing", lambda *_: ())
    apart = searched(chip, model, "dfa", 64)
    assert not apart.step.plan.fused
    assert one.found.cost < apart.found.cost
    assert step_pj(one) < step_pj(apart)


def test_what_is_shared_can_be_saved_and_pinned(tmp_path):
    """The same ledger, times and decisions."""
    best = {"mapping": "best"}
    cost = fahw.simulate(load_chip("tpu_like", best), "alexnet", "dfa", 64)
    (tmp_path / "pins.yaml").write_text(pinned_text(cost), encoding="utf-8")
    again = load_chip("tpu_like", best | {"pinned_mappings": str(tmp_path / "pins.yaml")})
    other = fahw.simulate(again, "alexnet", "dfa", 64)
    assert cost.work.plan.fused
    assert (cost.ledger, cost.timing, cost.work.plan) == (other.ledger, other.timing, other.work.plan)
