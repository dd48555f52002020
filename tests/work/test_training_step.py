"""What a training step must do: multiply-accumulates against torch, words against plain counting, DESIGN's tables."""

from math import ceil

import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from fahw.chip.cost import simulate
from fahw.errors import ConfigError
from fahw.hardware.load import load_chip
from fahw.network.load import load_model
from fahw.rules.catalogue import RULES
from fahw.work.counts.accesses import Accesses
from fahw.work.counts.record import Flow, Placement, local_name, merge_flows
from tests.support.models import graph
from tests.support.steps import counts, step
from tests.support.strategies import CHIP, GENERATOR, HOSTED, MODEL, RULE_NAMES, chip_of, network_of, swap

SEPARATE, SHARED = "edge_dual", "edge_shared"


# multiply-accumulates


def torch_module(network):
    parts = {
        "linear": lambda x: nn.Linear(x.in_shape[0], x.out_shape[0]),
        "conv2d": lambda x: nn.Conv2d(x.in_shape[0], x.out_shape[0], x.kernel, x.stride, x.padding),
        "maxpool2d": lambda x: nn.MaxPool2d(x.kernel, x.stride),
        "relu": lambda x: nn.ReLU(),
        "flatten": lambda x: nn.Flatten(),
    }
    return nn.Sequential(*(parts[layer.kind](layer) for layer in network.layers))


@pytest.mark.parametrize("model", ["mlp_digits", "mlp_mnist", "lenet5"])
def test_macs_of_a_step_are_those_that_torch_counts(model):
    """Forward, and error and gradient together, have half the FLOPs of torch's own counter on the same network."""
    network, batch = load_model(model), 4
    module = torch_module(network)
    x = torch.zeros(batch, *network.input_shape)
    with FlopCounterMode(display=False) as forward:
        out = module(x)
    with FlopCounterMode(display=False) as backward:
        out.sum().backward()
    macs = {phase: sum(t.macs for t in step(SEPARATE, network, "bp", batch).tasks if t.phase == phase)
            for phase in ("forward", "error", "gradient", "update", "transport")}  # fmt: skip
    assert 2 * macs["forward"] == forward.get_total_flops()
    assert 2 * (macs["error"] + macs["gradient"]) == backward.get_total_flops()
    assert macs["update"] == macs["transport"] == 0


@pytest.mark.parametrize("model", ["mlp_digits", "lenet5"])
def test_every_layerwise_rule_multiplies_as_often_as_bp(model):
    """What sets the rules apart is where B comes from, not how many products it takes; dfa's error has its own size."""
    macs = {rule: step(SEPARATE, model, rule).macs for rule in RULE_NAMES}
    assert len({macs[rule] for rule in RULE_NAMES if rule != "dfa"}) == 1
    network = load_model(model)
    direct = sum(16 * network.classes * layer.inputs for layer in network.weighted[1:])
    assert sum(t.macs for t in step(SEPARATE, model, "dfa").tasks if t.phase == "error") == direct
    assert counts(step(SEPARATE, model, "dfa"), phase="error", action="mac") == direct


# rules: the table of DESIGN section 4, by hand at 8-bit feedback

# moved per weight, own bits kept per weight, bits generated per weight, bits at the multiplier
TABLE = {"bp": (8, 0, 0, 8), "fa": (0, 8, 0, 8), "usf": (1, 0, 0, 1), "brsf": (1, 0, 7, 8), "frsf": (1, 7, 0, 8),
         "dfa": (0, 8, 0, 8)}  # fmt: skip
# bits per feedback weight: stored where memories are separate, where they are one; read from the feedback memory
STORED = {"bp": (8, 0), "fa": (8, 8), "usf": (1, 0), "brsf": (1, 0), "frsf": (8, 7), "dfa": (8, 8)}


@pytest.mark.parametrize("rule", RULE_NAMES)
def test_rules_move_keep_and_generate_what_the_design_says(rule):
    """The choices of a rule give the bits of the table that was written by hand."""
    value = RULES[rule]
    bits = (value.transported_bits(8), value.kept_bits(8), value.generated_bits(8), value.operand_bits(8))
    assert bits == TABLE[rule]
    assert value.path == ("direct" if rule == "dfa" else "layerwise")
    assert value.reads_weight == (rule in ("bp", "usf", "brsf", "frsf"))


