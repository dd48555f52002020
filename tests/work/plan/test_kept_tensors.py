"""The lives of tensors: all that the tasks read and write, in all bits that are placed."""

from collections import defaultdict
from dataclasses import replace

import pytest

from fahw.errors import ConfigError
from fahw.hardware.load import load_chip
from fahw.network.load import load_model
from fahw.rules.catalogue import RULES
from fahw.work import tensor_sizes
from fahw.work.plan.tensors.kept_tensors import kept_tensors
from fahw.work.plan.tensors.lives import ordered_tasks
from tests.support.contexts import context
from tests.support.models import convolutional, everything, graph, mlp
from tests.support.random_setups import random_setup
from tests.support.rules import RULE_VALUES
from tests.support.strategies import SHIPPED_CHIPS, SHIPPED_MODELS

PERSISTENT = ("weight", "master", "optimizer", "gradient", "param", "feedback")
GATED = graph(
    (3, 6, 6),
    {"kind": "conv2d", "name": "c0", "out": 4, "kernel": 3, "padding": 1},
    {"kind": "silu", "name": "s0"},
    {"kind": "avgpool2d", "name": "p0", "kernel": "all"},
    {"kind": "conv2d", "name": "g", "out": 4, "kernel": 1},
    {"kind": "sigmoid", "name": "sg"},
    {"kind": "mul", "name": "m", "from": ("s0", "sg")},
    {"kind": "conv2d", "name": "c1", "out": 5, "kernel": 3},
    {"kind": "tanh", "name": "t1"},
    {"kind": "flatten", "name": "f"},
    {"kind": "linear", "name": "l", "out": 4},
)  # fmt: skip
NETWORKS = {
    "everything": everything(), "projection": everything("projection"), "gated": GATED,
    "passed": replace(everything("projection"), dfa_residual="biotorch"), "chain": convolutional(),
}  # fmt: skip
DYNAMIC = {f"precision.scale.{name}": "per_tensor" for name in ("activation", "error", "gradient", "weight")}
CHIPS = {
    "dual": ("edge_dual", {}), "dynamic": ("edge_dual", DYNAMIC), "micro": ("edge_dual", {"micro_batch": 2}),
    "shared": ("edge_shared", {}), "fused": ("df_lnpu", {}), "fused_micro": ("df_lnpu", {"micro_batch": 2}),
    "mesh": ("neurocore_mesh", {}), "gathered": ("dfa_prng", {}),
    "separate": ("neurocore_mesh", {"mesh.error_cores": "separate"}),
}  # fmt: skip
AGAIN = {
    f"{name} {every}": (name, overrides | {"mapping": "best", "recompute": every})
    for every in (2, 3, 99)
    for name, overrides in (
        ("edge_dual", {}),
        ("edge_shared", {"micro_batch": 2}),
        ("edge_dual", DYNAMIC),
        ("df_lnpu", {}),
    )
}
USUAL = ("bp", "usf", "dfa", "tdfa", "drtp", "kp", "wm", "lrfa", "last", "frozen_conv")


def contexts(chip, networks, rules, batch):
    """The contexts and tasks of those that fit the chip."""
    for network in networks:
        for rule in rules:
            try:
                yield context(chip, network, rule, batch)
            except ConfigError:
                continue


def counted(step, tasks):
    """By task of the first micro-batch or of the step, what it reads and writes in memories, as (action, kind)."""
    memories = {
        f"{site.prefix}{memory.name}"
        for site in step.sites.values()
        for memory in step.chip.memories
        if memory.writable
    }
    found = defaultdict(set)
    for task in tasks:
        noise = task.phase == "forward" and task.micro == len(step.micro_batch_sizes)
        for count in task.counts:
            if count.component in memories and count.count and count.tensor != "psum":
                found[task.id if noise else task.id[:2]].add((count.action, count.tensor))
    return found


def used(tensors):
    """The same from the uses of tensors."""
    found = defaultdict(set)
    for tensor in tensors:
        for name in tensor.writes:
            found[name].add(("write", tensor.tensor))
        for use in tensor.reads:
            found[use.task].add(("read", tensor.tensor))
    return found


