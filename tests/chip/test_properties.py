"""What must hold of every training step: properties over random chips and networks, whatever these are."""

import csv
import json
from collections import defaultdict
from dataclasses import replace
from functools import cache
from math import fsum

import pytest

import fahw
from fahw.chip.timing.bursts import busy_cycles, isolated_cycles, longest_path
from fahw.config.sweep import Sweep
from fahw.errors import ConfigError
from fahw.rules.catalogue import RULES
from fahw.study.sweeps.sweep import sweep
from fahw.work.counts.record import STREAM_CYCLES
from fahw.work.layer_gemms import rule_gemm_sizes
from tests.support.random_setups import random_setup

SETUPS, SAMPLE = 300, 5
SLOWER = 1.1
"""By how much a step may get slower when a part gets faster: docs/model.md, section 4, says why."""

known_setup = cache(random_setup)
close = pytest.approx


def rows(cost, static=False):
    """Count and energy of the rows, by address."""
    found = {}
    for row in cost.ledger:
        if row.static == static:
            found[row.component, row.action, row.tensor, row.phase, row.layer] = (row.count, row.energy_pj)
    return found


def totals(cost, *fields, phases=None):
    """Energy of the rows by some of their fields; static rows have no phase."""
    sums = defaultdict(list)
    for row in cost.ledger:
        if phases is None or row.phase in phases:
            sums[tuple(getattr(row, field) for field in fields)].append(row.energy_pj)
    return {key: fsum(sorted(energies)) for key, energies in sums.items()}


def leaks(cost):
    """Static energy by component."""
    return totals(replace(cost, ledger=tuple(row for row in cost.ledger if row.static)), "component")


def dynamic_pj(cost):
    return fsum(row.energy_pj for row in cost.ledger if not row.static)


def same(cost, other):
    """Whether two costs agree in all numbers, names aside: by phase, and by time."""
    assert (cost.cycles, cost.interval_cycles, cost.macs) == (other.cycles, other.interval_cycles, other.macs)
    assert totals(cost, "phase", "action", "tensor") == close(totals(other, "phase", "action", "tensor"), rel=1e-9)
    assert (cost.area_mm2, cost.area_used_mm2) == close((other.area_mm2, other.area_used_mm2), rel=1e-9)
    assert (cost.feedback_bits, cost.transported_bits) == (other.feedback_bits, other.transported_bits)


def not_slower(cost, other):
    """Whether one step takes at most what another takes, but for what the order of its tasks can make."""
    assert cost.cycles <= other.cycles * SLOWER
    assert cost.interval_cycles <= other.interval_cycles * SLOWER


def renamed(value, names):
    """Nested values with words of `names` replaced wherever they stand, as values or as keys."""
    if isinstance(value, dict):
        return {names.get(key, key): renamed(item, names) for key, item in value.items()}
    if isinstance(value, list):
        return [renamed(item, names) for item in value]
    return names.get(value, value) if isinstance(value, str) else value


def with_prices(setup):
    """The setup with prices of memories that do not follow their sizes."""
    energy = {"read_pj": 1, "write_pj": 1.5, "leak_mw": 0.01, "area_mm2": 0.01}
    return setup.with_chip({f"memories.{number}.energy": energy for number in range(len(setup.chip["memories"]))})


def of_memories(setup, key, of):
    """Changes of one value of every memory."""
    return {f"memories.{number}.{key}": of(memory[key]) for number, memory in enumerate(setup.chip["memories"])}


# the properties


def energy_is_the_sum_of_counts_times_prices(setup):
    cost = setup.cost
    assert cost.energy_pj == fsum(row.energy_pj for row in cost.ledger)
    for row in cost.ledger:
        assert row.energy_pj == close(row.count * row.unit_pj, rel=1e-12)
        assert row.energy_pj >= 0


def parts_of_the_energy_add_up(setup):
    cost = setup.cost
    for field in ("component", "phase", "layer", "tensor", "action"):
        assert fsum(totals(cost, field).values()) == close(cost.energy_pj, rel=1e-12)
    assert dynamic_pj(cost) + cost.static_pj == close(cost.energy_pj, rel=1e-12)
    assert cost.energy_pj_per_sample * setup.batch == close(cost.energy_pj, rel=1e-12)
    assert cost.power_mw * cost.seconds * 1e9 == close(cost.energy_pj, rel=1e-12)


