"""The core's machine: edge tiles, hidden loads, levels of memories and what streams between them, kinds of memory that
hold feedback, zeros that rest or are skipped."""

import csv
import json
from math import ceil, log2

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fahw
from fahw.activity import Activity, LayerActivity
from fahw.chip.cost import simulate
from fahw.errors import ConfigError
from fahw.hardware.load import load_chip
from fahw.network.load import load_model
from fahw.rules.catalogue import RULES
from fahw.study.compare import compare
from fahw.work.counts.accesses import Accesses
from fahw.work.counts.gemm import Gemm, Operand, Stream, gemm_traffic
from fahw.work.counts.record import Placement
from tests.support.arrays import mapping_of
from tests.support.steps import counts, step
from tests.support.strategies import CHIP, chip_of, dataflows, network_of, small, swap

SIZES = st.integers(1, 40)


# folds


@given(SIZES, SIZES, SIZES, small, small, dataflows)
def test_trimmed_folds_take_what_an_array_of_their_size_takes(m, n, k, rows, cols, dataflow):
    """Each fold is a product of its own on an array that it just fills."""
    mapping = mapping_of(m, n, k, rows, cols, dataflow, trimmed=True)
    total = 0
    for shape in mapping.fold_shapes:
        own = {"os": (shape.rows, shape.cols, k), "ws": (m, shape.cols, shape.rows), "is": (shape.cols, n, shape.rows)}
        total += shape.count * fahw.systolic_cycles(*own[dataflow], shape.rows, shape.cols, dataflow)
    assert mapping.cycles == total <= mapping_of(m, n, k, rows, cols, dataflow).cycles


@given(SIZES, SIZES, SIZES, small, small, dataflows)
def test_double_buffering_hides_all_loads_but_the_first(m, n, k, rows, cols, dataflow):
    """`ws` and `is` load `rows` rows before every fold; hidden, only before the first. `os` has nothing to hide."""
    plain, hidden = (mapping_of(m, n, k, rows, cols, dataflow, double_buffered=b) for b in (False, True))
    saved = 0 if dataflow == "os" else (plain.folds - 1) * rows
    assert hidden.cycles == plain.cycles - saved


@pytest.mark.parametrize(("key", "value"), [("edge_tiles", "trimmed"), ("double_buffered", "true")])
def test_a_chip_with_better_folds_is_faster_and_does_the_same_work(key, value, tmp_path):
    """Fewer cycles, the same multiply-accumulates and words."""
    text = swap(CHIP, "{forward: os, gradient: os, update: vector}", "{forward: ws, gradient: ws, update: vector}")
    text = swap(text, "rows: 4\n    cols: 3\n    lanes: 2", f"rows: 4\n    cols: 3\n    lanes: 2\n    {key}: {value}")
    network, plain = (
        network_of(tmp_path),
        chip_of(tmp_path, swap(CHIP, "forward: os, gradient: os", "forward: ws, gradient: ws")),
    )
    before, after = step(plain, network, "bp", 3), step(chip_of(tmp_path, text), network, "bp", 3)
    for action in ("mac", "read", "write", "shift_psum"):
        assert counts(after, action=action) == counts(before, action=action)
    cycles = [sum(t.cycles for t in w.tasks if t.part == "fwd" and t.phase != "update") for w in (before, after)]
    assert cycles[1] < cycles[0]


# levels


SMALL = "holds: [weight]\n    size_kib: 0.0625\n    bank_kib: 0.0625"
LEVELS = swap(
    swap(CHIP, "holds: [weight]\n    size_kib: 64\n    bank_kib: 16", SMALL),
    "links:",
    """\
  - name: glb
    level: global
    holds: [weight]
    size_kib: 64
    bank_kib: 16
    width_bits: 64
    read_bits_per_cycle: 64
    write_bits_per_cycle: 64
    assumed: a test
links:""",
)  # fmt: skip
"""64 bytes of weights beside the array, the rest in a global buffer."""