def assert_uses_are_those_of_tasks(step, tasks):
    """Every read and write of a task has a tensor, and none has one that the task does not touch; but what lies among
    another kind: W that the error reads counts as feedback, a scale that waits with the statistics as a parameter."""
    tensors = kept_tensors(step)
    counts, uses = counted(step, tasks), used(tensors)
    assert len({(tensor.core, tensor.name) for tensor in tensors}) == len(tensors)
    constants = {use.task for tensor in tensors if tensor.name.startswith("norm constants") for use in tensor.reads}
    for name in {*counts, *uses}:
        there, found = counts[name], uses[name]
        if name[0] == "error" and ("read", "weight") in found:
            assert ("read", "feedback") in there
            there, found = there - {("read", "feedback")}, found - {("read", "weight"), ("read", "feedback")}
        if name in constants:
            there, found = there - {("read", "param")}, found - {("read", "param")}
        assert there == found, name


def bits_of(step, tensors, core, names):
    """Bits by kind on a core. Of what passes from one task to the next only the most that is there at a time counts, as
    in placements; `names`: the tasks of a step in their order."""
    bits, passing, alive, noise = defaultdict(int), defaultdict(int), defaultdict(int), [0]
    place = {name: number for number, name in enumerate(names)}
    for tensor in (tensor for tensor in tensors if tensor.core == core):
        if tensor.name.startswith(("narrow error", "error sums", "answers")):
            passing[tensor.name.rpartition(" ")[2]] += tensor.bits
        elif tensor.name.startswith("noise"):
            noise.append(tensor.bits)
        elif is_passing(step, tensor):
            uses = [place[name] for name in (*tensor.writes, *(use.task for use in tensor.reads))]
            for number in range(max(1, min(uses)), max(uses) + 1):
                alive[number] += tensor.bits
        else:
            bits[tensor.tensor] += tensor.bits
    bits["error"] += max(passing.values(), default=0)
    bits["activation"] += max(noise) + max(alive.values(), default=0)
    return bits


def is_passing(step, tensor):
    """Whether a tensor is of no use once the way forward has read it: a product does, or no error comes back."""
    if tensor.tensor != "activation" or any(use.task[0] != "forward" for use in tensor.reads):
        return False
    if tensor.name.startswith("saved") or any(use.is_operand for use in tensor.reads):
        return True
    return step.graph.owners[tensor.name.split()[1]] not in step.graph.roles.receives


def placed_bits(step, core):
    """Bits by kind that one micro-batch of one step in flight has placed on a core, persistent ones of the whole
    step."""
    chip, parts = step.chip.model_copy(update={"steps_in_flight": 1}), [p for ps in step.parts.values() for p in ps]
    whole, first = sum(step.micro_batch_sizes), max(step.micro_batch_sizes)
    single = chip.model_copy(update={"micro_batch": None})
    sizes = [
        tensor_sizes.tensor_bits(c, step.network, step.graph, step.rule, samples, parts, core, step.packed_bits)
        for c, samples in ((chip, whole), (single, first))
    ]
    return {kind: sizes[0 if kind in PERSISTENT else 1][kind] for kind in sizes[0]}


def joined_at_once(step, core):
    """Bits that placements count for layers whose own tail joins their outputs with others: these leave no lanes."""
    bits = 0
    for part in (part for parts in step.parts.values() for part in parts if part.core == core):
        tail, name = step.graph.tails[part.whole.name], part.whole.name
        if any(len(item.sources) > 1 and name in item.sources for item in tail):
            size = part.whole.outputs
            bits += step.packed_bits("activation", step.first_reader(part.whole), size, step.bits("activation"))
    return bits * max(step.micro_batch_sizes)


