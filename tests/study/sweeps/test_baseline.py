"""Every point of a sweep against the best backpropagation: who it meets, what it saves, what moves that."""

import csv

import pytest

import fahw
from fahw.chip.timing import clock
from fahw.config.sweep import Sweep
from fahw.hardware.load import load_chip
from fahw.study.costs import cost_record, verdict
from fahw.study.sweeps.sweep import sweep
from tests.support.steps import step

LENGTHS = (1, 8)


def rows_of(folder, name="summary"):
    return list(csv.DictReader((folder / f"{name}.csv").read_text().splitlines()))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Costs of three rules on two lengths of the link."""
    grid = {"rule": ("bp", "usf", "dfa"), "chip.links.transport_link.length_mm": LENGTHS}
    out = tmp_path_factory.mktemp("sweep")
    sweep(Sweep(name="s", train=False, grid=grid, set={"batch_size": 8}), out=out, workers=1)
    return out


def chip_with(length):
    chip = load_chip("edge_dual")
    links = tuple(link.model_copy(update={"length_mm": length}) for link in chip.links)
    return chip.model_copy(update={"links": links})


def test_a_point_meets_backpropagation_under_its_best_form_on_its_own_chip(folder):
    """The saving is that of `fahw.study.costs.verdict`, against the least of copy, write_through and shared."""
    network = fahw.load_model("mlp_digits")
    rows = {(row["rule"], row["axis.chip.links.transport_link.length_mm"]): row for row in rows_of(folder)}
    for length in LENGTHS:
        chip = chip_with(length)
        forms = [fahw.simulate(chip, network, "bp", 8, form) for form in (*chip.transport, "shared")]
        best = min(forms, key=lambda cost: cost.energy_pj)
        for rule in ("usf", "dfa"):
            row, mine = rows[rule, str(length)], fahw.simulate(chip, network, rule, 8)
            by_hand = verdict.saving(mine.ledger, best.ledger)
            assert row["baseline_transport"] == best.transport
            found = [float(row[name]) for name in ("saving_per_step", "saving_low", "saving_high")]
            assert found == pytest.approx([by_hand.value, by_hand.low, by_hand.high], abs=1e-9)
            assert row["winner"] == by_hand.winner
            assert float(row["time_saving"]) == pytest.approx(1 - mine.seconds / best.seconds)
    assert {rows["bp", str(length)]["saving_per_step"] for length in LENGTHS} == {""}


def test_sensitivity_ranks_axes_and_constants_by_how_far_they_move_the_saving(folder):
    """An axis's ends are the means at its values; rows come the widest first; a flip is a change of sign."""
    rows, points = rows_of(folder, "sensitivity"), rows_of(folder)
    for rule in ("usf", "dfa"):
        mine = [row for row in rows if row["rule"] == rule]
        widths = [float(row["saving_high"]) - float(row["saving_low"]) for row in mine]
        assert widths == sorted(widths, reverse=True)
        (axis,) = (row for row in mine if row["kind"] == "axis")
        values = [float(p["saving_per_step"]) for p in points if p["rule"] == rule]
        assert [float(axis["saving_low"]), float(axis["saving_high"])] == pytest.approx(sorted(values))
        assert {row["name"] for row in mine if row["kind"] == "constants"} >= {"sram", "logic", "leakage"}
        for row in mine:
            assert int(row["flips"]) == (float(row["saving_low"]) < 0 < float(row["saving_high"]))


def test_a_sweep_without_other_rules_prices_no_rivals(tmp_path):
    """Nobody to compare with: nothing more than its points is priced."""
    sweep(Sweep(name="s", train=False, grid={"chip.clock_mhz": (100, 200)}), out=tmp_path, workers=1)
    (path,) = (tmp_path / "costs").glob("*.jsonl")
    assert len(path.read_text().splitlines()) == 2


@pytest.mark.parametrize("change", [{}, {"clock_mhz": 33.0}, {"micro_batch": 4}, {"tiles_per_task": 2}])
def test_a_timing_made_before_is_the_one_that_would_be_made(change, monkeypatch):
    """Chips that differ in energies share it; one that differs in time does not."""
    network, rule = fahw.load_model("lenet5"), fahw.rules.catalogue.RULES["bp"]
    chip = load_chip("dram_bound").model_copy(update=change)
    base = load_chip("dram_bound")
    steps = [step(c, network, rule, 16) for c in (base, chip)]
    for work, made in zip(steps, (base, chip), strict=True):
        args = (work.tasks, made.tiles_per_task, made.steps_in_flight)
        assert clock.time_step(*args) == clock.simulate_step(*args)
    monkeypatch.setattr(clock, "simulate_step", None)
    memory = base.memories[0].model_copy(update={"device": "hp"})
    dear = base.model_copy(update={"memories": (memory, *base.memories[1:])})
    again = step(dear, network, rule, 16)
    assert clock.time_step(again.tasks, dear.tiles_per_task, dear.steps_in_flight).cycles


def area_rows(tmp_path, mapping, *batches):
    spec = Sweep(
        name="s", chip="edge_dual", model="mlp_mnist", train=False, set={"chip.mapping": mapping},
        grid={"rule": ("bp", "fa"), "batch_size": batches},
    )  # fmt: skip
    sweep(spec, out=tmp_path, workers=1)
    return rows_of(tmp_path, "equal_area")


