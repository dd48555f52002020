"""Cores on a mesh: ways of messages, multicast, where layers go, layers on several cores, micro-batches."""

from itertools import pairwise

import networkx as nx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fahw.chip.cost import simulate
from fahw.errors import ConfigError
from fahw.hardware.array import ZeroSkipping
from fahw.hardware.load import load_chip
from fahw.network.load import load_model
from fahw.rules.catalogue import RULES
from fahw.work.mesh import message_traffic, parts_of, route
from tests.support.steps import counts, step
from tests.support.strategies import MODEL, network_of, swap

MESH = "neurocore_mesh"


def mesh_of(**settings):
    return load_chip(MESH, {f"mesh.{name}": str(value) for name, value in settings.items()})


def sending_zeros(chip):
    """The chip with arrays that skip nothing, so that messages hold every value."""
    arrays = tuple(array.model_copy(update={"zero_skipping": ZeroSkipping()}) for array in chip.arrays)
    return chip.model_copy(update={"arrays": arrays})


def ends_of(link):
    return tuple(int(core) for core in link.removeprefix("noc:").split(">"))


@given(rows=st.integers(1, 6), cols=st.integers(1, 6), data=st.data())
def test_a_way_is_a_shortest_one_that_turns_once(rows, cols, data):
    """Steps between neighbours, as many as the grid's distance (by a graph library), first along x, then along y."""
    mesh = mesh_of(rows=rows, cols=cols).mesh
    start, end = (data.draw(st.integers(0, rows * cols - 1)) for _ in range(2))
    way = [ends_of(link) for link in route(mesh, start, end)]
    grid = nx.grid_2d_graph(rows, cols)
    assert len(way) == nx.shortest_path_length(grid, divmod(start, cols), divmod(end, cols))
    assert [a for a, _ in way] + [end] == [start] + [b for _, b in way]
    along_y = [divmod(a, cols)[1] == divmod(b, cols)[1] for a, b in way]
    assert along_y == sorted(along_y)
    assert all(grid.has_edge(divmod(a, cols), divmod(b, cols)) for a, b in way)


def test_multicast_charges_every_link_of_the_tree_once():
    """From core 0 of a 3 x 3 mesh to 2, 5 and 8: x to 2, then down, four links; one message each takes 2 + 3 + 4."""
    tree, single = (
        message_traffic(mesh_of(rows=3, cols=3, multicast=m), "error", 100, 0, [2, 5, 8, 0]) for m in ("true", "false")
    )
    assert sum(count.count for count in tree.counts) == 100 * 4
    assert sum(count.count for count in single.counts) == 100 * 9
    assert {flow.part: flow.amount for flow in single.drains} == {
        "noc:0>1": 300, "noc:1>2": 300, "noc:2>5": 200, "noc:5>8": 100,
    }  # fmt: skip
    assert {flow.latency_cycles for flow in tree.drains} == {4 * 2}, "the farthest core, two cycles a hop"
    assert message_traffic(mesh_of(rows=3, cols=3), "error", 100, 4, [4]).counts == ()


