"""Mappings that a search found: shown, saved, pinned; and every pinned entry that cannot be, at its place."""

import json
from math import prod
from types import SimpleNamespace

import pytest

import fahw
from fahw.datasets.dataset import load_dataset
from fahw.errors import ConfigError
from fahw.hardware.load import load_chip
from fahw.report.cost_files import line_of
from fahw.report.mappings import mapping_table, pinned_text
from fahw.study.costs.cost_record import pack_chip
from fahw.study.training import make_jobs
from tests.support.strategies import CHIP, MODEL, chip_of, marked, network_of, swap

BEST, PINNED = "mapping: best\n", "mapping: best\npinned_mappings: pins.yaml\n"
STRIDED = "  - {kind: conv2d, out: 4, kernel: 3, padding: 1, stride: 2}\n  - {kind: relu}\n  - {kind: maxpool2d"
NETWORK = swap(MODEL, "  - {kind: relu}\n  - {kind: maxpool2d", STRIDED)
"""Its second convolution has an error that four products gather, or one scatters: (32, 27, 4) at a batch of 8."""
DRAM = "dram: {kind: lpddr4, gbyte_per_s: 1, assumed: a test}\n"
SMALL = "layer: linear1, phase: forward, dataflow: os, tile: [8, 5, 2], order: kmn"
"""A product of (8, 5, 4), whose 40 sums are left once and gone on with."""


def found_on(folder, text=CHIP, rule="bp", batch_size=8, transport=None, more=BEST):
    """The cost of a step on the tiny chip."""
    return fahw.simulate(chip_of(folder, more + text), network_of(folder, NETWORK), rule, batch_size, transport)


def pinned_on(folder, entries, text=CHIP, rule="bp", batch_size=8, transport=None):
    """The same where the entries stand in a file beside the chip's."""
    (folder / "pins.yaml").write_text(entries, encoding="utf-8")
    return found_on(folder, text, rule, batch_size, transport, PINNED)


def is_the_same(first, second):
    return (first.ledger, first.timing, first.work.plan) == (second.ledger, second.timing, second.work.plan)


@pytest.mark.parametrize(
    ("model", "rule", "transport"),
    [
        ("lenet5", "bp", None), ("lenet5", "bp", "shared"),
        pytest.param("resnet20", "bp", None, marks=pytest.mark.slow),
        pytest.param("resnet20", "dfa", None, marks=pytest.mark.slow),
        pytest.param("vgg8", "bp", None, marks=pytest.mark.slow),
    ],
)  # fmt: skip
def test_what_is_saved_can_be_pinned_and_costs_the_same(model, rule, transport, tmp_path):
    """The same rows of the ledger to the bit, the same times, the same decisions."""
    best = {"mapping": "best"}
    cost = fahw.simulate(load_chip("edge_dual", best), model, rule, 32, transport)
    (tmp_path / "pins.yaml").write_text(pinned_text(cost), encoding="utf-8")
    chip = load_chip("edge_dual", best | {"pinned_mappings": str(tmp_path / "pins.yaml")})
    assert is_the_same(cost, fahw.simulate(chip, model, rule, 32, transport))


@pytest.mark.parametrize("rule", ["bp", "dfa", "kp", "wm"])
@pytest.mark.parametrize("chip", ["edge_dual", "neurocore_mesh"])
def test_the_last_micro_batch_and_what_teaches_feedback_are_pinned_too(chip, rule, tmp_path):
    """Five samples in pairs: products of two sizes; noise that mirrors weights is a second product of forward."""
    network, best = network_of(tmp_path, NETWORK), {"mapping": "best", "micro_batch": "2"}
    cost = fahw.simulate(load_chip(chip, best), network, rule, 5)
    (tmp_path / "pins.yaml").write_text(pinned_text(cost), encoding="utf-8")
    pins = {"pinned_mappings": str(tmp_path / "pins.yaml")}
    assert is_the_same(cost, fahw.simulate(load_chip(chip, best | pins), network, rule, 5))
    forward = [record for record in cost.work.plan.products if (record.layer, record.phase) == ("conv2d1", "forward")]
    assert {(record.product, record.sizes[0], record.times) for record in forward} >= {(0, 32, 2), (0, 16, 1)}