def assert_bits_are_those_placed(step):
    """All bits of placements belong to a tensor, and none is counted twice."""
    tensors, names = kept_tensors(step), list(ordered_tasks(step))
    trained = step.rule.trains == "all" and not any(layer.frozen for layer in step.network.weighted)
    for core in step.sites:
        found, placed = bits_of(step, tensors, core, names), placed_bits(step, core)
        at_once = joined_at_once(step, core)
        placed["activation"] -= at_once if trained else 0
        for kind, bits in placed.items():
            if kind == "activation" and at_once and not trained:
                assert found[kind] <= bits, (core, kind)
            elif step.chip.mesh is not None and step.chip.mesh.error_cores == "separate":
                # noise at the forward core, and values of which a second core computes the gradient again
                assert found[kind] >= bits, (core, kind)
            else:
                assert found[kind] == bits, (core, kind)


@pytest.mark.parametrize("chip", CHIPS)
def test_every_access_of_a_task_has_its_tensor(chip):
    """And every bit that is placed belongs to one: on networks with all kinds of layers, under all kinds of rules."""
    name, overrides = CHIPS[chip]
    number = 0
    for step, tasks in contexts(load_chip(name, overrides), NETWORKS.values(), USUAL, 5):
        assert_uses_are_those_of_tasks(step, tasks)
        assert_bits_are_those_placed(step)
        number += 1
    assert number >= 5


@pytest.mark.parametrize("chip", SHIPPED_CHIPS)
def test_every_access_of_some_shipped_has_its_tensor(chip):
    """On each shipped chip some models and rules."""
    names = ("mlp_digits", "lenet5", "resnet20")
    for step, tasks in contexts(chip, names, ("bp", "dfa", "last", "frozen_conv"), 16):
        assert_uses_are_those_of_tasks(step, tasks)
        assert_bits_are_those_placed(step)


@pytest.mark.parametrize("chip", AGAIN)
def test_every_access_of_what_is_computed_again_has_its_tensor(chip):
    """Of what is dropped, nothing that only the way back reads is written on the way forward."""
    name, overrides = AGAIN[chip]
    number = 0
    for step, tasks in contexts(load_chip(name, overrides), NETWORKS.values(), USUAL, 5):
        assert_uses_are_those_of_tasks(step, tasks)
        number += bool(step.segments.again)
    assert number >= 5


@pytest.mark.long
@pytest.mark.parametrize("chip", SHIPPED_CHIPS)
def test_every_access_of_the_shipped_has_its_tensor(chip):
    """On all shipped chips, models and rules; no exception but the kinds that lie among others."""
    for step, tasks in contexts(chip, SHIPPED_MODELS, RULES, 16):
        assert_uses_are_those_of_tasks(step, tasks)
        assert_bits_are_those_placed(step)


@pytest.mark.long
@pytest.mark.parametrize("chip", CHIPS)
def test_every_access_under_any_rule_has_its_tensor(chip):
    """Under every rule that can be made of a few values of each choice."""
    name, overrides = CHIPS[chip]
    for step, tasks in contexts(load_chip(name, overrides), NETWORKS.values(), RULE_VALUES, 5):
        assert_uses_are_those_of_tasks(step, tasks)
        assert_bits_are_those_placed(step)


def test_every_access_of_random_setups_has_its_tensor():
    """On random chips and networks, but where so few values are not zero that no word of them is read."""
    for seed in range(40):
        setup = random_setup(seed)
        if setup.made_chip.activity is None:
            step, tasks = context(setup.made_chip, setup.network, setup.rule, setup.batch)
            assert_uses_are_those_of_tasks(step, tasks)
            assert_bits_are_those_placed(step)


@pytest.mark.parametrize("rule", USUAL)
@pytest.mark.parametrize("chip", ["edge_dual", "neurocore_mesh"])
def test_uses_are_in_the_order_of_a_steps_tasks(chip, rule):
    step, tasks = context(chip, everything(), rule, 16)
    ids = [task.id for task in tasks]
    names = list(ordered_tasks(step))
    assert [name for name in ids if name in set(names)] == names
    assert {name[:2] for name in ids} == {name[:2] for name in names}


def life(step, name, core=0):
    """The writers of a tensor, and its readers, operands marked."""
    (tensor,) = (tensor for tensor in kept_tensors(step) if (tensor.name, tensor.core) == (name, core))
    reads = [f"{' '.join(map(str, use.task))}{' *' * use.is_operand}" for use in tensor.reads]
    return [" ".join(map(str, name)) for name in tensor.writes], reads


