"""Rules beyond the six on a chip: what they read, store and move, by hand, and what waits for what."""

from collections import Counter
from dataclasses import replace
from math import ceil, erf, exp, pi, sqrt

import pytest

from fahw.chip.cost import simulate
from fahw.chip.transport_forms import forms_of
from fahw.errors import ConfigError
from fahw.hardware.load import load_chip
from fahw.network.error_path import roles_of
from fahw.network.load import load_model
from fahw.rules.catalogue import COMPARED, RULES
from fahw.rules.rule import MIRROR_SAMPLES, Rule
from fahw.work.counts.record import local_name
from tests.support.steps import counts, step
from tests.support.strategies import CHIP, MODEL, ROOT, chip_of, network_of, swap

ADDED = [name for name in RULES if name not in COMPARED]
OWN_PLACE = {"dfa_prng": ("fa", "dfa", "bfa", "bdfa", "sdfa", "lrfa", "tdfa", "drtp", "last")}
"""Rules that a chip can host whose feedback weights come from a generator alone: fixed ones, or none."""
BYTES = {"widths": (8,)}
"""Of operations on words of 8 bits."""
LFSR = "rounding_generator: {pj_per_bit: 1, bits_per_cycle: 8, area_mm2: 0, assumed: a test}\ntransport:"


def worked(rule, **changes):
    """The worked example's network 4-3-2 at batch 2 on its chip: one value per memory word, 16-bit states two words."""
    chip = load_chip(ROOT / "docs" / "worked_chip.yaml").model_copy(update=changes)
    return step(chip, load_model(ROOT / "docs" / "worked_model.yaml"), rule, 2)


def lfsr(tmp_path):
    return chip_of(tmp_path, swap(CHIP, "transport:", LFSR)).rounding_generator


def task(work, *name):
    (found,) = (task for task in work.tasks if task.id == name)
    return found


def lanes_of(found):
    """A task's operations of the lanes by (action, widths)."""
    done = Counter()
    for count in found.counts:
        if count.component.endswith(".vector") and not count.action.startswith("clock_"):
            done[count.action, count.widths] += count.count
    return done


def waits_for(work, name):
    """Everything of the same step that must have ended before a task starts."""
    after = {task.id: set(task.after) for task in work.tasks}
    found, pending = set(), [name]
    while pending:
        pending += after[pending.pop()] - found
        found |= set(pending)
    return found


# values


def test_every_rule_says_what_it_reads_stores_and_moves():
    assert all({"reads", "as"} & set(rule.does.split()) or "no error path" in rule.does for rule in RULES.values())
    nameless = {replace(rule, name="", title="", source="", does="") for rule in RULES.values()}
    assert len(nameless) == len(RULES), "two rules are the same choices"


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"signal": "targets"}, "path must be direct"),
        ({"signal": "ternary"}, "path must be direct"),
        ({"learned": "mirror", "path": "direct"}, "shaped as its weights"),
        ({"learned": "gradient", "sign": "weight"}, "shaped as its weights"),
        ({"pruned": 1.0}, r"lies in \[0, 1\)"),
    ],
)
def test_choices_that_contradict_each_other_make_no_rule(choices, message):
    given = {"path": "layerwise", "sign": "own", "magnitude": "own"} | choices
    with pytest.raises(ValueError, match=message):
        Rule("x", "X", **given, source="a test", does="reads")


def test_pruned_zeros_are_those_of_a_normal_distribution():
    """The integral of (1 - |x|/t) over [-t, t] under the normal density, summed finely."""
    rule, n = RULES["egrad"], 200_000
    t = rule.pruning_threshold
    assert erf(t / sqrt(2)) == pytest.approx(rule.pruned)
    points = ((i + 0.5) / n * t for i in range(n))
    density = sum((1 - x / t) * exp(-x * x / 2) for x in points) * 2 * t / n / sqrt(2 * pi)
    assert rule.pruned_zeros == pytest.approx(density, abs=1e-6)
    assert replace(rule, pruned=0.0).pruned_zeros == 0


# binary, ternary, targets: the worked network sends 2 samples x 2 errors through B of 2 x 3


def test_binary_feedback_is_one_bit_per_weight():
    """Six feedback weights are six bits: one word to write, and one of each of two rows and folds to read."""
    work, full = worked("bdfa"), worked("dfa")
    assert (work.feedback_bits, full.feedback_bits) == (6, 48)
    assert [count.count for count in work.one_time] == [1]
    assert counts(work, phase="error", component="feedback", action="read") == 2
    assert counts(full, phase="error", component="feedback", action="read") == 6
    (mac,) = (c for c in task(work, "error", "linear2").counts if c.action == "mac")
    assert mac.widths == (8, 1, 32)