def names_of_layers_do_not_matter(setup):
    names = {layer["name"]: f"other_{layer['name']}" for layer in setup.model["layers"]}
    same(setup.with_model(renamed(setup.model, names)).with_chip(renamed(setup.chip, names)).cost, setup.cost)


def names_of_parts_do_not_matter(setup):
    parts = [part["name"] for group in ("arrays", "memories", "links") for part in setup.chip[group]]
    same(setup.with_chip(renamed(setup.chip, {name: f"z{name}" for name in parts})).cost, setup.cost)


def order_of_parts_does_not_matter(setup):
    groups = {group: setup.chip[group][::-1] for group in ("arrays", "memories", "links")}
    wires = {f"arrays.{n}.memories": array["memories"][::-1] for n, array in enumerate(groups["arrays"])}
    same(setup.with_chip(groups).with_chip(wires).cost, setup.cost)


def order_of_what_a_memory_holds_does_not_matter_where_all_fits(setup):
    fitted = with_prices(setup.with_chip(of_memories(setup, "size_kib", lambda _: "fit")))
    same(fitted.with_chip(of_memories(setup, "holds", lambda tensors: tensors[::-1])).cost, fitted.cost)


def a_faster_clock_with_faster_dram_takes_the_same_cycles(setup):
    changes = {"clock_mhz": 2 * setup.chip["clock_mhz"], "dram.gbyte_per_s": 2 * setup.chip["dram"]["gbyte_per_s"]}
    slow, fast = setup.cost, setup.with_chip(changes).cost
    assert (fast.cycles, fast.interval_cycles) == (slow.cycles, slow.interval_cycles)
    assert rows(fast) == rows(slow)
    powers = [{key: energy * cost.clock_mhz for (key,), energy in leaks(cost).items()} for cost in (slow, fast)]
    arrays = {
        name for name in powers[0] if name.rpartition(":")[2] in {array["name"] for array in setup.chip["arrays"]}
    }
    assert {**powers[1], **dict.fromkeys(arrays, 0)} == close({**powers[0], **dict.fromkeys(arrays, 0)}, rel=1e-9)
    for name in arrays:  # built for a shorter cycle
        assert powers[1][name] >= powers[0][name] * (1 - 1e-9)
    assert fast.seconds * 2 == close(slow.seconds, rel=1e-12)


def a_wire_is_priced_by_length_times_price(setup):
    links = {f"links.{n}.{key}": value for n in range(len(setup.chip["links"]))
             for key, value in (("length_mm", 4), ("pj_per_bit_mm", 0.025))}  # fmt: skip
    same(setup.with_chip(links).cost, setup.cost)


def twice_the_batch_is_twice_the_products_and_one_update(setup):
    one, two = (with_prices(setup).with_batch(batch).cost for batch in (setup.batch, 2 * setup.batch))
    sizes = [(cost.macs, totals(cost, "phase", phases=("update", "transport"))) for cost in (one, two)]
    mirrored = RULES[setup.rule].learned == "mirror"
    if not mirrored and RULES[setup.rule].learned is None:
        assert sizes[1][0] == 2 * sizes[0][0]
    if not one.spilled_bits and not two.spilled_bits and RULES[setup.rule].learned is None:
        assert sizes[1][1] == close(sizes[0][1], rel=1e-9)


def a_larger_batch_is_neither_cheaper_nor_faster(setup):
    one, two = (with_prices(setup).with_batch(batch).cost for batch in (setup.batch, setup.batch + 1))
    assert dynamic_pj(two) >= dynamic_pj(one)
    not_slower(one, two)


def a_micro_batch_of_all_samples_is_none(setup):
    without = setup.with_chip({"micro_batch": None})
    same(without.with_chip({"micro_batch": setup.batch}).cost, without.cost)


def the_best_micro_batch_is_the_first_of_the_least(setup):
    of_objective = {"energy": "energy_pj", "latency": "interval_cycles", "edp": "energy_delay_js"}
    for objective, figure in of_objective.items():
        best = setup.with_chip({"micro_batch": "best", "mapping_objective": objective}).cost
        costs = {size: setup.with_chip({"micro_batch": size}).cost for size in best.splits}
        figures = {size: getattr(cost, figure) for size, cost in costs.items()}
        assert best.micro_batch == next(size for size in best.splits if figures[size] == min(figures.values()))
        assert replace(best, splits=()) == costs[best.micro_batch]


