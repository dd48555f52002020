"""The table of docs/model.md that counts layers without weights by hand, and what a training step counts for them.

A row's layer stands between weighted layers without bias, which make its inputs from the sample, and a linear layer of
two outputs. The chip's memory words are single bits, and its widths tell values, errors and parameters apart.
"""

import re
from collections import Counter
from dataclasses import dataclass
from math import prod

import yaml

from fahw.hardware.chip import Chip
from tests.support.models import graph
from tests.support.steps import counts, step
from tests.support.strategies import CHIP, ROOT

HEADER = "| layer | reads | in | out | forward | error |"
NOTHING = "–"
VALUE_BITS, ERROR_BITS, MASTER_BITS, ACCUMULATOR_BITS, STATISTIC_BITS = 6, 7, 16, 32, 32
CLASSES = 2
OPERATION = re.compile(r"(\d+) (?:(8-bit|fp32) )?([a-z]+)")


@dataclass(frozen=True)
class Row:
    """A row of the table: shapes and numbers per sample; operations by (action, width), None for that of values."""

    layer: dict
    shapes: tuple
    inputs: int
    outputs: int
    forward: tuple
    error: tuple
    mask_bits: int
    again: int
    again_of: str
    draws: int
    constants: tuple

    def __str__(self):
        return f"{', '.join(f'{key}: {value}' for key, value in self.layer.items())} on {self.shapes}"

    @property
    def kind(self):
        return self.layer["kind"]


def rows():
    """All rows of the table, in its order."""
    text = (ROOT / "docs" / "model.md").read_text(encoding="utf-8")
    _, _, table = text.partition(HEADER)
    assert table, "docs/model.md has no table of counts by hand"
    lines = table.partition("\n\n")[0].splitlines()[2:]
    return [row_of([cell.strip() for cell in line.strip("|").split("|")]) for line in lines]


def row_of(cells):
    layer, reads, inputs, outputs, forward, error, mask, again, draws, constants = cells
    number, _, of = ("0", "", "") if again == NOTHING else again.partition(" of the ")
    return Row(
        yaml.safe_load(f"{{{layer.strip('`')}}}"),
        tuple(tuple(map(int, shape.split("x"))) for shape in reads.split(" and ")),
        int(inputs), int(outputs), operations(forward), operations(error), number_of(mask), int(number), of,
        number_of(draws), (0, 0, 0) if constants == NOTHING else tuple(map(int, constants.split(", "))),
    )  # fmt: skip


def number_of(cell):
    return 0 if cell == NOTHING else int(cell)


def operations(cell):
    """Operations per sample and per batch, by (action, width)."""
    if cell == NOTHING:
        return {}, {}
    parts = cell.split("; per batch ")
    found = []
    for part in parts:
        matches = [OPERATION.fullmatch(each) for each in part.split(", ")]
        found.append({name_of(kind, action): int(times) for times, kind, action in (each.groups() for each in matches)})
    return found[0], found[1] if found[1:] else {}


def name_of(kind, action):
    return {"8-bit": (action, 8), "fp32": (f"float_{action}", 32)}.get(kind, (action, None))


def moving_kinds():
    """The kinds of which docs/model.md says that the lanes do nothing for them."""
    text = (ROOT / "docs" / "model.md").read_text(encoding="utf-8")
    (sentence,) = re.findall(r"^(.*) only move values", text, re.MULTILINE)
    return set(re.findall(r"`(\w+)`", sentence))


def network_of(row):
    """The row's layer with what it reads and what reads it."""
    if len(row.shapes[0]) == 1:
        sample = (3,)
        below = [{"kind": "linear", "name": f"in{i}", "out": shape[0]} for i, shape in enumerate(row.shapes)]
    else:
        sample = (1, *row.shapes[0][1:])
        below = [
            {"kind": "conv2d", "name": f"in{i}", "out": shape[0],
             "kernel": tuple(whole - part + 1 for whole, part in zip(sample[1:], shape[1:], strict=True))}
            for i, shape in enumerate(row.shapes)
        ]  # fmt: skip
    below = [layer | {"bias": False, "from": "input"} for layer in below]
    reads = {"from": tuple(layer["name"] for layer in below)} if len(below) > 1 else {}
    flat = [] if len(row.shapes[0]) == 1 or row.kind == "flatten" else [{"kind": "flatten"}]
    above = {"kind": "linear", "name": "out", "out": CLASSES, "bias": False}
    return graph(sample, *below, row.layer | reads, *flat, above)


def chip_of_bits(micro_batch=None, **changes):
    """The tiny chip with one-bit words, arrays that hold any of these products in a fold, and a generator."""
    text = CHIP.replace("rows: 4", "rows: 256").replace("cols: 3", "cols: 256")
    text += "rounding_generator: {pj_per_bit: 1, bits_per_cycle: 8, area_mm2: 0, assumed: a test}\n"
    precision = {"activation": VALUE_BITS, "error": ERROR_BITS, "master": MASTER_BITS, "accumulator": ACCUMULATOR_BITS}
    settings = {"precision": precision, "micro_batch": micro_batch, **changes}
    chip = Chip.model_validate(yaml.safe_load(text) | settings, strict=False)
    memories = [memory.model_copy(update={"width_bits": 1}) for memory in chip.memories]
    return chip.model_copy(update={"memories": tuple(memories)})