@pytest.mark.parametrize("rule", RULE_NAMES)
@pytest.mark.parametrize("chip", [SEPARATE, SHARED])
def test_feedback_bits_stored(rule, chip):
    """mlp_digits (64-128-64-10) stores 128*64 + 64*10 feedback weights, dfa 10*(128 + 64); the first layer none."""
    values = 10 * (128 + 64) if rule == "dfa" else 128 * 64 + 64 * 10
    assert step(chip, "mlp_digits", rule).feedback_bits == values * STORED[rule][chip == SHARED]


@pytest.mark.parametrize("rule", RULE_NAMES)
@pytest.mark.parametrize("model", ["mlp_digits", "mlp_mnist", "lenet5"])
def test_transported_bits(rule, model):
    """Every weight but the first layer's is moved, in the rule's bits; sign rules move an eighth of bp's bits."""
    weights = sum(layer.weights for layer in load_model(model).weighted[1:])
    work = step(SEPARATE, model, rule)
    assert work.transported_bits == weights * TABLE[rule][0]
    assert counts(work, action="send") == work.transported_bits
    bp = step(SEPARATE, model, "bp").transported_bits
    assert work.transported_bits in (0, bp // 8, bp)
    assert bp % 8 == 0
    assert step(SHARED, model, rule).transported_bits == 0
    layers = {task.layer for task in work.tasks if task.phase == "transport"}
    assert layers == ({layer.name for layer in load_model(model).weighted[1:]} if TABLE[rule][0] else set())


@pytest.mark.parametrize("rule", RULE_NAMES)
def test_operands_of_the_error_phase(rule):
    """On separate memories every rule reads B from the feedback memory in its stored bits, never from the weights."""
    work = step(SEPARATE, "mlp_digits", rule)
    stored, generated = TABLE[rule][0] + TABLE[rule][1], TABLE[rule][2]
    full = step(SEPARATE, "mlp_digits", "fa" if rule != "dfa" else "dfa")
    words = counts(full, phase="error", component="feedback_sram", action="read")
    read = counts(work, phase="error", component="feedback_sram", action="read")
    assert words * stored / 8 <= read <= words * stored / 8 * 1.35  # words are whole: a burst of signs may not fill one
    assert counts(work, phase="error", component="weight_sram") == 0
    bits = counts(work, phase="error", component="feedback_generator", action="generate")
    assert bits == words * 64 // 8 * generated
    assert {c.tensor for t in work.tasks for c in t.counts if c.component == "feedback_sram"} == {"feedback"}


@pytest.mark.parametrize("rule", ["bp", "usf", "brsf", "frsf"])
def test_one_memory_reads_whole_weights(rule):
    """Where `error` reads W's own memory, rules that need its sign or value read the words of W."""
    work = step(SHARED, "mlp_digits", rule)
    bp = counts(step(SHARED, "mlp_digits", "bp"), phase="error", component="weight_sram", action="read")
    own = counts(work, phase="error", component="weight_sram", action="read") - bp
    assert (own > 0) == (rule == "frsf")


def test_a_rule_that_needs_a_generator_is_refused_with_advice():
    """A chip without a feedback generator cannot host brsf, and says so; the other rules run."""
    chip = load_chip(SEPARATE).model_copy(update={"feedback_generator": None})
    with pytest.raises(ConfigError, match=r"brsf redraws.*feedback_generator"):
        step(chip, "mlp_digits", "brsf")
    assert all(step(chip, "mlp_digits", rule).macs for rule in RULE_NAMES if rule != "brsf")


# words


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 400)), max_size=4), st.integers(1, 48), st.booleans())
def test_words_pack_densely_per_burst(chip, bursts, bits, write):
    """A burst of n values takes as many words as hold all its bits, counted bit by bit; no burst shares a word."""
    memory = chip.home("weight")
    accesses = Accesses(chip, ())
    traffic = (accesses.write if write else accesses.read)(memory, "weight", bursts, bits)
    words = 0
    for times, values in bursts:
        filled, used = 0, 0
        for _ in range(values * bits if values * bits < 5000 else 0):
            used += 1
            if used == memory.width_bits:
                filled, used = filled + 1, 0
        words += times * (filled + (used > 0) if values * bits < 5000 else ceil(values * bits / memory.width_bits))
    assert sum(count.count for count in traffic.counts) == words
    side = traffic.drains if write else traffic.loads
    assert [flow.amount for flow in side] == ([words * memory.width_bits] if words else [])