def test_layers_one_to_a_core_balanced_or_as_given():
    """Three ways to place mlp_digits (8192, 8192 and 640 MACs a sample)."""
    network = load_model("mlp_digits")

    def cores(**settings):
        return {n: [p.core for p in found] for n, found in parts_of(mesh_of(**settings), network, False).items()}

    assert cores() == {"linear1": [0], "linear2": [1], "linear3": [2]}
    assert cores(rows=1, cols=2, placement="balanced") == {"linear1": [0], "linear2": [1], "linear3": [1]}
    given_ = "{linear1: 5, linear2: [3, 4], linear3: 5}"
    assert cores(placement=given_) == {"linear1": [5], "linear2": [3, 4], "linear3": [5]}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"placement": "{linear1: 5, linear2: 3}"}, "layer 'linear3' has no core"),
        ({"placement": "{linear1: 0, linear2: 1, linear3: 2, linear4: 3}"}, "no layer 'linear4'.*did you mean"),
        ({"placement": "{linear1: 64, linear2: 1, linear3: 2}"}, r"core 64 is not on the mesh .0 to 63"),
        ({"placement": "{linear1: [1, 1], linear2: 1, linear3: 2}"}, "cores must be different numbers"),
        ({"rows": 1, "cols": 2}, "needs 3 cores with one layer per core.*the mesh has 2.*placement: balanced"),
        ({"rows": 1, "cols": 5, "error_cores": "separate"}, "error_cores: separate needs 6 cores"),
    ],
)  # fmt: skip
def test_placements_that_cannot_be_are_refused(settings, message):
    """Every way to ask for what the mesh has not, with what there is."""
    with pytest.raises(ConfigError, match=message):
        simulate(mesh_of(**settings), "mlp_digits", "bp", 8)


def test_a_layer_too_large_for_a_core_is_split_or_refused(tmp_path):
    """784 x 512 weights of 8 bits are 392 KiB: four cores of 128 KiB; without splitting they spill or are refused."""
    network = load_model("mlp_mnist")
    parts = parts_of(mesh_of(), network, False)
    assert {name: len(found) for name, found in parts.items()} == {"linear1": 4, "linear2": 2, "linear3": 1}
    for name, found in parts.items():
        whole = next(layer for layer in network.layers if layer.name == name)
        assert sum(part.layer.weights for part in found) == whole.weights
        assert sum(part.layer.outputs for part in found) == whole.outputs
        assert max(part.layer.weights for part in found) * 8 <= 128 * 8192
    unsplit = mesh_of(split_layers="false")
    assert simulate(unsplit, network, "bp", 16).spilled_bits > 0
    with pytest.raises(ConfigError, match=r"weight \(392.0 KiB\) does not fit weight_sram.*no DRAM"):
        simulate(unsplit.model_copy(update={"dram": None}), network, "bp", 16)


@pytest.mark.parametrize("rule", ["bp", "dfa"])
@pytest.mark.parametrize("model", ["mlp_mnist", "lenet5"])
def test_a_split_layer_does_the_whole_layers_work(rule, model):
    """Products, and weights read by the update, are those of one core; forward and error of the shares run at once."""
    room = {f"memories.{name}.size_kib": "fit" for name in ("state_sram", "buffer_sram", "feedback_sram")}
    split = step(load_chip(MESH, room), model, rule)
    whole = step(
        load_chip(MESH, room | {"mesh.split_layers": "false", "memories.weight_sram.size_kib": "fit"}), model, rule
    )
    assert split.macs == whole.macs
    for tensor in ("master", "optimizer", "gradient"):
        words = [counts(work, phase="update", action="read", tensor=tensor) for work in (split, whole)]
        assert words[0] == pytest.approx(words[1], abs=16)
    assert len({task.part for task in split.tasks}) > len({task.part for task in whole.tasks}) or model == "lenet5"


def test_shares_of_an_error_are_added_up():
    """Of mlp_mnist's 784-512-512-10 the second layer is split over two cores: each yields a sum over its outputs for
    all 512 inputs, sends the other the half that is its to complete, and adds what comes to its own half. The first
    sends none, the last is whole."""
    work = step(load_chip(MESH), "mlp_mnist", "bp", 16)
    added = {}
    for task in (task for task in work.tasks if task.phase == "error" and task.layer != "loss"):
        for count in task.counts:
            if (count.action, count.widths) == ("add", (32,)):
                added[task.layer] = added.get(task.layer, 0) + count.count
    assert sum(added.values()) == 16 * 512
    assert all(name.startswith("linear2") for name in added)


