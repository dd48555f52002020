"""Runs in the simulator: drives the core through the steps of a folder of vectors and compares its memories.

Every step: forward, softmax, transport or feedback words, errors, gradients, updates, each a command of the core. Input
words, labels, the rule's own feedback words and random bytes come from the vectors, everything else from the core.
Writes what it found to $FAHW_FOUND: how many words of which tensor were compared, which differ, and the cycles of every
product, counted from the first operand that enters the array to the last sum that leaves it.
"""

from __future__ import annotations

import json
import os
from math import prod
from pathlib import Path

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import FallingEdge, Timer

FORWARD, SEND, DESCEND, BIAS_SUM, UPDATE, UPDATE_BIAS, TRANSPORT, SOFTMAX = range(8)
MEMORIES = {
    "weight": 0, "feedback": 1, "activation": 2, "delta": 3, "gradient": 4, "master": 5, "velocity": 6,
    "bias_gradient": 7, "bias": 8, "bias_velocity": 9, "random": 10, "random_2": 11, "exp_table": 12, "label": 13,
    "mask": 14,
}  # fmt: skip
MODES = {"nearest": 0, "floor": 1, "stochastic": 2}
REGISTERS = (
    "m", "n", "k", "left_base", "left_i", "left_k", "right_base", "right_j", "right_k", "result_base", "bias_base",
    "mask_base", "relu", "masked", "with_bias", "shift", "align", "rate_shift", "weight_shift", "mode", "momentum",
    "rate",
)  # fmt: skip
DOORS = ("load", "dump", "memory", "from", "to", "path")


def words_of(path):
    """The words of a hex file, as written."""
    lines = (line.split("//")[0].split() for line in Path(path).read_text().splitlines())
    return [word.lower() for line in lines for word in line if not word.startswith("@")]