def test_a_ternary_error_is_a_copy_of_two_bits():
    """The exact error, 4 words, is the last layer's; one word, 4 values of 2 bits found by 8 compares, goes back."""
    work, full = worked("tdfa"), worked("dfa")
    assert counts(work, layer="loss", action="write", tensor="error") == 4 + 1
    compared = [counts(w, layer="loss", action="compare", **BYTES) for w in (work, full)]
    assert compared[0] - compared[1] == 2 * 4
    assert counts(work, phase="error", layer="linear2", action="read", tensor="error") == 2  # 2 folds of a word
    assert counts(full, phase="error", layer="linear2", action="read", tensor="error") == 8
    (mac,) = (c for c in task(work, "error", "linear2").counts if c.action == "mac")
    assert (mac.count, mac.widths) == (12, (2, 8, 32))
    gradient = [sum(c.count for c in task(w, "gradient", "linear2").counts) for w in (work, full)]
    assert gradient[0] == gradient[1], "the last layer learns from the exact error"


def test_a_target_reads_its_row_of_b_and_multiplies_nothing():
    """Two labels (a byte each) are stored and read; each fetches a row of 3 weights; six are rounded and masked."""
    work = worked("drtp")
    found = task(work, "error", "linear2")
    assert [(c.component, c.action, c.tensor, c.count) for c in found.counts if not c.action.startswith("clock")] == [
        ("buffer", "read", "error", 2), ("feedback", "read", "feedback", 6), ("bwd.vector", "shift", "error", 6),
        ("buffer", "read", "mask", 1), ("bwd.vector", "compare", "error", 6), ("buffer", "write", "error", 6),
    ]  # fmt: skip
    assert counts(work, phase="error", action="mac") == found.macs == 0
    assert counts(work, layer="input", tensor="error", action="write") == 2
    assert counts(work, layer="loss", tensor="error", action="write") == 4
    assert worked("dfa").macs - work.macs == 12


@pytest.mark.parametrize("chip", ["edge_dual", "edge_shared", "neurocore_mesh", "dfa_prng", "tpu_like"])
def test_only_targets_unlock_the_update(chip):
    """Under drtp no hidden layer's error, gradient or update waits for the loss or for a layer above; under dfa all
    errors do."""
    names = [layer.name for layer in load_model("mlp_digits").weighted]
    work, other = step(chip, "mlp_digits", "drtp", 16), step(chip, "mlp_digits", "dfa", 16)
    for number, name in enumerate(names[:-1]):
        above = set(names[number + 1 :])
        update = next(t for t in work.tasks if t.phase == "update" and t.layer.split("/")[0] == name)
        before = waits_for(work, update.id)
        assert ("error", "loss") not in before
        assert not [t for t in before if t[0] == "forward" and t[1].split("/")[0] in above], "of a layer above"
        late = next(t for t in other.tasks if t.phase == "update" and t.layer.split("/")[0] == name)
        assert ("error", "loss") in waits_for(other, late.id)
    last = next(t for t in work.tasks if t.phase == "update" and t.layer.split("/")[0] == names[-1])
    assert ("error", "loss") in waits_for(work, last.id), "the last layer learns from the error"


# feedback that learns


def test_kolen_pollack_beside_the_update_by_hand():
    """Where the update's array is wired to B: six weights are read and written once, nothing else is added but their
    difference, the decay of W and B (a shift and a difference each) and their rounding."""
    chip = load_chip(ROOT / "docs" / "worked_chip.yaml")
    forward, backward = chip.arrays
    wired = forward.model_copy(update={"memories": (*forward.memories, "feedback")})
    work, plain = worked("kp", arrays=(wired, backward)), worked("fa", arrays=(wired, backward))
    assert work.feedback_bits == plain.feedback_bits == 6 * 8
    assert work.transported_bits == 0
    assert work.macs == plain.macs
    assert not [t for t in work.tasks if t.phase == "transport"]
    got, fixed = (Counter(), Counter())
    for found, w in ((got, work), (fixed, plain)):
        for c in task(w, "update", "linear2").counts:
            found[c.component, c.action, c.tensor, *c.widths] += 0 if "clock" in c.action else c.count
    assert got - fixed == {
        ("fwd.vector", "shift", "master", 16): 6, ("fwd.vector", "subtract", "master", 16): 6,  # W decays
        ("fwd.vector", "subtract", "feedback", 16): 12, ("fwd.vector", "shift", "feedback", 16): 6,  # B steps, decays
        ("fwd.vector", "shift", "feedback", 8): 6,  # and is rounded
        ("feedback", "read", "feedback"): 6, ("feedback", "write", "feedback"): 6,
    }  # fmt: skip
    assert counts(work, component="feedback", action="write") == 6
    assert counts(work, phase="update", component="feedback", action="read") == 6
    assert ("error", "linear2") in task(work, "update", "linear2").after, "B is still read until then"
    assert task(work, "error", "linear2").after_previous == (("update", "linear2"),)