def micro_batches_share_the_update(setup):
    whole = setup.with_chip({"micro_batch": None} | of_memories(setup, "size_kib", lambda _: "fit"))
    parts, whole = whole.with_chip({"micro_batch": 1}).cost, whole.cost
    if RULES[setup.rule].learned is None:
        assert parts.macs == whole.macs
        assert parts.transported_bits == whole.transported_bits
        counts = [
            {k: n for k, (n, _) in rows(cost).items() if k[3] in ("update", "transport")} for cost in (parts, whole)
        ]
        assert counts[0] == counts[1]


def larger_memories_move_no_more(setup):
    small = with_prices(setup.with_chip(of_memories(setup, "size_kib", lambda _: 2)))
    try:
        small, large = small.cost, small.with_chip(of_memories(setup, "size_kib", lambda _: 3)).cost
    except ConfigError:
        return  # a read-only memory is full
    assert large.spilled_bits <= small.spilled_bits
    assert dynamic_pj(large) <= dynamic_pj(small) * 1.02
    not_slower(large, small)


def a_memory_that_fits_is_one_of_that_size(setup):
    fitted = with_prices(setup.with_chip(of_memories(setup, "size_kib", lambda _: "fit")))
    sizes = {f"memories.{n}.size_kib": memory.size_kib for n, memory in enumerate(fitted.cost.work.chip.memories)}
    same(fitted.with_chip(sizes).cost, fitted.cost)


def wider_values_are_not_cheaper(setup):
    fitted = with_prices(setup.with_chip(of_memories(setup, "size_kib", lambda _: "fit")))
    widths = setup.chip["precision"]
    for tensor in ("feedback", "activation", "error", "gradient", "optimizer", "accumulator"):
        wider = fitted.with_chip({f"precision.{tensor}": widths[tensor] + 1})
        assert dynamic_pj(wider.cost) >= dynamic_pj(fitted.cost) * (1 - 1e-12), tensor


def what_is_transported_is_weights_times_bits(setup):
    cost, rule, network = setup.cost, RULES[setup.rule], setup.network
    precision = cost.work.chip.precision
    bits = rule.transported_bits(min(precision.bits("feedback"), precision.bits("weight")))
    moving = {task.layer.partition("/")[0] for task in cost.work.tasks if task.payload_bits}
    weights = sum(layer.weights for layer in network.weighted if layer.name in moving)
    period = cost.work.chip.transport_options.period
    assert cost.transported_bits == close(weights * bits / period, abs=1)
    if not rule.reads_weight or cost.work.chip.error_reaches_weights:
        assert not moving


def shares_of_a_layer_do_its_work(setup):
    placement = setup.chip.get("mesh", {}).get("placement")
    if not isinstance(placement, dict):
        return
    room = of_memories(setup, "size_kib", lambda _: "fit")
    split = setup.with_chip(room)
    whole = split.with_chip({"mesh.placement": {name: cores[:1] for name, cores in placement.items()}})
    assert split.cost.macs == whole.cost.macs
    for phase in ("forward", "gradient", "update", "error"):
        counts = [lane_operations(each.cost, phase) for each in (split, whole)]
        added = split.network.weighted if phase == "error" and RULES[setup.rule].path == "layerwise" else ()
        for key in counts[0].keys() | counts[1].keys():  # what the shares of a layer find is added up
            assert counts[0].get(key) == counts[1].get(key) or (added and key[0].endswith("add")), (phase, key)


def lane_operations(cost, phase):
    """How often lanes do what, in a phase."""
    found = defaultdict(int)
    for row in cost.ledger:
        if row.phase == phase and row.component.endswith(".vector") and not row.static:
            found[row.action, row.tensor] += row.count
    return dict(found)


def more_lanes_are_not_slower(setup):
    lanes = {f"arrays.{n}.lanes": 2 * array["lanes"] for n, array in enumerate(setup.chip["arrays"])}
    not_slower(setup.with_chip(lanes).cost, setup.cost)