def small_network(tmp_path, *sizes):
    layers = "".join(f"  - {{kind: linear, out: {out}}}\n  - {{kind: relu}}\n" for out in sizes[1:])
    return network_of(tmp_path, f"name: small\ninput: [{sizes[0]}]\nlayers:\n{layers}".rpartition("  - ")[0])


SPLIT = {"mesh.rows": "1", "mesh.cols": "5", "mesh.placement": "{linear1: 0, linear2: [1, 2, 3], linear3: 4}"}
"""A row of cores; the layer in the middle is in three shares."""


@pytest.mark.parametrize(("rule", "products"), [("bp", 3 * 7 * 5), ("dfa", 3 * 3 * 5)])
def test_no_product_of_a_split_layer_is_lost(rule, products, tmp_path):
    """Of 4-5-7-3 with three samples, linear2 on three cores: bp multiplies 7 errors for each of 5 inputs; dfa 3 output
    errors, whatever the shares."""
    chip = load_chip(MESH, SPLIT | {"micro_batch": "null"})
    work = step(chip, small_network(tmp_path, 4, 5, 7, 3), rule, 3)
    assert sum(t.macs for t in work.tasks if t.phase == "error" and t.layer.startswith("linear2")) == products


def test_shares_of_an_error_go_to_their_readers_alone(tmp_path):
    """4-6-9-3, two samples, linear2 in shares of 3 outputs on cores 1 to 3: of its 6 inputs each completes 2.

    By hand: 3 x 2 x 4 sums of 32 bits move (two hops between cores 1 and 3), are written, read back and added; 12
    values are rounded once; 4 errors of 8 bits each go to core 0 over 1, 2 and 3 hops. Of the 9 errors from linear3, 3
    go to each share, over 3, 2 and 1 hops, and of linear1's mask bits 2.
    """
    chip = load_chip(MESH, SPLIT | {"micro_batch": "null", "mesh.multicast": "false", "rounding.error": "nearest"})
    chip = sending_zeros(chip)
    work = step(chip, small_network(tmp_path, 4, 6, 9, 3), "bp", 2)
    shares = [f"linear2/{number}" for number in (1, 2, 3)]

    def total(layers, **wanted):
        return sum(counts(work, phase="error", layer=layer, **wanted) for layer in layers)

    assert total(shares, action="hop") == 4 * 32 * 2 * (1 + 1 + 2) + 4 * 8 * (1 + 2 + 3)
    assert total(shares, action="add", widths=(32,)) == 2 * 12
    assert total(shares, action="shift", widths=(32,)) == 12
    per_share = {"tensor": "error", "layer": "linear2/1", "phase": "error"}
    sums, own_reads = 4 * 32 // 64, -(-2 * 3 * 8 // 64)  # words of 64 bits
    assert counts(work, action="write", **per_share) == 2 * sums + 1
    assert counts(work, action="read", **per_share, component="core1:buffer_sram") >= 2 * sums + own_reads
    assert total(["linear3"], action="hop") == 2 * 3 * 8 * (3 + 2 + 1)
    masks = counts(work, phase="forward", layer="linear1", action="hop", tensor="mask")
    assert masks == 2 * 2 * (1 + 2 + 3)


def test_a_core_has_room_for_the_sums_that_arrive(tmp_path):
    """4-6-9-3 with linear2 in three shares: each keeps the errors of its 3 outputs in 8 bits, and two shares' sums for
    its 2 inputs in 32 bits, of two samples. Under dfa the core of linear1 keeps the output error, and its own."""
    chip = sending_zeros(load_chip(MESH, SPLIT | {"micro_batch": "null"}))
    network = small_network(tmp_path, 4, 6, 9, 3)
    held = {p.memory: p.bits for p in step(chip, network, "bp", 2).placements if p.tensor == "error"}
    assert held["core1:buffer_sram"] == 2 * (3 * 8 + 2 * 2 * 32)
    assert held["core0:buffer_sram"] == 2 * 6 * 8
    direct = {p.memory: p.bits for p in step(chip, network, "dfa", 2).placements if p.tensor == "error"}
    assert direct["core0:buffer_sram"] == 2 * (6 + 3) * 8