def test_kolen_pollack_apart_from_the_update_by_hand():
    """On the worked chip: the gradient again (8 errors and 6 inputs read, 12 MACs), velocities (two words each) and
    feedback words read and written, all on the array of the error path."""
    work, plain = worked("kp"), worked("fa")
    assert work.transported_bits == 0
    assert work.feedback_bits == 6 * (8 + 16)
    assert work.macs - plain.macs == 12
    found = task(work, "transport", "linear2")
    assert (found.part, found.payload_bits) == ("bwd", 0)
    traffic = [(c.component, c.action, c.tensor, c.count) for c in found.counts if c.action in ("read", "write", "mac")]
    assert traffic == [
        ("buffer", "read", "error", 8), ("buffer", "read", "activation", 6), ("bwd", "mac", "feedback", 12),
        ("feedback", "read", "feedback", 12), ("feedback", "write", "feedback", 12),
        ("feedback", "read", "feedback", 6), ("feedback", "write", "feedback", 6),
    ]  # fmt: skip
    assert set(found.after) == {("error", "loss"), ("error", "linear2"), ("forward", "linear2")}
    assert task(work, "error", "linear2").after_previous == (("transport", "linear2"),)


def test_a_gradient_computed_again_goes_micro_batch_by_micro_batch():
    """Each micro-batch adds to the velocity; only the last changes the feedback words; the next step's error waits for
    that one."""
    whole, split = worked("kp"), worked("kp", micro_batch=1)
    assert split.macs == whole.macs
    (first, last) = (t for t in split.tasks if t.phase == "transport")
    assert lanes_of(first) == {("accumulate", (16,)): 6, ("shift", (16,)): 6}
    for found, words in ((first, 12), (last, 12 + 6)):
        assert sum(c.count for c in found.counts if (c.component, c.action) == ("feedback", "write")) == words
    assert first.id in last.after
    assert task(split, "error", "linear2").after_previous == (last.id,)