def test_lives_of_a_chain_by_hand():
    """Three linear layers with relus under bp: what each tensor waits for."""
    step, _ = context("edge_dual", mlp(6, 5, 4, 3), "bp", 4)
    assert life(step, "activation relu1") == (
        ["forward linear0"], ["forward linear2 *", "gradient linear2 *"]
    )  # fmt: skip
    assert life(step, "mask linear0 for linear2") == (["forward linear0"], ["error linear2"])
    assert life(step, "activation linear4") == (["forward linear4"], ["error loss"])
    assert life(step, "error linear4") == (["error loss"], ["error linear4 *", "gradient linear4 *"])
    assert life(step, "error linear0") == (["error linear2"], ["gradient linear0 *"])
    assert life(step, "gradient linear2") == (["gradient linear2"], ["update linear2"])
    assert life(step, "feedback linear2") == (["transport linear2"], ["error linear2 *"])
    assert life(step, "weight linear0") == (["update linear0"], ["forward linear0 *"])


def test_a_direct_rule_reads_the_output_error_for_every_layer():
    step, _ = context("edge_dual", mlp(6, 5, 4, 3), "dfa", 4)
    assert life(step, "error linear4") == (
        ["error loss"], ["error linear2 *", "error linear4 *", "gradient linear4 *"]
    )  # fmt: skip


def test_a_derivative_by_the_output_reads_what_the_next_layer_read():
    """tanh after a convolution, before a flattening: the stored output is the operand, too; before pooling a copy is
    saved."""
    step, _ = context("edge_dual", convolutional(), "bp", 4)
    assert "error linear6" in life(step, "activation flatten5")[1]
    assert life(step, "mask conv2d0 for conv2d3")[1] == ["error conv2d3"]


def test_the_error_of_a_shortcut_lives_from_the_block_above():
    """What a block and its shortcut read gets errors from both: the first of them begins its life, the sum is read."""
    step, _ = context("edge_dual", "resnet20", "bp", 4)
    writes, reads = life(step, "error layer1_0_conv2")
    assert writes == ["error layer1_2_conv1", "error layer1_1_conv1"]
    assert reads == ["error layer1_1_conv1", "error layer1_0_conv2 *", "gradient layer1_0_conv2 *"]


def test_norms_read_what_they_saved_twice():
    """Once more on the way forward, and on the way back, with the statistics."""
    step, _ = context("edge_dual", "resnet20", "bp", 4)
    name = "layer1_0_conv1"
    assert life(step, f"saved {name}") == ([f"forward {name}"], [f"forward {name}", "error layer1_0_conv2"])
    assert life(step, f"norm constants {name}") == ([f"forward {name}"], ["error layer1_0_conv2"])


def test_only_samples_come_from_dram_anyway():
    """Flattened or not; what is computed from them does not."""
    flat = graph((2, 3, 3), {"kind": "flatten", "name": "f"}, {"kind": "linear", "name": "l", "out": 4})
    drawn = graph((6,), {"kind": "dropout", "name": "d", "p": 0.5}, {"kind": "linear", "name": "l", "out": 4})
    names = {}
    for key, network in (("flat", flat), ("drawn", drawn), ("plain", mlp(6, 5, 4)), ("images", load_model("lenet5"))):
        step, _ = context("edge_dual", network, "last", 4)
        names[key] = [tensor.name for tensor in kept_tensors(step) if tensor.from_dram]
    assert names == {
        "flat": ["activation f"], "drawn": [], "plain": ["activation input"], "images": ["activation input"],
    }  # fmt: skip


def test_gradients_live_through_the_step_where_micro_batches_add_up():
    """Else from their task to the update."""
    for micro, persistent in ((None, False), (2, True)):
        step, _ = context(load_chip("edge_dual", {"micro_batch": micro}), mlp(6, 5, 4), "bp", 4)
        (gradient,) = (tensor for tensor in kept_tensors(step) if tensor.name == "gradient linear0")
        assert gradient.persistent == persistent