def test_a_saved_file_is_for_its_rule_and_transport_alone(tmp_path):
    """Pinned for bp's copy, all else is searched as before."""
    saved = pinned_text(found_on(tmp_path, transport="copy"))
    for rule, transport in (("dfa", None), ("bp", "write_through"), ("bp", "shared")):
        free = found_on(tmp_path, rule=rule, transport=transport)
        assert is_the_same(free, pinned_on(tmp_path, saved, rule=rule, transport=transport))


def test_the_rest_is_searched(tmp_path):
    """Of one product that is pinned the mapping is the given one, at what it costs; all others are as they were."""
    free, cost = found_on(tmp_path), pinned_on(tmp_path, f"layer_mappings:\n- {{{SMALL}}}\n")
    pairs = zip(cost.work.plan.products, free.work.plan.products, strict=True)
    ((given, before),) = [(one, other) for one, other in pairs if one != other]
    assert (given.layer, given.phase, given.tile, given.order) == ("linear1", "forward", (8, 5, 2), "kmn")
    assert (given.partial_sums, before.partial_sums) == (40, 0)
    assert cost.energy_pj > free.energy_pj


def test_inline_entries_are_pinned_as_those_of_a_file(tmp_path):
    """And both together."""
    entries = f"layer_mappings:\n- {{{SMALL}}}\n"
    kept = "kept_tensors:\n- {name: weight linear1, shares: [0.5, 0.5]}\n"
    inline = found_on(tmp_path, more=f"{BEST}{entries}{kept}{DRAM}")
    assert is_the_same(inline, pinned_on(tmp_path, entries + kept, DRAM + CHIP))
    (tmp_path / "pins.yaml").write_text(kept, encoding="utf-8")
    assert is_the_same(inline, found_on(tmp_path, more=PINNED + entries + DRAM))
    (weight,) = [tensor for tensor in inline.work.plan.tensors if tensor.name == "weight linear1"]
    assert weight.shares == (0.5, 0.5)


def test_any_tensor_can_be_sent_away_where_all_would_fit(tmp_path):
    """Its tiles have the room that they need; the step costs no less than where all stays. Also half of all at once."""
    free = found_on(tmp_path, more=BEST + DRAM)
    tensors = free.work.plan.tensors
    assert all(set(tensor.shares) == {1.0} for tensor in tensors)
    for away, share in (*(([tensor], 0.0) for tensor in tensors[::4]), (tensors, 0.5)):
        pins = {tensor.name: (share,) * len(tensor.shares) for tensor in away}
        kept = "".join(f"- {{name: {name}, shares: {list(shares)}}}\n" for name, shares in pins.items())
        cost = found_on(tmp_path, more=f"{BEST}{DRAM}kept_tensors:\n{kept}")
        assert pins.items() <= {tensor.name: tensor.shares for tensor in cost.work.plan.tensors}.items()
        assert cost.energy_pj >= free.energy_pj * (1 - 1e-9), pins


SCATTER = "layer: conv2d2, phase: error, dataflow: os, order: mnk, form: scatter"
GATHER = "layer: conv2d2, phase: error, dataflow: os, order: mnk, form: gather"
WRONG = {
    "layer": ("{layer: @@linear_1, phase: forward, dataflow: os, tile: [8, 5, 4], order: mnk}", "you mean 'linear1'"),
    "phase": ("{layer: conv2d1, phase: @@error, dataflow: os, tile: [8, 5, 4], order: mnk}", "it has: forward"),
    "rule": (f"{{{SMALL}, rule: @@bpp}}", "did you mean 'bp'"),
    "product": (f"{{{SMALL}, product: @@1}}", "has 1 product, numbered from 0 (got 1)"),
    "sizes": (f"{{{SMALL}, sizes: @@[8, 5, 40]}}", "is 8 x 5 x 4 (M x N x K), the mapping is of 8 x 5 x 40"),
    "tile": (f"{{{swap(SMALL, '[8, 5, 2]', '[8, @@6, 2]')}}}", "a tile's N must be from 1 to 5 (got 6)"),
    "rows": (f"{{{SCATTER}, tile: [@@6, 27, 4]}}", "whole rows, or whole samples"),
    "taps": (f"{{{SCATTER}, tile: [32, @@5, 4]}}", "a multiple of 9"),
    "dataflow": (f"{{{swap(SMALL, ': os', ': @@ws')}}}", "runs in os on its array (got ws)"),
    "hold": (f"{{{SMALL}, hold: [right, @@left]}}", "left needs no hold where n is the innermost loop"),
    "blocks": (f"{{{SMALL}, blocks: @@true}}", "accumulators"),
    "no form": ("@@{layer: conv2d2, phase: error, dataflow: os, order: mnk, tile: [4, 3, 4]}", "scatter or gather"),
    "one form": (f"{{{SMALL}, form: @@gather}}", "there is one form alone"),
    "uncovered": (f"{{{swap(GATHER, ': gather', ': @@gather')}, tile: [4, 3, 4]}}", "pinned: 1, 2, 3 are missing"),
}  # fmt: skip