@pytest.mark.parametrize("chip", ["edge_dual", "edge_shared", "neurocore_mesh", "tpu_like"])
@pytest.mark.parametrize("rule", ["kp", "wm"])
def test_learned_feedback_moves_nothing_and_is_written_once_per_weight_and_step(chip, rule):
    """lenet5 on shipped chips: as many values as weights send errors, in their bits; what velocities add is apart."""
    work, fa = step(chip, "lenet5", rule, 32), step(chip, "lenet5", "fa", 32)
    assert work.transported_bits == fa.transported_bits == 0
    assert counts(work, action="send") == 0
    written = counts(work, tensor="feedback", action="write")
    sending = load_model("lenet5").weighted[1:]
    home = work.chip.home("feedback")
    words = sum(ceil(layer.weights * 8 / home.width_bits) for layer in sending)
    velocity = step(chip, "lenet5", rule, 32).feedback_bits > fa.feedback_bits
    micros = -(-32 // (work.chip.micro_batch or 32))
    extra = sum(ceil(layer.weights * 16 / home.width_bits) for layer in sending) * micros if velocity else 0
    spilled = any(p.spilled_bits for p in work.placements if p.tensor == "feedback")  # then staging is written too
    assert written > words + extra if spilled else written == words + extra
    assert spilled == (chip == "neurocore_mesh" and rule == "kp")
    assert spilled or [c.count for c in work.one_time] == [c.count for c in fa.one_time]


def test_a_mirror_by_hand(tmp_path):
    """16 samples of one bit through 6 weights, and their outer product: 2 x 96 MACs. The noise, 48 bits, is 6 words to
    write; responses are 32 words; 6 weights are read and written."""
    work = worked("wm", rounding_generator=lfsr(tmp_path))
    plain = worked("fa")
    samples = MIRROR_SAMPLES
    assert work.macs - plain.macs == 2 * samples * 3 * 2
    noise = task(work, "forward", "linear2", 1)
    assert {c.action: c.count for c in noise.counts if c.component == "rounding_generator"} == {"generate": samples * 3}
    (mac,) = (c for c in noise.counts if c.action == "mac")
    assert (mac.count, mac.widths) == (samples * 6, (1, 8, 32))
    written = [(c.tensor, c.count) for c in noise.counts if c.action == "write"]
    assert written == [("activation", samples * 3 // 8), ("error", samples * 2)]
    mirror = task(work, "transport", "linear2")
    assert (mirror.part, mirror.payload_bits) == ("bwd", 0)
    assert [(c.action, c.count) for c in mirror.counts if c.component == "feedback"] == [("read", 6), ("write", 6)]
    assert lanes_of(mirror) == {
        ("subtract", (32,)): 6, ("shift", (32,)): 6, ("add", (32,)): 6, ("shift", (8,)): 6,  # drawn to it, rounded
    }  # fmt: skip
    assert noise.after == (("update", "linear2"),)
    assert set(mirror.after) == {noise.id, ("error", "linear2")}
    assert task(work, "error", "linear2").after_previous == (mirror.id,)
    assert work.feedback_bits == 6 * 8


def test_positions_of_a_convolution_are_samples_of_its_mirror(tmp_path):
    """A convolution of 4 x 4 positions needs one map of noise; its MACs are those of one sample's forward pass."""
    text = swap(MODEL, "  - {kind: relu}\n", "  - {kind: relu}\n  - {kind: conv2d, out: 2, kernel: 3, padding: 1}\n")
    network, chip = network_of(tmp_path, text), chip_of(tmp_path, swap(CHIP, "transport:", LFSR))
    work = step(chip, network, "wm", 2)
    conv = network.weighted[1]
    assert conv.positions == 16
    assert task(work, "forward", conv.name, 1).macs == conv.macs


# pruned errors


def test_pruning_compares_and_draws_for_every_hidden_error(tmp_path):
    """Six hidden errors: six sums of sizes, twelve compares, 48 random bits beside frsf's work; the same transport."""
    work, plain = worked("egrad", rounding_generator=lfsr(tmp_path)), worked("frsf")
    extra = {
        action: counts(work, phase="error", action=action, **of) - counts(plain, phase="error", action=action, **of)
        for action, of in (("add", BYTES), ("compare", BYTES), ("generate", {}), ("mac", {}))
    }
    assert extra == {"add": 6, "compare": 12, "generate": 48, "mac": 0}
    assert (work.transported_bits, work.feedback_bits) == (plain.transported_bits, plain.feedback_bits) == (6, 48)


def test_pruned_errors_are_skipped(tmp_path):
    """Where the arrays skip zeros, those that pruning adds are taken from the hidden errors only, of assumed activity
    only."""
    chip = load_chip("neurocore_mesh")
    work, plain = step(chip, "mlp_digits", "egrad", 16), step(chip, "mlp_digits", "frsf", 16)
    assumed, pruned = chip.activity.zero_error, RULES["egrad"].pruned_zeros
    for phase, layer in (("error", "linear2"), ("gradient", "linear2"), ("gradient", "linear1")):
        got, full = (counts(w, phase=phase, layer=layer, action="mac") for w in (work, plain))
        assert got / full == pytest.approx(1 - pruned, rel=1e-3), (phase, layer)
    assert counts(work, layer="linear3", action="mac") == counts(plain, layer="linear3", action="mac")
    assert 0 < assumed < 1


# which layers learn


def test_the_last_layer_alone_has_no_error_path():
    """No error, transport or feedback; forward as ever; a gradient, a state and an update of the last layer only."""
    work, bp = step("edge_dual", "lenet5", "last", 16), step("edge_dual", "lenet5", "bp", 16)
    last = load_model("lenet5").weighted[-1]
    assert {t.layer for t in work.tasks if t.phase in ("error", "gradient", "update", "transport")} == {
        "loss",
        last.name,
    }
    assert (work.feedback_bits, work.transported_bits, work.one_time) == (0, 0, ())
    assert counts(work, phase="forward", action="mac") == counts(bp, phase="forward", action="mac")
    placed = {p.tensor: p.bits for p in work.placements}
    assert placed["master"] == placed["optimizer"] == placed["gradient"] == last.weights * 16
    assert "mask" not in placed
    assert counts(work, tensor="mask") == 0


def test_frozen_convolutions_are_a_dense_network_behind_fixed_features():
    """On lenet5 the linear layers work as under bp; the convolutions go forward, keep their words and do no more."""
    network = load_model("lenet5")
    work, bp = step("edge_dual", network, "frozen_conv", 16), step("edge_dual", network, "bp", 16)
    convs = [x.name for x in network.weighted if x.kind == "conv2d"]
    dense = [x.name for x in network.weighted if x.kind == "linear"]
    busy = {t.layer for t in work.tasks if t.phase not in ("forward",)} - {"loss"}
    assert busy == set(dense)
    assert {t.layer for t in work.tasks if t.phase == "error"} == {"loss", *dense[1:]}, "nothing goes into the frozen"
    for phase, names in (("forward", convs + dense), ("gradient", dense), ("update", dense), ("error", dense[1:])):
        for name in names:
            mine, theirs = task(work, phase, name), task(bp, phase, name)
            assert (mine.macs, mine.after) == (theirs.macs, theirs.after)
    assert all(task(work, "forward", name).after_previous == () for name in convs), "their weights never change"
    placed, whole = ({p.tensor: p.bits for p in w.placements} for w in (work, bp))
    assert placed["weight"] == whole["weight"]
    assert placed["master"] == sum(x.weights for x in network.weighted if x.name in dense) * 16


def test_where_nothing_is_a_convolution_all_layers_learn():
    work, bp = step("edge_dual", "mlp_digits", "frozen_conv", 16), step("edge_dual", "mlp_digits", "bp", 16)
    assert work.tasks == bp.tasks


def test_roles_on_a_residual_network():
    """Frozen convolutions of resnet20: only its classifier learns, so that nothing is sent; under dfa every layer that
    reads another sends."""
    network = load_model("resnet20")
    frozen, direct = roles_of(network, RULES["frozen_conv"]), roles_of(network, RULES["dfa"])
    assert (frozen.learns, frozen.sends) == ({network.weighted[-1].name}, frozenset())
    assert len(direct.sends) == len(network.weighted) - 1
    assert direct.learns == direct.receives == {layer.name for layer in network.weighted}


# everywhere


@pytest.mark.parametrize("rule", ADDED)
@pytest.mark.parametrize("chip", ["edge_dual", "edge_shared", "dfa_prng", "neurocore_mesh", "dram_bound", "tpu_like"])
def test_every_rule_on_every_chip_is_priced_or_refused_with_advice(chip, rule):
    """Tasks wait only for tasks that come before them, in the memories' limits; or the chip says what it lacks."""
    if rule not in OWN_PLACE.get(chip, RULES):
        with pytest.raises(ConfigError, match="holds feedback"):
            step(chip, "lenet5", rule, 16)
        return
    work, seen = step(chip, "lenet5", rule, 16), set()
    for found in work.tasks:
        assert set(found.after) <= seen, found.id
        assert found.id not in seen
        seen.add(found.id)
    assert all(set(found.after_previous) <= seen for found in work.tasks)
    assert all(count.count > 0 or count.action == "idle" for found in work.tasks for count in found.counts)
    for name in {p.memory for p in work.placements}:
        memory = work.chip.memory(local_name(name))
        assert sum(p.bits - p.spilled_bits for p in work.placements if p.memory == name) <= memory.kib * 8192


@pytest.mark.parametrize("rule", ADDED)
def test_every_joule_of_a_rule_has_an_address(rule):
    """The ledger of a step has a row for each, their sum is the energy, and only the phases of the rule are in it."""
    cost = simulate("edge_dual", "mlp_digits", rule, 16)
    assert cost.energy_pj == pytest.approx(sum(row.energy_pj for row in cost.ledger))
    assert all(row.unit_pj >= 0 and row.count > 0 for row in cost.ledger if not row.static)
    moved = [row for row in cost.ledger if row.phase == "transport"]
    assert bool(moved) == (rule in ("kp", "wm", "egrad", "frozen_conv"))


def test_only_backpropagation_is_its_own_baseline():
    """The chip without a feedback memory is bp's; rules with the same words but other layers are not priced there."""
    chip = load_chip("edge_dual")
    assert {rule for rule in RULES if "shared" in forms_of(chip, rule)} == {"bp"}
    assert forms_of(chip, "last") == ["none"]
    with pytest.raises(ConfigError, match="baseline of backpropagation"):
        simulate(chip, "mlp_digits", "frozen_conv", 16, "shared")


@pytest.mark.parametrize("rule", ["wm", "egrad"])
def test_a_rule_that_draws_is_refused_where_nothing_does(rule):
    with pytest.raises(ConfigError, match=f"{rule} draws random bits: the chip needs a rounding_generator"):
        worked(rule)