class Bench:
    """The core, the vectors, and where each layer's tensors lie in its memories."""

    def __init__(self, dut, folder):
        self.dut, self.folder = dut, folder
        self.manifest = json.loads((folder / "manifest.json").read_text())
        self.files = {(f["step"], f["layer"], f["tensor"]): f for f in self.manifest["files"]}
        self.rounding = self.manifest["rounding"]
        forward = [p for p in self.manifest["products"] if p["phase"] == "forward"]
        self.layers = [p["layer"] for p in forward]
        self.batch = forward[0]["m"]
        self.inputs = {p["layer"]: p["k"] for p in forward}
        self.outputs = {p["layer"]: p["n"] for p in forward}
        self.classes = forward[-1]["n"]
        self.base = self._bases()
        self.compared, self.different, self.cycles = {}, [], []

    def _bases(self):
        """First address of (memory, layer). Activations: a layer's inputs; the last layer's outputs as layer None."""
        b, base = self.batch, {}
        sizes = {
            "weight": {x: self.inputs[x] * self.outputs[x] for x in self.layers},
            "activation": {x: b * self.inputs[x] for x in self.layers} | {None: b * self.classes},
            "delta": {x: b * self.outputs[x] for x in self.layers},
            "bias": dict(self.outputs),
            "feedback": {x: prod(self.files[0, x, "feedback"]["shape"]) for x in self.layers[1:]},
        }
        for memory, spans in sizes.items():
            at = 0
            for layer, size in spans.items():
                base[memory, layer] = at
                at += size
        return base

    def above(self, layer):
        """The layer that reads this one's outputs; None behind the last."""
        return dict(zip(self.layers, [*self.layers[1:], None], strict=True))[layer]

    def constants(self, step, layer):
        """The datapath's numbers, by name."""
        entry = self.files[step, layer, "constants"]
        unsigned = (int(word, 16) for word in words_of(self.folder / entry["path"]))
        return {n: w - (w >> 31 << 32) for n, w in zip(entry["names"], unsigned, strict=True)}

    async def door(self, which, memory, path, start, count):
        """$readmemh or $writememh of some words of a memory."""
        d = self.dut
        d.memory.value, d.path.value = MEMORIES[memory], int.from_bytes(str(path).encode(), "big")
        getattr(d, "from").value, d.to.value = start, start + count - 1
        await Timer(1, "ps")
        getattr(d, which).value = 1
        await Timer(1, "ps")
        getattr(d, which).value = 0
        await Timer(1, "ps")

    async def load(self, step, layer, tensor, start, memory=None):
        """Fill a memory from the vectors."""
        entry = self.files[step, layer, tensor]
        await self.door("load", memory or tensor, self.folder / entry["path"], start, prod(entry["shape"]))

    async def load_random(self, step, layer, tensor, memory="random"):
        """The random bytes of a rounding, where it is stochastic."""
        if (step, layer, f"random_{tensor}") in self.files:
            await self.load(step, layer, f"random_{tensor}", 0, memory)

    async def compare(self, step, layer, tensor, start, memory=None):
        """Every word of a memory against its vector."""
        await self.compare_words(step, layer, tensor, memory or tensor, start, words_of(self.file(step, layer, tensor)))

    async def compare_words(self, step, layer, tensor, memory, start, wanted):
        """Every word of a memory against `wanted`."""
        path = self.folder / f"dump-{os.getpid()}.hex"
        await self.door("dump", memory, path, start, len(wanted))
        found = words_of(path)
        path.unlink()
        self.compared[tensor] = self.compared.get(tensor, 0) + len(wanted)
        pairs = enumerate(zip(found, wanted, strict=True))
        self.different += [[step, layer, tensor, at, got, want] for at, (got, want) in pairs if got != want]

    def file(self, step, layer, tensor):
        """Path of a vector."""
        return self.folder / self.files[step, layer, tensor]["path"]

    async def command(self, number, **registers):
        """Run one command; the cycles from the first operand in to the last sum out, and those that it was busy."""
        d = self.dut
        for name, value in (dict.fromkeys(REGISTERS, 0) | {"command": number} | registers).items():
            getattr(d, name).value = value
        d.start.value = 1
        await FallingEdge(d.clock)
        d.start.value = 0
        cycle, first, last = 0, None, None
        while d.busy.value == 1:
            if d.operand_in.value == 1 and first is None:
                first = cycle
            if d.result_out.value == 1:
                last = cycle
            cycle += 1
            await FallingEdge(d.clock)
        return None if first is None else last - first + 1, cycle

    async def product(self, number, phase, layer, **registers):
        """A command that multiplies matrices, timed."""
        counted, busy = await self.command(number, **registers)
        self.cycles.append({"phase": phase, "layer": layer, "cycles": counted, "busy": busy})

    async def start(self):
        """Reset the core and fill what is there before the first step."""
        for name in ("start", "command", *REGISTERS, *DOORS):
            getattr(self.dut, name).value = 0
        self.dut.reset.value = 1
        cocotb.start_soon(Clock(self.dut.clock, 10, "ns").start())
        await FallingEdge(self.dut.clock)
        await FallingEdge(self.dut.clock)
        self.dut.reset.value = 0
        await self.load(None, None, "exp_table", 0)
        for layer in self.layers:
            for tensor in ("weight", "master", "velocity"):
                await self.load(None, layer, tensor, self.base["weight", layer])
            for tensor in ("bias", "bias_velocity"):
                await self.load(None, layer, tensor, self.base["bias", layer])

    async def step(self, step):
        """One training step."""
        await self.load(step, self.layers[0], "activation", self.base["activation", self.layers[0]])
        for layer in self.layers:
            await self.forward(step, layer)
        await self.softmax(step)
        for layer in reversed(self.layers[1:]):
            await self.feedback(step, layer)
            await self.send(step, layer)
        for layer in self.layers:
            await self.compare(step, layer, "delta", self.base["delta", layer])
            await self.descend(step, layer)
            await self.update(step, layer)

    async def forward(self, step, layer):
        """Outputs of a layer into the next one's inputs, ReLU and its mask on the way."""
        c, last = self.constants(step, layer), layer == self.layers[-1]
        await self.load_random(step, layer, "output")
        target = self.base["activation", self.above(layer)]
        await self.product(
            FORWARD, "forward", layer, m=self.batch, n=self.outputs[layer], k=self.inputs[layer],
            left_base=self.base["activation", layer], left_i=self.inputs[layer], left_k=1,
            right_base=self.base["weight", layer], right_j=self.inputs[layer], right_k=1,
            result_base=target, bias_base=self.base["bias", layer], relu=not last, with_bias=1,
            shift=c["forward_shift"], align=c["bias_align"], mode=MODES[self.rounding["activation"]],
        )  # fmt: skip
        if last:
            await self.compare(step, layer, "output", target, "activation")
            return
        await self.compare(step, self.above(layer), "activation", target)
        bits = self.files[step, layer, "output"]["bits"]
        outputs = [int(word, 16) for word in words_of(self.file(step, layer, "output"))]
        top = (1 << (bits - 1)) - 1 if bits > 2 else 2
        mask = ["1" if 0 < word < top else "0" for word in outputs]
        await self.compare_words(step, layer, "mask", "mask", target, mask)

    async def softmax(self, step):
        """The output error from logits and labels."""
        last = self.layers[-1]
        await self.load(step, last, "label", 0)
        await self.load_random(step, last, "delta")
        target = self.base["delta", last]
        await self.command(
            SOFTMAX, m=self.batch, n=self.classes, left_base=self.base["activation", None], result_base=target,
            mode=MODES[self.rounding["output_error"] or self.rounding["error"]],
        )  # fmt: skip

    async def feedback(self, step, layer):
        """Feedback words: transported, or the rule's own, which are loaded once where they stay."""
        rule, base = self.manifest["inputs"]["rule"], self.base["feedback", layer]
        if rule["magnitude"] == "weight":
            bits = [self.files[step, layer, tensor]["bits"] for tensor in ("weight", "feedback")]
            await self.command(
                TRANSPORT, n=self.inputs[layer] * self.outputs[layer], right_base=self.base["weight", layer],
                result_base=base, weight_shift=bits[0] - bits[1],
            )  # fmt: skip
        elif step == 0 or (rule["sign"], rule["magnitude"]) != ("own", "own"):
            await self.load(step, layer, "feedback", base)
        await self.compare(step, layer, "feedback", base)

    async def send(self, step, layer):
        """The error at the layer's input, masked there, into the error memory of the layer below."""
        below = self.layers[self.layers.index(layer) - 1]
        source = self.layers[-1] if self.manifest["inputs"]["rule"]["path"] == "direct" else layer
        await self.load_random(step, layer, "error")
        await self.product(
            SEND, "error", layer, m=self.batch, n=self.inputs[layer], k=self.outputs[source],
            left_base=self.base["delta", source], left_i=self.outputs[source], left_k=1,
            right_base=self.base["feedback", layer], right_j=1, right_k=self.inputs[layer],
            result_base=self.base["delta", below], masked=1, mask_base=self.base["activation", layer],
            shift=self.constants(step, layer)["error_shift"], mode=MODES[self.rounding["error"]],
        )  # fmt: skip

    async def descend(self, step, layer):
        """Gradients of weights and biases."""
        c, mode = self.constants(step, layer), MODES[self.rounding["gradient"]]
        wide, high, delta = self.inputs[layer], self.outputs[layer], self.base["delta", layer]
        base, bias_base = self.base["weight", layer], self.base["bias", layer]
        await self.load_random(step, layer, "gradient")
        await self.product(
            DESCEND, "gradient", layer, m=high, n=wide, k=self.batch, left_base=delta, left_i=1, left_k=high,
            right_base=self.base["activation", layer], right_j=1, right_k=wide, result_base=base,
            shift=c["gradient_shift"], mode=mode,
        )  # fmt: skip
        await self.compare(step, layer, "gradient", base)
        await self.load_random(step, layer, "bias_gradient")
        await self.command(
            BIAS_SUM, m=self.batch, n=high, left_base=delta, result_base=bias_base, shift=c["bias_gradient_shift"],
            mode=mode,
        )  # fmt: skip
        await self.compare(step, layer, "bias_gradient", bias_base)

    async def update(self, step, layer):
        """Velocities, masters and forward words; then the biases."""
        c, mode = self.constants(step, layer), MODES[self.rounding["update"]]
        base, bias_base = self.base["weight", layer], self.base["bias", layer]
        await self.load_random(step, layer, "velocity")
        await self.load_random(step, layer, "master", "random_2")
        await self.command(
            UPDATE, n=self.inputs[layer] * self.outputs[layer], right_base=base, align=c["velocity_align"],
            momentum=c["momentum"], rate=c["rate"], rate_shift=c["rate_shift"], weight_shift=c["weight_shift"],
            mode=mode,
        )  # fmt: skip
        for tensor in ("velocity", "master", "weight"):
            await self.compare(step, layer, tensor, base)
        await self.load_random(step, layer, "bias_velocity")
        await self.load_random(step, layer, "bias", "random_2")
        await self.command(
            UPDATE_BIAS, n=self.outputs[layer], bias_base=bias_base, align=c["bias_velocity_align"],
            momentum=c["momentum"], rate=c["bias_rate"], rate_shift=c["bias_rate_shift"], mode=mode,
        )  # fmt: skip
        for tensor in ("bias_velocity", "bias"):
            await self.compare(step, layer, tensor, bias_base)


@cocotb.test()
async def steps_are_those_of_the_vectors(dut):
    """Runs all steps and writes what it found; the judgement is the caller's."""
    bench = Bench(dut, Path(os.environ["FAHW_VECTORS"]))
    await bench.start()
    for step in range(bench.manifest["inputs"]["steps"]):
        await bench.step(step)
    found = {"compared": bench.compared, "different": bench.different, "cycles": bench.cycles}
    Path(os.environ["FAHW_FOUND"]).write_text(json.dumps(found))