def problem_of(folder, entries, **options):
    """The one problem of entries, and the place of the mark in them."""
    text, places = marked(entries)
    with pytest.raises(ConfigError) as caught:
        pinned_on(folder, text, **options)
    (problem,) = caught.value.problems
    return problem, f"{folder / 'pins.yaml'}:{places[0]}"


@pytest.mark.parametrize("name", WRONG)
def test_an_entry_that_cannot_be_is_refused_at_its_place(name, tmp_path):
    """With what is allowed, or missing."""
    entry, message = WRONG[name]
    problem, place = problem_of(tmp_path, f"layer_mappings:\n- {entry}\n")
    assert message in problem.message
    assert problem.place == place


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("{name: @@wieght linear1, shares: [1, 1]}", "did you mean 'weight linear1'"),
        ("{name: weight linear1, core: 1, shares: [1, 1]}".replace("name: ", "name: @@"), "no tensor"),
        ("{name: weight linear1, shares: @@[1]}", "a share for each of its 2 reads (got 1)"),
        ("{name: weight linear1, shares: @@[1, .5]}", "the same share at every read"),
        ("{name: weight linear1, shares: @@[.5, 1]}", "does not become more from read to read"),
        ("{name: weight linear1, shares: [1, @@1.5]}", "1"),
    ],
)  # fmt: skip
def test_a_share_that_cannot_be_is_refused_at_its_place(entry, message, tmp_path):
    problem, place = problem_of(tmp_path, f"kept_tensors:\n- {entry}\n")
    assert message in problem.message
    assert problem.place == place


def test_every_wrong_entry_is_said_at_once(tmp_path):
    """Those of the file's form first; then all that does not fit the step."""
    entries = [WRONG[name][0].replace("@@", "") for name in ("layer", "phase", "rule", "dataflow", "blocks")]
    text = "layer_mappings:\n" + "".join(f"- {entry}\n" for entry in entries)
    with pytest.raises(ConfigError) as caught:
        pinned_on(tmp_path, swap(text, "blocks: true", "blocks: true, product: 7, rule: dfa"))
    assert len(caught.value.problems) == 4
    with pytest.raises(ConfigError) as caught:
        pinned_on(
            tmp_path, f"layer_mappings:\n- {{{SMALL}}}\n- {{{SMALL}, hold: [left, left]}}\n- {{phase: up, tile: 3}}\n"
        )
    keys = [problem.key for problem in caught.value.problems]
    assert keys[:2] == ["layer_mappings.1", "layer_mappings.1.hold"]
    assert {"layer_mappings.2.phase", "layer_mappings.2.tile", "layer_mappings.2.layer"} <= set(keys)


@pytest.mark.parametrize("key", ["kept_tensors", "waiting_tasks"])
def test_what_a_list_says_twice_is_refused(key, tmp_path):
    """Also of the same rule; of two rules it is not the same."""
    entry = {"kept_tensors": "{name: weight linear1, shares: [1, 1]", "waiting_tasks": "{waits: true"}[key]
    text = f"{key}:\n- {entry}, rule: bp}}\n- {entry}, rule: fa}}\n- @@{entry}, rule: bp}}\n"
    problem, place = problem_of(tmp_path, text)
    assert "pinned twice" in problem.message
    assert f"(first: {key}.0)" in problem.message
    assert problem.place == place


@pytest.mark.parametrize("waits", [False, True])
def test_whether_tasks_wait_can_be_pinned(waits, tmp_path):
    """Either way, whatever a search would find."""
    cost = pinned_on(tmp_path, f"waiting_tasks:\n- {{waits: {str(waits).lower()}}}\n")
    assert cost.work.plan.waits == waits