def test_what_does_not_fit_lies_one_level_out_and_is_staged(tmp_path):
    """70 of the network's 134 weight bytes lie in the global buffer: each fetch reads its share there, and writes it
    into the local memory."""
    network = network_of(tmp_path)
    chip = chip_of(
        tmp_path, swap(LEVELS, "memories: [weights, buffer, state]", "memories: [weights, buffer, state, glb]")
    )
    weights = sum(layer.weights for layer in network.weighted)
    assert weights == 3 * 2 * 9 + 12 * 5 + 5 * 4
    work = step(chip, network, "fa", 1)
    placed = {(p.memory, p.tensor): (p.bits, p.spilled_bits) for p in work.placements}
    assert placed["weights", "weight"] == (weights * 8, weights * 8 - 512)
    assert placed["glb", "weight"] == (weights * 8 - 512, 0)
    share = (weights * 8 - 512) / (weights * 8)
    for layer in network.weighted:
        at = {"phase": "forward", "layer": layer.name, "tensor": "weight"}
        fetched = ceil(layer.weights * 8 * share)
        # One sample: M = 1 for linear layers, so that every weight is fetched once; a convolution's folds over its
        # 16 positions fetch it once where a block of it can stay, which 8 bytes cannot.
        if layer.kind == "linear":
            assert counts(work, **at, component="glb", action="read") == ceil(fetched / 64)
            assert counts(work, **at, component="weights", action="write") == ceil(fetched / 32)
    update = {"phase": "update", "layer": "linear2", "tensor": "weight"}
    assert counts(work, **update, component="glb", action="write") == ceil(ceil(20 * 8 * share) / 64)


def test_no_dram_and_no_room_at_the_outermost_level_is_an_error(tmp_path):
    """What fits nowhere is said with its size."""
    chip = chip_of(
        tmp_path,
        swap(
            LEVELS,
            "size_kib: 64\n    bank_kib: 16\n    width_bits: 64",
            "size_kib: 0.03125\n    bank_kib: 0.03125\n    width_bits: 64",
        ),
    )
    with pytest.raises(ConfigError, match=r"weight \(.*KiB\) does not fit glb"):
        simulate(chip, network_of(tmp_path), "fa", 1)


def product_of(m, n, k, dataflow, memory, tensors=("activation", "weight")):
    left, right = (Operand(8, (Stream(memory, tensor, 8),)) for tensor in tensors)
    return Gemm(mapping_of(m, n, k, 4, 4, dataflow), left, right, "activation", 32)


@pytest.mark.parametrize("dataflow", ["os", "ws", "is"])
@pytest.mark.parametrize(("m", "n", "k"), [(8, 40, 4000), (40, 8, 4000), (64, 64, 64)])
def test_refetch_is_that_of_the_better_order_of_loops(dataflow, m, n, k, tmp_path):
    """Both operands lie in DRAM. Every order of the two loops over folds is tried here, with the operand of the outer
    loop kept where a block of it fits an eighth of the memory; what the model streams is the least of them."""
    text = swap(CHIP, "transport:", "dram: {gbyte_per_s: 10, assumed: a test}\ntransport:")
    chip = chip_of(tmp_path, text)
    memory = chip.memory("buffer")
    placements = [Placement("buffer", t, 8 * size, 8 * size) for t, size in (("activation", m * k), ("weight", k * n))]
    product = product_of(m, n, k, dataflow, memory)
    traffic = gemm_traffic(product, chip.arrays[0], Accesses(chip, placements), memory)
    streamed = sum(c.count for c in traffic.counts if (c.component, c.action) == ("dram", "read"))
    room, mapping = memory.kib * 1024 / 8, product.mapping
    rows, cols = mapping.row_folds, mapping.col_folds
    left, right = m * k, k * n
    if dataflow == "os":  # rows of the left operand, columns of the right one
        tries = [
            left * (1 if 4 * k <= room else cols) + right * rows,
            left * cols + right * (1 if 4 * k <= room else rows),
        ]
    elif dataflow == "ws":  # the right operand stays: once; a block of the left one per fold of K
        tries = [left * (1 if 4 * m <= room else cols) + right, left * cols + right]
    else:
        tries = [right * (1 if 4 * n <= room else cols) + left, right * cols + left]
    assert streamed == min(tries) * 8