def test_shares_send_and_keep_errors_without_zeros(tmp_path):
    """Likewise where half of the errors are zeros and coordinates of 4 bits go with 8-bit values, 6 bits each on
    average: the 4 errors to core 0, the 6 to each share from above, and these in memory. Sums of 32 bits hold no
    zeros."""
    chip = load_chip(MESH, SPLIT | {"micro_batch": "null", "mesh.multicast": "false"})
    work = step(chip, small_network(tmp_path, 4, 6, 9, 3), "bp", 2)
    hops = {"phase": "error", "action": "hop"}
    sent = sum(counts(work, layer=f"linear2/{number}", **hops) for number in (1, 2, 3))
    assert sent == 4 * 32 * 2 * (1 + 1 + 2) + 4 * 6 * (1 + 2 + 3)
    assert counts(work, layer="linear3", **hops) == 2 * 3 * 6 * (3 + 2 + 1)
    held = {p.memory: p.bits for p in work.placements if p.tensor == "error"}
    assert held["core1:buffer_sram"] == 2 * (3 * 6 + 2 * 2 * 32)


def test_neighbours_hear_of_results_and_nobody_else(tmp_path):
    """On a row of cores, a layer's activations take one hop to the next, its error one hop back; dfa's output error
    goes to the cores of the layers below by one tree."""
    batch, network = 8, load_model("mlp_digits")
    chip = mesh_of(rows=1, cols=3)
    chip = sending_zeros(chip)
    bp, dfa = (step(chip, network, rule, batch) for rule in ("bp", "dfa"))
    hops = {"component": "noc", "action": "hop"}
    for work in (bp, dfa):
        assert counts(work, phase="forward", layer="linear1", tensor="activation", **hops) == batch * 128 * 8
        assert counts(work, phase="forward", layer="linear2", tensor="activation", **hops) == batch * 64 * 8
    assert counts(bp, phase="error", layer="linear2", tensor="error", **hops) == batch * 128 * 8
    assert counts(bp, phase="error", layer="linear3", tensor="error", **hops) == batch * 64 * 8
    assert counts(bp, phase="error", layer="loss", **hops) == 0
    # Under dfa the core below makes its own error: the output error goes from core 2 to 1 and 0, two links.
    assert counts(dfa, phase="error", layer="loss", tensor="error", **hops) == 2 * batch * 10 * 8
    assert counts(dfa, phase="error", layer="linear2", tensor="error", **hops) == 0


def test_error_cores_of_their_own_get_weights_over_the_mesh():
    """With `error_cores: separate` transported weights are messages; on a layer's own core they are not."""
    own, separate = (step(mesh_of(error_cores=e), "mlp_digits", "bp") for e in ("own", "separate"))
    hops = {"component": "noc", "action": "hop", "phase": "transport"}
    assert counts(own, **hops) == 0
    sent = counts(separate, action="send", phase="transport")
    assert counts(separate, **hops) >= sent == (8192 + 640) * 8


# micro-batches


@pytest.mark.parametrize("rule", ["bp", "usf", "dfa"])
def test_micro_batches_share_the_update_and_reread_the_weights(rule):
    """Work that grows with samples is what it was; weights are read once per micro-batch, gradients summed in memory at
    accumulator width: written by each, read back by all but the first; updated and moved once."""
    network, value = load_model("mlp_digits"), RULES[rule]
    found = {}
    for size in (16, 4):
        chip = load_chip("edge_dual", {"micro_batch": str(size)})
        found[size] = step(chip, network, value, 16)
    whole, micro = found[16], found[4]
    assert micro.macs == whole.macs
    for phase in ("update", "transport"):
        assert counts(micro, phase=phase) == counts(whole, phase=phase)
    reads = [counts(work, phase="forward", action="read", tensor="weight") for work in (whole, micro)]
    assert reads[1] == 4 * reads[0], "16 samples fill one fold of the array's rows, and so do 4"
    weights = sum(layer.weights for layer in network.weighted)
    written = counts(micro, phase="gradient", component="state_sram", action="write", tensor="gradient")
    assert written == weights * (3 * 32 + 16) // 64
    assert (
        counts(micro, phase="gradient", component="state_sram", action="read", tensor="gradient")
        == weights * 3 * 32 // 64
    )
    assert counts(whole, phase="gradient", component="state_sram", action="read", tensor="gradient") == 0