@pytest.fixture(scope="module")
def chip(tmp_path_factory):
    return chip_of(tmp_path_factory.mktemp("chip"))


DRAM = (
    "dram: {gbyte_per_s: 0.4, read_pj_per_bit: 8, write_pj_per_bit: 5, background_mw: 1, assumed: a test}\ntransport:"
)


@settings(max_examples=50)
@given(st.integers(1, 500), st.integers(1, 16), st.integers(0, 100), st.booleans())
def test_what_spills_is_streamed(tmp_path_factory, values, bits, share, write):
    """The spilled share of a tensor goes through DRAM at every use, and is staged in its memory; the rest is local."""
    chip = chip_of(tmp_path_factory.mktemp("spill"), swap(CHIP, "transport:", DRAM))
    spilled = 10_000 * share // 100
    accesses = Accesses(chip, [Placement("weights", "weight", 10_000, spilled)])
    memory = chip.home("weight")
    traffic = (accesses.write if write else accesses.read)(memory, "weight", [(3, values)], bits)
    number = {(count.component, count.action): count.count for count in traffic.counts}
    words = 3 * ceil(values * bits / 32)
    assert number["weights", "write" if write else "read"] == words
    moved = ceil(3 * values * bits * spilled / 10_000)
    assert number.get(("weights", "read" if write else "write"), 0) == ceil(moved / 32)
    assert number.get(("dram", "write" if write else "read"), 0) == moved
    assert all(flow.per_cycle == 32 for flow in (*traffic.loads, *traffic.drains))  # 0.4 GB/s at 100 MHz: 32 bits


def test_merged_flows_keep_the_amounts():
    """Flows through one port are added up; the latency of the port is paid once."""
    merged = merge_flows([Flow("a", 3, 2, 1), Flow("b", 4, 1), Flow("a", 5, 2, 1), Flow("c", 0, 1)])
    assert merged == (Flow("a", 8, 2, 1), Flow("b", 4, 1))


# memories


@pytest.mark.parametrize(("chip", "rule"), HOSTED)
def test_capacity_table_adds_up(chip, rule):
    """What a memory holds and what spills from it are what its tensors need; it never holds more than its size."""
    value = load_chip(chip)
    work = step(value, "lenet5", rule, 64)
    assert work.chip.name == value.name
    for name in {p.memory for p in work.placements}:
        memory = work.chip.memory(local_name(name))
        placed = [p for p in work.placements if p.memory == name]
        assert sum(p.bits - p.spilled_bits for p in placed) <= memory.kib * 8192
        assert all(0 <= p.spilled_bits <= p.bits and p.tensor in memory.holds for p in placed)
        full = any(p.spilled_bits for p in placed)
        assert not full or sum(p.bits - p.spilled_bits for p in placed) == memory.kib * 8192
    assert len({(p.memory, p.tensor) for p in work.placements}) == len(work.placements)


def test_needs_by_hand():
    """mlp_digits at batch 32 on edge_dual: bits of every tensor, worked by hand (two steps in flight)."""
    weights = 64 * 128 + 128 * 64 + 64 * 10
    biases = 128 + 64 + 10
    placed = {p.tensor: p.bits for p in step(SEPARATE, "mlp_digits", "bp", 32).placements}
    assert placed == {
        "weight": weights * 8, "feedback": (128 * 64 + 64 * 10) * 8, "master": weights * 16, "optimizer": weights * 16,
        "gradient": weights * 16, "param": biases * 48, "mask": 2 * 32 * (128 + 64), "error": 32 * (128 + 64 + 10) * 8,
        "activation": 2 * 32 * (64 + 128 + 64 + 10) * 8,
    }  # fmt: skip