# kinds of memory that hold feedback


COPIES = """\
    holds: [feedback]
    size_kib: 64
    bank_kib: 16
    width_bits: 32
    read_bits_per_cycle: 32
    write_bits_per_cycle: 32
"""
WIRE = """\
links:
  - name: wire
    from: weights
    to: copies
    width_bits: 16
    length_mm: 1
    assumed: a test
"""


def kind_of(tmp_path, text):
    """The tiny chip with another memory for feedback, and no link to one that cannot be written."""
    changed = swap(CHIP, COPIES, f"    holds: [feedback]\n{text}")
    return chip_of(tmp_path, changed if "kind: register" in text else swap(changed, WIRE, ""))


PRNG = "    kind: prng\n    pj_per_bit: 0.5\n    area_mm2: 0.01\n    width_bits: 32\n    read_bits_per_cycle: 16\n"
ROM = "    kind: rom\n    size_kib: fit\n    bank_kib: 1\n    width_bits: 32\n    read_bits_per_cycle: 32\n"
REGISTER = swap(COPIES, "holds: [feedback]\n    size_kib: 64\n    bank_kib: 16", "kind: register\n    size_kib: 1")


@pytest.mark.parametrize("rule", ["fa", "dfa"])
def test_a_generator_pays_for_every_bit_of_every_fetch(rule, tmp_path):
    """As many bits as a memory would read values for, times 8; nothing is stored, nothing written once."""
    network = network_of(tmp_path)
    stored, generated = step(chip_of(tmp_path), network, rule, 3), step(kind_of(tmp_path, PRNG), network, rule, 3)
    for layer in ("linear1", "linear2"):
        task = next(t for t in generated.tasks if (t.phase, t.layer) == ("error", layer))
        values = sum(shape.count * task_values(task, shape) for shape in folds_of(network, rule, layer))
        assert counts(generated, phase="error", layer=layer, component="copies", action="generate") == values * 8
        words = counts(stored, phase="error", layer=layer, component="copies", action="read")
        assert words * 32 >= values * 8
    assert generated.feedback_bits == 0 == len(generated.one_time)
    cost = simulate(kind_of(tmp_path, PRNG), network, rule, 3)
    row = next(row for row in cost.ledger if row.action == "generate")
    assert (row.unit_pj, row.tensor) == (0.5, "feedback")


def folds_of(network, rule, layer):
    found = next(item for item in network.layers if item.name == layer)
    k = 4 if rule == "dfa" else found.out_shape[0]
    return mapping_of(3, found.inputs, k, 4, 3, "os").fold_shapes


def task_values(task, shape):
    """`os` streams the right operand through the columns: K values for each column that a fold uses."""
    k = (
        4
        if task.macs == 3 * 4 * {"linear1": 12, "linear2": 5}[task.layer]
        else {"linear1": 5, "linear2": 4}[task.layer]
    )
    return k * shape.cols


def test_a_rom_is_read_as_sram_is_and_never_written(tmp_path):
    """The same words; made with its contents, so that nothing is written before training; it takes whole banks."""
    network = network_of(tmp_path)
    stored, fixed = step(chip_of(tmp_path), network, "fa", 3), step(kind_of(tmp_path, ROM), network, "fa", 3)
    at = {"phase": "error", "component": "copies", "action": "read"}
    assert counts(fixed, **at) == counts(stored, **at) > 0
    assert fixed.feedback_bits == stored.feedback_bits
    assert stored.one_time
    assert not fixed.one_time
    cost = {
        kind: simulate(chip, network, "fa", 3)
        for kind, chip in (("rom", kind_of(tmp_path, ROM)), ("sram", chip_of(tmp_path)))
    }
    pj = {
        kind: next(r.unit_pj for r in c.ledger if (r.component, r.action) == ("copies", "read"))
        for kind, c in cost.items()
    }
    assert pj["rom"] < pj["sram"]