def test_at_equal_area_backpropagation_gets_the_second_memory_as_more_of_what_overflows(tmp_path):
    """Where activations spill, in one order of loops, by hand: as many banks as fit into the area of the chip with two
    memories."""
    chip = load_chip("edge_dual", {"mapping": "fixed"})
    bank = {m.name: m.area(chip.technology, m.bank) for m in chip.memories}
    rows = {row["axis.batch_size"]: row for row in area_rows(tmp_path, "fixed", 8, 1024)}
    assert rows["8"]["added_kib"] == "0.0"
    assert rows["8"]["grown_memory"] == ""
    row = rows["1024"]
    assert row["grown_memory"] == "buffer_sram"
    freed = 320 / 64 * bank["feedback_sram"]
    assert 0 < float(row["added_kib"]) <= freed / bank["buffer_sram"] * 64
    assert float(row["baseline_area_mm2"]) <= fahw.chip.area.area_mm2(chip, transposable=False)
    network = fahw.load_model("mlp_mnist")
    small = fahw.simulate(chip, network, "bp", 1024, "shared")
    mine = fahw.simulate(chip, network, "fa", 1024)
    assert float(row["baseline_energy_pj_per_step"]) < small.energy_pj
    assert float(row["saving_per_step"]) == pytest.approx(
        1 - mine.energy_pj / float(row["baseline_energy_pj_per_step"]), rel=1e-9
    )


def test_under_the_best_mappings_the_shared_baseline_has_the_area_where_it_pays(tmp_path):
    """Its own cost says so: four more banks of buffer at batch 4,096, and none at 8."""
    rows = {row["axis.batch_size"]: row for row in area_rows(tmp_path, "best", 8, 4096)}
    grown = {batch: (row["grown_memory"], float(row["added_kib"])) for batch, row in rows.items()}
    assert grown == {"8": ("", 0.0), "4096": ("buffer_sram", 256.0)}
    shared = fahw.simulate("edge_dual", "mlp_mnist", "bp", 4096, "shared")
    assert float(rows["4096"]["baseline_energy_pj_per_step"]) == shared.energy_pj


def test_what_a_training_showed_prices_its_point_where_the_chip_uses_it(tmp_path):
    """A chip that moves only words that changed: the cost is `simulate`'s with the measured activity, the baseline's
    too; each activity is a cost of its own."""
    settings = {"chip.transport_options.changed_words_only": True}
    grid = {"rule": ("bp", "dfa"), "model.recipe.learning_rate": (0.02, 0.2)}
    result = sweep(Sweep(name="s", epochs=1, set=settings, grid=grid), out=tmp_path, workers=1)
    assert not result.failed
    chip = load_chip("edge_dual")
    options = chip.transport_options.model_copy(update={"changed_words_only": True})
    chip = chip.model_copy(update={"transport_options": options})
    network = fahw.load_model("mlp_digits")
    for point in result.points:
        seen = point.runs[0].activity
        by_hand = fahw.simulate(chip, network, point.rule, 32, activity=seen)
        assert point.cost["energy_pj"] == by_hand.energy_pj
        assert point.cost["transported_bits"] == by_hand.transported_bits
    slow, fast, *_ = result.points
    assert slow.runs[0].activity != fast.runs[0].activity
    assert slow.cost_key != fast.cost_key
    assert slow.cost["transported_bits"] != fast.cost["transported_bits"]
    before = (tmp_path / "summary.csv").read_bytes()
    sweep(Sweep(name="s", epochs=1, set=settings, grid=grid), out=tmp_path, workers=1)
    assert (tmp_path / "summary.csv").read_bytes() == before


def test_one_memory_costs_the_same_whatever_the_links_to_the_other():
    """It is priced once for all lengths of a link that it does not have; a change of the memory is another cost."""
    chips = [chip_with(1), chip_with(8)]
    slow = chips[0].model_copy(update={"clock_mhz": 50.0})
    network = fahw.load_model("mlp_digits")

    def key(chip, form):
        return cost_record.Request(cost_record.pack_chip(chip), network, "bp", 8, form).key("n")

    assert key(chips[0], "shared") == key(chips[1], "shared") != key(slow, "shared")
    assert key(chips[0], "copy") != key(chips[1], "copy")
    costs = [cost_record.cost_record(fahw.simulate(chip, network, "bp", 8, "shared")) for chip in chips]
    assert costs[0] == costs[1]


def test_at_equal_accuracy_each_rule_shows_its_cheapest_point_that_is_good_enough(tmp_path):
    """Within a point of the best backpropagation's test accuracy; the least energy first."""
    grid = {"rule": ("bp", "usf"), "chip.precision.weight": (8, 2), "batch_size": (16, 64)}
    sweep(Sweep(name="s", epochs=2, grid=grid), out=tmp_path, workers=1)
    points = [(p["rule"], float(p["accuracy_pct_mean"]), float(p["energy_pj_per_sample"])) for p in rows_of(tmp_path)]
    limit = max(accuracy for rule, accuracy, _ in points if rule == "bp") - 1
    cheapest = {
        rule: min(energy for name, accuracy, energy in points if name == rule and accuracy >= limit)
        for rule in {name for name, accuracy, _ in points if accuracy >= limit}
    }
    found = [(row["rule"], float(row["energy_pj_per_sample"])) for row in rows_of(tmp_path, "equal_accuracy")]
    assert found == sorted(cheapest.items(), key=lambda item: item[1])


@pytest.mark.parametrize("name", ["edge_dual", "edge_shared", "dfa_prng", "dram_bound", "neurocore_mesh", "tpu_like"])
def test_a_packed_chip_is_the_same_chip_again(name):
    """Also the one without a feedback memory, which no file says."""
    chip = load_chip(name)
    for each in (chip, chip.without_feedback_memory()):
        assert cost_record.pack_chip(each).unpack() == each