def test_a_rest_is_a_smaller_micro_batch():
    """Ten samples by four: four, four and two."""
    chip = load_chip("edge_dual", {"micro_batch": "4"})
    work = step(chip, "mlp_digits", "fa", 10)
    forward = [task for task in work.tasks if task.phase == "forward" and task.layer == "linear1"]
    assert [task.macs for task in forward] == [4 * 8192, 4 * 8192, 2 * 8192]


def chain(tmp_path, depth, width=32):
    layers = "".join(f"  - {{kind: linear, out: {width}}}\n  - {{kind: relu}}\n" for _ in range(depth - 1))
    text = f"name: chain\ninput: [{width}]\nlayers:\n{layers}  - {{kind: linear, out: {width}}}\n"
    return network_of(tmp_path, text)


@pytest.mark.parametrize("rule", ["bp", "dfa"])
def test_micro_batches_make_a_pipeline_of_cores(rule, tmp_path):
    """On a layer per core more micro-batches shorten the interval of a step, the deeper the network the more."""
    gains = []
    for depth in (2, 6):
        network = chain(tmp_path, depth)
        intervals = [
            simulate(load_chip(MESH, {"micro_batch": str(size)}), network, rule, 64).interval_cycles
            for size in (64, 16)
        ]
        assert intervals[1] < intervals[0]
        gains.append(intervals[0] / intervals[1])
    assert gains[1] > gains[0]


def test_a_direct_rule_is_done_sooner_the_deeper_the_network(tmp_path):
    """Latency of bp over that of dfa grows with depth: backward unlocking comes from the dependencies alone."""
    ratios = []
    for depth in (2, 4, 8):
        network = chain(tmp_path, depth)
        bp, dfa = (simulate(mesh_of(), network, rule, 8).cycles for rule in ("bp", "dfa"))
        ratios.append(bp / dfa)
    assert all(a < b for a, b in pairwise(ratios))


def test_a_convolution_is_split_by_channels(tmp_path):
    """Shares of a convolution are convolutions of fewer channels; grouped ones are not split."""
    network = network_of(tmp_path, MODEL)
    parts = parts_of(mesh_of(placement="{conv2d1: [0, 1, 2], linear1: 3, linear2: 4}"), network, False)
    assert [part.layer.out_shape for part in parts["conv2d1"]] == [(1, 4, 4)] * 3
    grouped = network_of(tmp_path, swap(MODEL, "out: 3, kernel: 3", "out: 4, kernel: 3, groups: 2"))
    with pytest.raises(ConfigError, match=r"4 outputs, 2 groups. cannot be split over 2 cores"):
        parts_of(mesh_of(placement="{conv2d1: [0, 1], linear1: 3, linear2: 4}"), grouped, False)


def test_a_step_with_layers_placed_by_hand_is_priced():
    """A placement by core numbers, a split layer among them, costs what its ledger says."""
    chip = load_chip("neurocore_mesh", {"mesh.placement": "{linear1: 0, linear2: [1, 2], linear3: 3}"})
    cost = simulate(chip, load_model("mlp_digits"), "bp", 32)
    assert cost.energy_pj == pytest.approx(sum(row.energy_pj for row in cost.ledger))
    assert cost.energy_pj > 0