@pytest.mark.parametrize("text", [ROM, PRNG])
@pytest.mark.parametrize("rule", ["bp", "usf", "frsf"])
def test_what_cannot_be_written_cannot_follow_the_weights(text, rule, tmp_path):
    """A copy of W, or of its signs, needs a memory that training writes: the error says what there is."""
    with pytest.raises(ConfigError, match=r"no memory that training can write .copies is a (rom|prng). holds feedback"):
        simulate(kind_of(tmp_path, text), network_of(tmp_path), rule, 3)


def test_a_register_file_holds_feedback_too(tmp_path):
    """Read and written like an SRAM, at the energy of a register file of its entries."""
    chip, network = kind_of(tmp_path, REGISTER), network_of(tmp_path)
    cost = simulate(chip, network, "fa", 3)
    rows = [row for row in cost.ledger if row.component == "copies" and row.action == "read"]
    assert rows
    entries = 8192 / 32
    per_bit = 0.35718 / 16 * (entries / 64) ** log2(0.82142 / 0.35718)
    assert all(row.unit_pj == pytest.approx(per_bit * 32) for row in rows)


def test_banks_that_hold_nothing_do_not_leak_where_they_are_gated():
    """edge_dual's feedback memory has five banks; dfa's B for mlp_digits takes one."""
    plain, gated = (load_chip("edge_dual", {"memories.feedback_sram.power_gated": g}) for g in ("false", "true"))
    leak = []
    for chip in (plain, gated):
        rows = simulate(chip, "mlp_digits", "dfa", 8).ledger
        leak += [row for row in rows if (row.component, row.action) == ("feedback_sram", "static")]
    assert leak[1].unit_pj == pytest.approx(leak[0].unit_pj / 5)


# zeros


def skipping(way, phases="os"):
    text = CHIP
    for _ in range(2):
        text = swap(
            text,
            "lanes: 2\n    phases",
            f"zero_skipping: {{activation: {way}, error: {way}}}\n    lanes:  2\n    phases",
        )
    text = swap(text, "forward: os, gradient: os", f"forward: {phases}, gradient: {phases}")
    return swap(text, "error: os", f"error: {phases}")


def shares(network, activation, error):
    found = {layer.name: LayerActivity(activation, error, 1, 1) for layer in network.weighted}
    return Activity(found | {"conv2d1": LayerActivity(0, error, 1, 1)}, 1)


@pytest.mark.parametrize(("activation", "error"), [(0.5, 0.25), (0.0, 0.9), (0.99, 0.0)])
def test_gated_zeros_save_energy_and_no_cycles(activation, error, tmp_path):
    """Products by a zero of either operand are idle; samples (the first layer's input) have none here."""
    network = network_of(tmp_path)
    chip = chip_of(tmp_path, skipping("gate"))
    plain = step(chip_of(tmp_path), network, "fa", 4)
    form = {"activity": shares(network, activation, error)}
    gated = measured_step(chip, network, "fa", 4, **form)
    cycles = [[t.cycles for t in work.tasks] for work in (plain, gated)]
    assert cycles[0] == cycles[1]
    for layer, x in (("conv2d1", 0.0), ("linear1", activation), ("linear2", activation)):
        kept = {"forward": 1 - x, "gradient": (1 - x) * (1 - error), "error": 1 - error}
        for phase, share in kept.items():
            at = {"phase": phase, "layer": layer, "action": "mac"}
            before, after = counts(plain, **at), counts(gated, **at)
            assert after == before - int((1 - share) * before)
            idle = at | {"action": "idle"}
            assert counts(gated, **idle) - counts(plain, **idle) == before - after