def wider_ports_are_not_slower(setup):
    for side in ("read", "write"):
        wider = of_memories(setup, f"{side}_bits_per_cycle", lambda bits: 2 * bits)
        not_slower(setup.with_chip(wider).cost, setup.cost)


def faster_dram_is_not_slower(setup):
    not_slower(setup.with_chip({"dram.gbyte_per_s": 2 * setup.chip["dram"]["gbyte_per_s"]}).cost, setup.cost)


def shorter_latencies_are_not_slower(setup):
    short = of_memories(setup, "latency_cycles", lambda _: 0) | {"dram.latency_cycles": 0}
    not_slower(setup.with_chip(short).cost, setup.cost)


def more_zeros_are_neither_dearer_nor_slower(setup):
    if "activity" not in setup.chip:
        return
    few, many = (
        setup.with_chip({"activity.zero_activation": share, "activity.zero_error": share}).cost for share in (0.1, 0.6)
    )
    assert dynamic_pj(many) <= dynamic_pj(few) * (1 + 1e-12)
    not_slower(many, few)


def a_mesh_of_one_core_is_a_chip(setup):
    mesh = {"rows": 1, "cols": 1, "placement": "balanced", "link_bits_per_cycle": 8, "hop_pj_per_bit": 1,
            "assumed": "a test"}  # fmt: skip
    plain = setup.with_chip({"mesh": None})
    try:
        cost = plain.cost
    except ConfigError:
        return  # what a mesh had room for
    same(plain.with_chip({"mesh": mesh}).cost, cost)


def no_task_alone_is_slower_on_faster_parts_by_more_than_a_piece(setup):
    faster = {f"arrays.{n}.lanes": 2 * array["lanes"] for n, array in enumerate(setup.chip["arrays"])}
    faster |= of_memories(setup, "read_bits_per_cycle", lambda bits: 2 * bits)
    fast = {task.id: isolated_cycles(task) for task in setup.with_chip(faster).cost.work.tasks}
    assert all(fast[task.id] <= isolated_cycles(task) + STREAM_CYCLES for task in setup.cost.work.tasks)


def no_step_is_faster_than_its_longest_path_and_busiest_part(setup):
    cost = setup.cost
    busiest = max(busy_cycles(cost.work.tasks).values())
    rare = any(task.every > 1 for task in cost.work.tasks)
    assert cost.cycles >= max(longest_path(cost.work.tasks), busiest)
    assert cost.interval_cycles >= busiest or rare
    assert cost.interval_cycles <= cost.cycles


def one_step_in_flight_takes_its_own_time(setup):
    cost = setup.with_chip({"steps_in_flight": 1}).cost
    if not any(task.every > 1 for task in cost.work.tasks):
        assert cost.interval_cycles == cost.cycles


def the_way_forward_is_the_same_under_every_rule(setup):
    fitted = with_prices(setup.with_chip(of_memories(setup, "size_kib", lambda _: "fit")))
    found = [
        {key: value for key, value in totals(fitted.with_rule(rule).cost, "tensor", "action", "layer",
                                             phases=("forward",)).items() if key[0] in ("weight", "param")}
        for rule in ("bp", "fa", "brsf", "dfa")
    ]  # fmt: skip
    assert all(one == close(found[0], rel=1e-9) for one in found)


def dearer_hops_raise_the_hops_alone(setup):
    if "mesh" not in setup.chip:
        return
    one, two = setup.cost, setup.with_chip({"mesh.hop_pj_per_bit": 0.2}).cost
    hops = totals(one, "component").get(("noc",), 0.0)
    assert two.energy_pj - one.energy_pj == close(hops, rel=1e-6, abs=1e-6)


def products_are_those_of_the_layers(setup):
    rule, network = RULES[setup.rule], setup.network
    macs = 0
    for layer in network.weighted:
        for m, n, k, groups in rule_gemm_sizes(network, rule, layer, setup.batch).values():
            macs += m * n * k * groups
    if rule.learned is None and rule.rank is None and rule.density == 1:
        assert setup.cost.macs == macs


def what_lies_in_a_memory_fits_it(setup):
    held = defaultdict(int)
    for placement in setup.cost.placements:
        held[placement.memory] += placement.bits - placement.spilled_bits
    sizes = {memory.name: memory.kib * 8192 for memory in setup.cost.work.chip.memories}
    assert all(bits <= sizes[name.rpartition(":")[2]] for name, bits in held.items())