def wanted(row, batch, passes):
    """What the row says of a step of `batch` samples in `passes` micro-batches, in the terms of `found`."""
    network = network_of(row)
    weighted = network.weighted
    values = sum(layer.outputs for layer in weighted)
    others = [prod(shape) for shape in row.shapes[:-1]]  # what tasks before the layer's own make goes through memory
    is_norm = row.constants[0] > 0
    kept = prod(row.shapes[-1]) if row.again_of == "inputs" else 0
    statistics = passes * (row.constants[2] * STATISTIC_BITS + row.constants[1] * MASTER_BITS)
    operands = sum(layer.positions * layer.window for layer in weighted)
    return {
        "inputs": row.inputs,
        "outputs": row.outputs,
        "forward": lane_counts(row.forward, batch, passes, VALUE_BITS)
        + Counter({("shift", (ACCUMULATOR_BITS,)): batch * values}),
        "error": lane_counts(row.error, batch, passes, ERROR_BITS)
        + Counter({("shift", (ACCUMULATOR_BITS,)): batch * row.outputs}),
        "mask bits written": batch * row.mask_bits,
        "mask bits read": batch * row.mask_bits,
        "random bits": 8 * batch * row.draws,
        "values written": batch * VALUE_BITS * (sum(others) + row.outputs + CLASSES + kept) + statistics,
        "values read": batch * VALUE_BITS * (operands + sum(others) + is_norm * row.inputs),
        "values read again": batch * VALUE_BITS * row.again + passes * row.constants[2] * STATISTIC_BITS,
        "parameters read": passes * row.constants[0] * MASTER_BITS,
        "parameters read again": passes * row.constants[1] * MASTER_BITS,
        "parameters updated": row.constants[0] * MASTER_BITS,
    }


def again_by_hand(row):
    """Operations per sample and per batch by (action, widths), where the row's layer is computed again: all of them; of
    a batch norm, a product and a sum per value, and of each channel two products and a sum for its two constants."""
    per_sample, per_batch = row.forward
    if row.constants[0]:
        channels, fp32 = row.shapes[0][0], 32
        per_sample = {("float_multiply", fp32): row.outputs, ("float_add", fp32): row.outputs}
        per_batch = {("float_multiply", fp32): 2 * channels, ("float_add", fp32): channels}
    return [
        {
            (action, (width or "value",) * (2 if action == "multiply" else 1)): times
            for (action, width), times in each.items()
        }
        for each in (per_sample, per_batch)
    ]


def lane_counts(operations, batch, passes, bits):
    """Operations of a step by (action, widths): products have two operands of the values' width."""
    per_sample, per_batch = operations
    found = Counter()
    for times, parts in ((batch, per_sample), (passes, per_batch)):
        for (action, width), number in parts.items():
            found[action, (width or bits,) * (2 if action == "multiply" else 1)] += times * number
    return found


def found(row, batch, micro_batch=None):
    """The same in the records of a training step under bp."""
    network = network_of(row)
    work = step(chip_of_bits(micro_batch), network, "bp", batch)
    layer = network.layers[len(row.shapes)]
    tasks = {"forward": [item.name for item in network.weighted], "error": ["out"]}

    def bits(phase, action, tensor):
        return sum(
            counts(work, phase=phase, layer=name, component="buffer", action=action, tensor=tensor)
            for name in tasks[phase]
        )

    return {
        "inputs": layer.inputs + sum(map(prod, layer.in_shapes[1:])),
        "outputs": layer.outputs,
        "forward": lanes_of(work, "forward", tasks),
        "error": lanes_of(work, "error", tasks),
        "mask bits written": bits("forward", "write", "mask"),
        "mask bits read": bits("error", "read", "mask"),
        "random bits": counts(work, component="rounding_generator", action="generate"),
        "values written": bits("forward", "write", "activation"),
        "values read": bits("forward", "read", "activation"),
        "values read again": bits("error", "read", "activation"),
        "parameters read": counts(work, phase="forward", action="read", tensor="param"),
        "parameters read again": bits("error", "read", "param"),
        "parameters updated": counts(work, phase="update", action="write", tensor="param") // 2,
    }


def lanes_of(work, phase, tasks):
    """Lane operations by (action, widths). Each has its share of the clock, as often."""
    done, clocked = Counter(), Counter()
    for task in work.tasks:
        for count in task.counts if task.phase == phase and task.layer in tasks[phase] else ():
            if count.component.endswith(".vector"):
                name = count.action.removeprefix("clock_")
                (clocked if name != count.action else done)[name, count.widths] += count.count
    assert clocked == done
    return done


def differences(row, batch, micro_batch=None):
    """What the step counts otherwise than the row: {name: (by hand, by the step)}."""
    passes = -(-batch // (micro_batch or batch))
    by_hand, by_step = wanted(row, batch, passes), found(row, batch, micro_batch)
    return {name: (number, by_step[name]) for name, number in by_hand.items() if number != by_step[name]}