def test_default_chip_holds_mlp_mnist_at_batch_128():
    """edge_dual is sized for it: nothing spills, with 16-bit masters, under any rule that stores a B as wide as W."""
    for rule in RULE_NAMES:
        assert not any(p.spilled_bits for p in step(SEPARATE, "mlp_mnist", rule, 128).placements)


def test_too_small_without_dram_is_an_error(tmp_path):
    """What does not fit, and has nowhere to spill to, is a user error that names tensor, memory and sizes."""
    text = CHIP.replace("size_kib: 64\n    bank_kib: 16", "size_kib: 0.0625\n    bank_kib: 0.0625", 1)
    chip, network = chip_of(tmp_path, text), network_of(tmp_path)
    with pytest.raises(ConfigError, match=r"weight \(0\.1 KiB\) does not fit weights.*no DRAM"):
        step(chip, network, "fa", 2)
    with_dram = chip_of(tmp_path, swap(text, "transport:", DRAM))
    work = step(with_dram, network, "fa", 2)
    assert counts(work, component="dram", tensor="weight", phase="forward", action="read")
    assert counts(work, component="dram", tensor="weight", phase="update", action="write")


def test_weights_that_spill_are_streamed_for_the_error_too():
    """Where `error` reads W's own memory and W does not fit, it pays DRAM for the spilled share as `forward` does."""
    size = {"memories.weight_sram.size_kib": "8", "memories.weight_sram.bank_kib": "8"}
    work = step(load_chip(SHARED, size), "mlp_digits", "bp", 16)
    (placed,) = (p for p in work.placements if p.tensor == "weight")
    assert placed.spilled_bits > 0
    assert counts(work, phase="forward", component="dram", action="read", tensor="weight") > 0
    read = counts(work, phase="error", component="weight_sram", action="read") * 64
    streamed = counts(work, phase="error", component="dram", action="read")
    assert streamed == pytest.approx(read * placed.spilled_bits / placed.bits, rel=0.05)


def test_missing_home_is_an_error_with_advice(tmp_path):
    """A tensor that no memory holds is a user error that says what needs it."""
    chip = chip_of(tmp_path)
    weights, copies, *others = chip.memories
    chip = chip.model_copy(update={"memories": (weights, copies.model_copy(update={"holds": ("io",)}), *others)})
    with pytest.raises(ConfigError, match="no memory holds feedback"):
        step(chip, network_of(tmp_path), "fa", 2)


def test_unreachable_home_is_an_error_with_advice(tmp_path):
    """An array that is not wired to a tensor it needs is a user error that names array and memory."""
    chip = chip_of(tmp_path)
    forward, error = chip.arrays
    chip = chip.model_copy(update={"arrays": (forward, error.model_copy(update={"memories": ("copies",)}))})
    with pytest.raises(ConfigError, match="bwd, which is not wired to buffer"):
        step(chip, network_of(tmp_path), "fa", 2)


def test_missing_link_is_an_error_with_advice(tmp_path):
    """A rule that moves weights needs a link between the two memories; one that moves nothing does not."""
    chip, network = chip_of(tmp_path).model_copy(update={"links": ()}), network_of(tmp_path)
    with pytest.raises(ConfigError, match="needs a link"):
        step(chip, network, "bp", 2)
    assert step(chip, network, "fa", 2).macs


# dependencies


def after(work):
    return {task.id: set(task.after) for task in work.tasks}, {task.id: set(task.after_previous) for task in work.tasks}


@pytest.mark.parametrize(("chip", "rule"), HOSTED)
def test_dependencies_are_acyclic_and_complete(chip, rule):
    """Every task waits only for tasks that exist and are listed before it, so no step can wait for itself."""
    work = step(chip, "lenet5", rule)
    seen = set()
    for task in work.tasks:
        assert set(task.after) <= seen, task.id
        assert task.id not in seen
        seen.add(task.id)
    assert all(set(task.after_previous) <= seen for task in work.tasks)