def measured_step(chip, network, rule, batch, activity):
    return step(chip, network, RULES[rule], batch, activity=activity)


@pytest.mark.parametrize(("activation", "error"), [(0.5, 0.25), (0.9, 0.9)])
def test_skipped_zeros_save_cycles_and_pay_for_indices(activation, error, tmp_path):
    """What is left takes its cycles, 15 % more for lanes that wait; every value but a zero brings 4 bits along."""
    network = network_of(tmp_path)
    chip, plain = (chip_of(tmp_path, skipping(way, "broadcast")) for way in ("skip", "none"))
    before = step(plain, network, "dfa", 4)
    after = measured_step(chip, network, "dfa", 4, shares(network, activation, error))
    for old, new in zip(before.tasks, after.tasks, strict=True):
        if not old.macs or old.layer == "conv2d1":
            continue
        left = {"forward": 1 - activation, "gradient": (1 - activation) * (1 - error), "error": 1 - error}[old.phase]
        assert new.cycles == min(old.cycles, ceil(old.cycles * left * 1.15))
    at = {"phase": "forward", "layer": "linear2", "component": "buffer", "action": "read", "tensor": "activation"}
    assert counts(before, **at) == 2 * 4 * 5 * 8 // 32  # M K for each fold of the three columns
    drawn = np.random.default_rng(0).binomial(4 * 5, 1 - activation, (4000, 2))  # without zeros, with 4 bits each
    assert abs(counts(after, **at) - np.ceil(drawn * (8 + 4) / 32).sum(1).mean()) <= 0.75


def test_a_direct_rule_reads_the_zeros_of_the_output_error(tmp_path):
    """dfa's error phase multiplies the output error, whatever the share of zeros at the layer itself."""
    network = network_of(tmp_path)
    found = shares(network, 0.0, 0.8).layers | {"linear2": LayerActivity(0, 0.25, 1, 1)}
    work = measured_step(chip_of(tmp_path, skipping("gate")), network, "dfa", 4, Activity(found, 1))
    macs = {t.layer: t.macs for t in work.tasks if t.phase == "error"}
    for layer in ("linear1", "linear2"):
        assert counts(work, phase="error", layer=layer, action="mac") == macs[layer] - int(macs[layer] / 4)


@pytest.mark.parametrize("dataflow", ["os", "ws", "is"])
def test_a_systolic_array_cannot_skip(dataflow, tmp_path):
    """Its operands move in step: `skip` is refused when the chip is loaded."""
    with pytest.raises(ConfigError, match="skip"):
        chip_of(tmp_path, skipping("skip", dataflow))


def test_a_comparison_prices_each_rule_with_what_its_own_training_showed(tmp_path):
    """On a chip that skips zeros the ledger's MACs are those of the measured shares, not of the assumed ones."""
    found = compare("neurocore_mesh", "mlp_digits", out=tmp_path, rules=["bp", "dfa"], epochs=1, seeds=1, workers=1)
    network = load_model("mlp_digits")
    batch = network.recipe.batch_size
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert manifest["inputs"]["activity"] == "measured"
    with (tmp_path / "epochs.csv").open() as lines:
        epochs = {row["rule"]: row for row in csv.DictReader(lines)}
    for line in found.lines:
        zeros = float(epochs[line.rule]["zero_activations.linear2"])
        assert 0 < zeros < 1
        macs = batch * network.weighted[1].macs
        rows = [r for r in line.cost.ledger if (r.phase, r.layer, r.action) == ("forward", "linear2", "mac")]
        micro = 8  # samples of a micro-batch; each drops what its own share of zeros makes, rounded down
        assert sum(row.count for row in rows) == macs - batch // micro * int(zeros * macs * micro / batch)