def test_what_is_pinned_in_two_places_is_refused_at_the_second(tmp_path):
    entries = f"layer_mappings:\n- {{{SMALL}}}\n"
    (tmp_path / "pins.yaml").write_text(entries, encoding="utf-8")
    with pytest.raises(ConfigError, match="pinned twice") as caught:
        chip_of(tmp_path, PINNED + entries + CHIP)
    assert caught.value.problems[0].place == f"{tmp_path / 'pins.yaml'}:2:3"


def test_the_forms_of_one_error_agree(tmp_path):
    """With each other, and with the chip's `error_form`."""
    problem, place = problem_of(
        tmp_path, f"layer_mappings:\n- {{{SCATTER}, tile: [4, 27, 4]}}\n"
        f"- {{{swap(GATHER, ': gather', ': @@gather')}, product: 1, tile: [4, 3, 4]}}\n"
    )  # fmt: skip
    assert "pinned as scatter before" in problem.message
    assert problem.place == place
    problem, place = problem_of(
        tmp_path, f"layer_mappings:\n- {{{swap(SCATTER, ': scatter', ': @@scatter')}, tile: [4, 27, 4]}}\n",
        text=f"error_form: gather\n{CHIP}",
    )  # fmt: skip
    assert "it is gather (error_form)" in problem.message
    assert problem.place == place


def test_a_tile_that_does_not_fit_its_memory_says_which_and_how_much(tmp_path):
    """Twice two rows of inputs of 8 samples, where they come from DRAM; the memory has 512 bits."""
    small = swap(
        CHIP,
        "holds: [psum, mask, error, activation]\n    size_kib: 64\n    bank_kib: 16",
        "holds: [psum, mask, error, activation]\n    kind: register\n    size_kib: 0.0625",
    )
    entry = "{layer: conv2d1, phase: forward, dataflow: os, tile: @@[64, 3, 18], order: mnk}"
    problem, place = problem_of(tmp_path, f"layer_mappings:\n- {entry}\n", text=DRAM + small)
    assert "buffer has 512 bits for tiles, of which it takes" in problem.message
    assert problem.place == place


def test_pinned_tensors_that_overfill_a_memory_are_blamed(tmp_path):
    """A memory that has room for half of the weights."""
    text = swap(
        CHIP,
        "holds: [weight]\n    size_kib: 64\n    bank_kib: 16",
        "holds: [weight]\n    kind: register\n    size_kib: 0.125",
    )
    entries = "kept_tensors:\n- {name: weight conv2d1, shares: [1]}\n- @@{name: weight conv2d2, shares: [1]}\n"
    problem, place = problem_of(tmp_path, entries, text=DRAM + text, rule="fa")
    assert "weights has 1,024 bits" in problem.message
    assert "and pinned tensors 1,296" in problem.message
    assert problem.place == place


def test_a_memory_without_room_for_a_tile_names_what_does_not_fit(tmp_path):
    """The product, its tensors, the bits that are needed and those that there are."""
    text = swap(
        CHIP,
        "holds: [weight]\n    size_kib: 64\n    bank_kib: 16",
        "holds: [weight]\n    kind: register\n    size_kib: 0.001",
    )
    with pytest.raises(ConfigError) as caught:
        found_on(tmp_path, DRAM + text)
    (problem,) = caught.value.problems
    assert problem.message.startswith("weights: forward of conv2d1: the smallest tiles of right take ")
    assert "right: weight" in problem.message
    assert (problem.place, problem.key) == ("tiny", "memories")


def test_the_command_line_shows_saves_and_pins(command, tmp_path):
    """`--save-mapping` writes a file that `pinned_mappings` takes, and the ledger of both is one."""
    chip = (
        "simulate",
        "edge_dual",
        "lenet5",
        "--rule",
        "bp",
        "--batch-size",
        "16",
        "--transport",
        "copy",
        "--set",
        "chip.mapping=best",
    )
    code, out, err = command(*chip, "--save-mapping", "found.yaml", "--json")
    found = json.loads(out)
    assert (code, err) == (0, "mapping: found.yaml\n")
    assert found["mapping"]["objective"] == "energy"
    assert (
        sum(prod(each["sizes"]) * each["repeats"] * each["times"] for each in found["mapping"]["products"])
        == found["macs"]
    )
    names = {
        "layer",
        "phase",
        "form",
        "dataflow",
        "tile",
        "order",
        "hold",
        "blocks",
        "fetched",
        "partial_sums",
        "room_bits",
    }
    assert all(names <= set(each) for each in found["mapping"]["products"])
    assert all({"name", "memory", "read_by", "shares"} <= set(each) for each in found["mapping"]["tensors"])
    code, out, _ = command(*chip, "--json", "--set", "chip.pinned_mappings=found.yaml")
    assert (code, json.loads(out)) == (0, found)
    _, out, _ = command(*chip)
    assert "best for energy: 14 products, " in out