@pytest.mark.parametrize("chip", [SEPARATE, SHARED])
@pytest.mark.parametrize("rule", RULE_NAMES)
def test_dependencies_are_those_of_the_design(chip, rule):
    """Section 5, written out by hand for three layers."""
    a, b, c = "linear1", "linear2", "linear3"
    now, before = after(step(chip, "mlp_digits", rule))
    reads, moves = rule in ("bp", "usf", "brsf", "frsf"), rule in ("bp", "usf", "brsf", "frsf") and chip == SEPARATE
    expected = {
        ("forward", "input"): set(), ("forward", a): {("forward", "input")}, ("forward", b): {("forward", a)},
        ("forward", c): {("forward", b)}, ("error", "loss"): {("forward", c)}, ("error", c): {("error", "loss")},
        ("error", b): {("error", "loss") if rule == "dfa" else ("error", c)},
        ("gradient", c): {("error", "loss"), ("forward", c)}, ("gradient", b): {("error", c), ("forward", b)},
        ("gradient", a): {("error", b), ("forward", a)}, ("update", a): {("gradient", a)},
        ("update", b): {("gradient", b)}, ("update", c): {("gradient", c)},
    }  # fmt: skip
    if reads and not moves:  # W must not change while the error path still reads it
        expected["update", b] |= {("error", b)}
        expected["update", c] |= {("error", c)}
    if moves:
        expected |= {("transport", x): {("update", x), ("error", x)} for x in (b, c)}
    assert now == expected
    previous = {key: value for key, value in before.items() if value}
    waits = {("forward", x): {("update", x)} for x in (a, b, c)}
    if moves:
        waits |= {("error", x): {("transport", x)} for x in (b, c)}
    elif reads:
        waits |= {("error", x): {("update", x)} for x in (b, c)}
    assert previous == waits


# edges


@pytest.mark.parametrize("rule", RULE_NAMES)
@pytest.mark.parametrize("batch", [1, 3])
def test_one_bit_formats_and_a_batch_of_one(rule, batch):
    """The narrowest formats and a single sample work under every rule, and every count that is recorded is positive."""
    ones = dict.fromkeys(("weight", "feedback", "activation", "error", "gradient", "master", "optimizer"), "1")
    chip = load_chip(
        SEPARATE, {f"precision.{name}": bits for name, bits in ones.items()} | {"precision.accumulator": "8"}
    )
    work = step(chip, "lenet5", rule, batch)
    assert all(count.count > 0 for task in work.tasks for count in task.counts)
    assert all(task.folds > 0 for task in work.tasks)
    weights = sum(layer.weights for layer in load_model("lenet5").weighted[1:])
    assert work.transported_bits == (0 if rule in ("fa", "dfa") else weights)
    assert simulate(chip, "lenet5", rule, batch).energy_pj > 0


@given(st.integers(1, 6), st.integers(1, 4), st.integers(0, 2), st.integers(1, 3), st.sampled_from(RULE_NAMES))
@settings(max_examples=40)
def test_any_small_convolution_runs_under_every_rule(tmp_path_factory, out, kernel, padding, stride, rule):
    """Whatever the geometry, the work of a step is made, and its forward products are torch's outputs x window."""
    folder = tmp_path_factory.mktemp("conv")
    spec = f"{{kind: conv2d, out: {out}, kernel: {kernel}, padding: {padding}, stride: {stride}}}"
    tail = "  - {kind: tanh}\n  - {kind: flatten}\n  - {kind: linear, out: 3}\n"
    network = network_of(folder, MODEL[: MODEL.index("  - {kind: conv2d")] + f"  - {spec}\n" + tail)
    text = swap(CHIP, "transport:", GENERATOR)
    work = step(chip_of(folder, text), network, rule, 2)
    conv = network.layers[0]
    side = (6 + 2 * padding - kernel) // stride + 1
    assert counts(work, phase="forward", layer=conv.name, action="mac") == 2 * out * side * side * 2 * kernel * kernel
    idle = counts(work, phase="forward", layer=conv.name, action="idle")
    (task,) = (t for t in work.tasks if t.id == ("forward", conv.name))
    assert idle + task.macs == task.cycles * 4 * 3