PROPERTIES = (
    energy_is_the_sum_of_counts_times_prices, parts_of_the_energy_add_up, names_of_layers_do_not_matter,
    names_of_parts_do_not_matter, order_of_parts_does_not_matter,
    order_of_what_a_memory_holds_does_not_matter_where_all_fits, a_faster_clock_with_faster_dram_takes_the_same_cycles,
    a_wire_is_priced_by_length_times_price, twice_the_batch_is_twice_the_products_and_one_update,
    a_larger_batch_is_neither_cheaper_nor_faster, a_micro_batch_of_all_samples_is_none,
    the_best_micro_batch_is_the_first_of_the_least, micro_batches_share_the_update,
    larger_memories_move_no_more, a_memory_that_fits_is_one_of_that_size, wider_values_are_not_cheaper,
    what_is_transported_is_weights_times_bits, shares_of_a_layer_do_its_work, more_lanes_are_not_slower,
    wider_ports_are_not_slower, faster_dram_is_not_slower, shorter_latencies_are_not_slower,
    more_zeros_are_neither_dearer_nor_slower, a_mesh_of_one_core_is_a_chip,
    no_task_alone_is_slower_on_faster_parts_by_more_than_a_piece,
    no_step_is_faster_than_its_longest_path_and_busiest_part, one_step_in_flight_takes_its_own_time,
    the_way_forward_is_the_same_under_every_rule, dearer_hops_raise_the_hops_alone, products_are_those_of_the_layers,
    what_lies_in_a_memory_fits_it,
)  # fmt: skip


def check(holds, seeds):
    """A property, of the setups of some seeds; what fails names its seed."""
    for seed in seeds:
        try:
            holds(known_setup(seed))
        except Exception as error:
            error.add_note(f"setup {seed}")
            raise


def name_of(holds):
    return holds.__name__


@pytest.mark.parametrize("holds", PROPERTIES, ids=name_of)
def test_of_a_sample(holds):
    """A few setups, the same ones every time."""
    check(holds, range(SAMPLE))


@pytest.mark.long
@pytest.mark.parametrize("holds", PROPERTIES, ids=name_of)
def test_of_hundreds_of_setups(holds):
    """Each property on as many setups as docs/model.md says."""
    check(holds, range(SETUPS))


def check_tables(setup, command, folder):
    """What the library says, `simulate --json`, its ledger and a sweep's table say too."""
    cost, (chip, model) = setup.cost, setup.write(folder)
    code, out, _ = command("simulate", chip, model, "--rule", setup.rule, "--batch-size", setup.batch, "--json")
    printed, loaded = json.loads(out), fahw.simulate(str(chip), str(model), setup.rule, setup.batch)
    grid = {"rule": (setup.rule,), "batch_size": (setup.batch,)}
    sweep(Sweep(name="s", chip=str(chip), model=str(model), train=False, grid=grid), out=folder / "s", workers=1)
    (row,) = csv.DictReader((folder / "s" / "summary.csv").read_text(encoding="utf-8").splitlines())
    columns = {"cycles": "cycles_per_step", "energy_pj": "energy_pj_per_step", "interval_cycles": "interval_cycles",
               "area_mm2": "area_mm2", "transported_bits": "transported_bits_per_step"}  # fmt: skip
    for name, column in columns.items():
        assert printed[name] == getattr(cost, name) == getattr(loaded, name) == close(float(row[column]), rel=1e-12)
    assert code == 0
    assert fsum(line["energy_pj"] for line in printed["ledger"]) == cost.energy_pj


def test_json_the_library_and_tables_agree(command, tmp_path):
    """A few setups, the same ones every time."""
    for seed in range(SAMPLE):
        folder = tmp_path / str(seed)
        folder.mkdir()
        check_tables(known_setup(seed), command, folder)


@pytest.mark.long
def test_json_the_library_and_tables_agree_on_hundreds_of_setups(command, tmp_path):
    """Each setup by every way."""
    for seed in range(SETUPS):
        folder = tmp_path / str(seed)
        folder.mkdir()
        check_tables(known_setup(seed), command, folder)