def test_nothing_is_saved_where_nothing_is_searched(command, tmp_path):
    """Under `mapping: fixed`: exit code 2, no file, no mapping in JSON; nor is a file written where it cannot be."""
    fixed = ("simulate", "edge_dual", "mlp_digits", "--set", "chip.mapping=fixed")
    code, _, err = command(*fixed, "--save-mapping", "found.yaml")
    assert (code, list(tmp_path.iterdir())) == (2, [])
    assert "--save-mapping: nothing was searched for" in err
    assert json.loads(command(*fixed, "--json")[1])["mapping"] is None
    (tmp_path / "folder").mkdir()
    best = ("simulate", "edge_dual", "mlp_digits", "--set", "chip.mapping=best")
    code, _, err = command(*best, "--save-mapping", "folder")
    assert (code, list(tmp_path.iterdir())) == (2, [tmp_path / "folder"])
    assert err.startswith("error: --save-mapping folder: cannot be written")


def test_mistakes_of_a_pinned_file_end_the_command(command, tmp_path):
    """Exit code 2, every mistake with its place, no traceback; a file that is none, too."""
    best = ("simulate", "edge_dual", "lenet5", "--set", "chip.mapping=best", "--set")
    (tmp_path / "pins.yaml").write_text(
        "layer_mappings:\n- {layer: conv, phase: forward, dataflow: os, tile: [1, 1, 1], order: mnk}\n",
        encoding="utf-8",
    )
    code, out, err = command(*best, f"chip.pinned_mappings={tmp_path / 'pins.yaml'}")
    assert (code, out) == (2, "")
    assert err.startswith(f"error: {tmp_path / 'pins.yaml'}:2:11: layer_mappings.0.layer: no layer 'conv'")
    code, _, err = command(*best, "chip.pinned_mappings=nowhere.yaml")
    assert code == 2
    assert "nowhere.yaml: no such file" in err


def test_no_training_and_no_name_of_a_file_is_in_a_key(tmp_path):
    """A training does not depend on what is pinned; a cost does, wherever the file lies."""
    network, data = fahw.load_model("mlp_digits"), load_dataset("digits")
    entries = "layer_mappings:\n- {layer: linear1, phase: forward, dataflow: os, tile: [32, 16, 64], order: mnk}\n"
    chips = [load_chip("edge_dual", {"mapping": "best"})]
    for name in ("one.yaml", "other.yaml"):
        (tmp_path / name).write_text(entries, encoding="utf-8")
        chips.append(load_chip("edge_dual", {"mapping": "best", "pinned_mappings": str(tmp_path / name)}))
    assert len({make_jobs(network, network.recipe, ["bp"], chip, [0], data)[0].key for chip in chips}) == 1
    free, *pinned = (pack_chip(chip).key for chip in chips)
    assert len(set(pinned)) == 1
    assert free not in pinned
    assert (
        fahw.simulate(pack_chip(chips[1]).unpack(), network, "bp", 64).ledger
        == fahw.simulate(chips[1], network, "bp", 64).ledger
    )


def test_the_report_has_a_table_of_mappings(tmp_path):
    """A row per product, in words; nothing where nothing is mapped."""
    line = line_of(found_on(tmp_path, rule="fa"))
    table = mapping_table(SimpleNamespace(hosted=[line]))
    rows = [[cell.text for cell in row.cells] for row in table.rows]
    assert ["conv2d2", "error", "0", "gather, os 32x3x4 mnk"] in rows
    assert len(rows) == len(line.details["mapping"]["products"])
    fixed = line_of(found_on(tmp_path, rule="fa", more="mapping: fixed\n"))
    assert mapping_table(SimpleNamespace(hosted=[fixed])) is None