def test_layers_before_the_first_weights_are_work_too(tmp_path):
    """Pooling or an activation right after the input costs operations, as it does anywhere else."""
    top = "  - {kind: flatten}\n  - {kind: linear, out: 2}\n"
    plain = network_of(tmp_path, f"name: p\ninput: [1, 4, 4]\nlayers:\n{top}")
    pooled = network_of(
        tmp_path,
        f"name: q\ninput: [1, 8, 8]\nlayers:\n  - {{kind: maxpool2d, kernel: 2}}\n{top}",
    )
    chip = chip_of(tmp_path)
    compares = [counts(step(chip, network, "fa", 2), phase="forward", action="compare") for network in (plain, pooled)]
    assert compares[1] - compares[0] == 2 * 16 * 3


# runs in DRAM


ROW_MAJOR = "dram: {gbyte_per_s: 1, layout: row_major, assumed: a test}\ntransport:"


@pytest.mark.parametrize(
    ("bits", "runs", "rows", "moved"),
    [
        (15_000, [(1000, 15)], 1000, 1000 * 32 * 8),  # each begins at a byte, a burst of 32 bytes and a row of its own
        (7_500, [(1000, 15)], 500, 500 * 32 * 8),
        (7_501, [(1000, 15)], 501, 501 * 32 * 8),
        (15, [(1, 15)], 1, 256),
        (7, [(1, 100)], 1, 256),
        (7, [], 1, 256),
        (2 * 2049 * 8, [(2, 2049 * 8)], 4, 2 * 65 * 256),  # a byte more than a row of 2 KiB
        (4 * (200 + 100) * 8, [(4, 200 * 8), (4, 100 * 8)], 8, 4 * (7 + 4) * 256),
        (2 * (200 + 100) * 8, [(4, 200 * 8), (4, 100 * 8)], 4, 2 * (7 + 4) * 256),
    ],
)
def test_runs_in_rows_of_their_own(bits, runs, rows, moved, tmp_path):
    """LPDDR4: rows opened and bits moved, counted by hand; of a share of the runs, as many as their share."""
    found = Accesses(chip_of(tmp_path, swap(CHIP, "transport:", ROW_MAJOR)), ()).dram("read", "weight", bits, runs)
    assert [count.count for count in found.counts] == [moved, rows]


@pytest.mark.parametrize(
    ("samples", "rows", "outputs", "columns", "runs"), [(3, 2, 8, 2, 8), (5, 4, 9, 4, 6), (17, 16, 64, 16, 8)]
)
def test_folds_at_the_edge_are_runs_too(samples, rows, outputs, columns, runs, tmp_path):
    """By hand: all samples' values are fetched again for every fold of the outputs, in as many runs as the samples have
    folds, the last of which is shorter."""
    text = swap(
        swap(CHIP, "transport:", ROW_MAJOR), "holds: [psum, mask, error, activation]", "holds: [psum, mask, error]"
    )
    parts = yaml.safe_load(text)
    parts["memories"].append(
        {"name": "values", "holds": ["activation"], "size_kib": 2**-10, "bank_kib": 2**-10, "width_bits": 8}
        | {"read_bits_per_cycle": 64, "write_bits_per_cycle": 64, "assumed": "a test"}
    )
    for array in parts["arrays"]:
        array["memories"].append("values")
    parts["arrays"][0] |= {"rows": rows, "cols": columns}
    chip, network = chip_of(tmp_path, yaml.safe_dump(parts)), graph((100,), {"kind": "linear", "out": outputs})
    found = counts(step(chip, network, "bp", samples), phase="forward", action="activate", tensor="activation")
    assert found == runs + 2  # and one each for samples that come in and results


@given(st.integers(1, 40), st.integers(1, 200), st.integers(1, 16))
@settings(max_examples=50)
def test_rows_of_runs_against_a_walk(width, values, runs):
    """Every run walked byte by byte: the rows and bursts that it touches. More runs never cost less."""
    accesses = Accesses(load_chip("edge_dual", {"dram.layout": "row_major"}), ())
    run_bits = width * values
    rows, bursts = (len({(run, bit // 8 // size) for run in range(runs) for bit in range(run_bits)})
                    for size in (2048, 32))  # fmt: skip
    found = accesses.dram("write", "weight", runs * run_bits, [(runs, run_bits)]).counts
    assert [count.count for count in found] == [bursts * 256, rows]
    assert accesses.dram("write", "weight", 2 * runs * run_bits, [(2 * runs, run_bits)]).counts[1].count >= rows
