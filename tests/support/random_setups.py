"""Random valid chips and networks, each a training step that can be priced; a seed gives the same ones for ever."""

from __future__ import annotations

import json
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from random import Random
from typing import Any

from fahw.chip.cost import Cost, simulate
from fahw.errors import ConfigError, Problem
from fahw.hardware.chip import Chip
from fahw.hardware.wiring import chip_problems
from fahw.network.graph import Network
from fahw.network.load import network_of_model
from fahw.network.model_file import Model
from fahw.rules.catalogue import RULES

ASSUMED = {"assumed": "a test"}
STATES = ["param", "master", "optimizer", "gradient"]
BUFFERED = ["psum", "mask", "error", "activation"]
ROUNDED = ("activation", "error", "gradient", "update")


@dataclass(frozen=True)
class RandomSetup:
    """A chip and a model as their files say, a rule and a batch size."""

    chip: dict[str, Any]
    model: dict[str, Any]
    rule: str
    batch: int

    @cached_property
    def made_chip(self) -> Chip:
        """The chip; raises ConfigError or pydantic's ValidationError where it cannot be."""
        made = Chip.model_validate(_tuples(self.chip))
        if problems := list(chip_problems(made, lambda key: "chip")):
            raise ConfigError(problems)
        return made

    @cached_property
    def network(self) -> Network:
        """The network; raises ConfigError where a layer does not fit its input."""
        model = Model.model_validate(_tuples(self.model))
        network = network_of_model(model)
        if len(network.layers) < len(model.layers):
            raise ConfigError(Problem("model", "a layer does not fit its input"))
        return network

    @cached_property
    def cost(self) -> Cost:
        """What its step costs."""
        return simulate(self.made_chip, self.network, self.rule, self.batch)

    def with_chip(self, changes: Mapping[str, Any]) -> RandomSetup:
        """The same on a chip with other values, by dotted keys."""
        return replace(self, chip=changed(self.chip, changes))

    def with_model(self, model: dict[str, Any]) -> RandomSetup:
        """The same with another model."""
        return replace(self, model=model)

    def with_batch(self, batch: int) -> RandomSetup:
        """The same with another batch size."""
        return replace(self, batch=batch)

    def with_rule(self, rule: str) -> RandomSetup:
        """The same under another rule."""
        return replace(self, rule=rule)

    def write(self, folder: Path) -> tuple[Path, Path]:
        """The paths of a chip file and a model file that say the same."""
        for name in ("chip", "model"):
            (folder / f"{name}.yaml").write_text(json.dumps(getattr(self, name), indent=1), encoding="utf-8")
        return folder / "chip.yaml", folder / "model.yaml"


def changed(values: dict[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of nested values with others at dotted keys; None takes one out."""
    copy = deepcopy(values)
    for key, value in changes.items():
        *path, last = key.split(".")
        place: Any = copy
        for step in path:
            place = place[int(step)] if isinstance(place, list) else place.setdefault(step, {})
        if value is None:
            place.pop(last, None)
        else:
            place[int(last) if isinstance(place, list) else last] = value
    return copy


def _tuples(value: Any) -> Any:
    """The value with all lists turned into tuples, which frozen schemas hold."""
    if isinstance(value, dict):
        return {key: _tuples(item) for key, item in value.items()}
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def random_setup(seed: int) -> RandomSetup:
    """The setup of a seed: the first of its draws that is no input error, as where a rule does not fit the chip."""
    random = Random(seed)
    while True:
        model, rule = random_model(random), random.choice(sorted(RULES))
        setup = RandomSetup(random_chip(random, model), model, rule, random.choice([1, 2, 3, 4, 6, 8]))
        try:
            _ = setup.cost
        except ConfigError:
            continue
        return setup


def large_setup(seed: int) -> RandomSetup:
    """The setup of a seed with more of everything, so that words and rows of DRAM are nearly full: eight times as many
    values per layer, arrays of four times the side, four times the batch, of whole micro-batches."""
    setup = random_setup(seed)
    channels, *sides = setup.model["input"]
    layers = [layer | ({"out": 8 * layer["out"]} if "out" in layer else {}) for layer in setup.model["layers"]]
    model = setup.model | {"input": [8 * channels, *(2 * side for side in sides)], "layers": layers}
    changes = {f"arrays.{n}.{key}": 4 * array[key] for n, array in enumerate(setup.chip["arrays"])
               for key in ("rows", "cols")}  # fmt: skip
    for number in range(len(setup.chip["memories"])):
        changes |= {f"memories.{number}.width_bits": 8, f"memories.{number}.size_kib": "fit"}
    changes, micro = changes | {"dram.layout": "tiled"}, setup.chip.get("micro_batch", setup.batch)
    batch = 4 * micro * max(1, setup.batch // micro)
    if "micro_batch" in setup.chip:
        changes["micro_batch"] = 4 * micro
    return setup.with_model(model).with_batch(batch).with_chip(changes)


def tight(setup: RandomSetup, share: float) -> RandomSetup:
    """The setup with memories that hold a share of what they would have to."""
    sizes = {memory.name: memory.size_kib for memory in setup.cost.work.chip.memories}
    names = [memory["name"] for memory in setup.chip["memories"]]
    return setup.with_chip(
        {f"memories.{n}.size_kib": max(1, round(sizes[name] * share)) for n, name in enumerate(names)}
    )


def random_chip(random: Random, model: dict[str, Any]) -> dict[str, Any]:
    """A chip for a model: one or two arrays and weight memories, a mesh or not, and what else a file may say."""
    weight, is_shared = random.choice([4, 6, 8, 12]), random.random() < 0.3
    chip: dict[str, Any] = {
        "name": "random",
        "clock_mhz": random.choice([50, 100, 200]),
        "technology": {"node_nm": random.choice([65, 45, 22]), "vdd_v": random.choice([0.8, 0.9]), **ASSUMED},
        "precision": {
            "weight": weight, "feedback": random.choice([4, 8, weight]), "activation": random.choice([4, 8, 11]),
            "error": random.choice([5, 8, 12]), "gradient": random.choice([8, 15]), "master": 16,
            "optimizer": random.choice([9, 15]), "accumulator": random.choice([24, 32]),
        },
        "rounding": {name: random.choice(["nearest", "floor", "stochastic"]) for name in ROUNDED},
        "arrays": _arrays(random, is_shared),
        "memories": _memories(random, is_shared),
        "links": [] if is_shared else [_link(random)],
        "transport": ["transposable", "accumulate"] if is_shared else random.choice([["copy"], ["write_through"]]),
        "transposed_access": {f"{name}_overhead": 0.25 for name in ("read", "write", "area", "leak")} | ASSUMED,
        "rounding_generator": {"pj_per_bit": 0.02, "bits_per_cycle": 512, "area_mm2": 0.01, **ASSUMED},
        "feedback_generator": {"pj_per_bit": 0.01, "bits_per_cycle": 64, "area_mm2": 0.01, **ASSUMED},
        "steps_in_flight": random.choice([1, 2, 3]),
        "tiles_per_task": random.choice([4, 32]),
        **ASSUMED,
    }  # fmt: skip
    chip["dram"] = {"kind": random.choice(["lpddr4", "hbm2"]), "gbyte_per_s": random.choice([0.4, 3.2]),
                    "latency_cycles": 7, "layout": random.choice(["tiled", "row_major"]), **ASSUMED}  # fmt: skip
    chip |= random.choice([{}, {"micro_batch": random.choice([1, 2, 3])}])
    chip |= {"mesh": _mesh(random, model)} if random.random() < 0.3 else {}
    if random.random() < 0.4:
        _skip_zeros(random, chip)
    if not is_shared and random.random() < 0.2:
        chip["transport_options"] = random.choice([{"period": 3}, {"layout": "same"}])
    if random.random() < 0.2:
        chip["update_options"] = random.choice([{"fused": True}, {"momentum": False}])
    return chip


def _arrays(random: Random, is_shared: bool) -> list[dict[str, Any]]:
    """An array for all phases, or one for the way forward and one for the way back."""
    memories = [["weights", "buffer", "state"], ["copies", "buffer", "state"]]
    phases = [["forward", "gradient", "update", "error"]] if is_shared else []
    phases = phases or [["forward", "gradient", "update"], ["error"]]
    return [
        {
            "name": f"array{number}", "rows": random.randint(2, 9), "cols": random.randint(2, 9),
            "lanes": random.choice([1, 2, 5, 8]),
            "phases": {phase: _dataflow(random, phase) for phase in names},
            "edge_tiles": random.choice(["full", "trimmed"]), "double_buffered": random.random() < 0.5,
            "memories": memories[number],
            **ASSUMED,
        }
        for number, names in enumerate(phases)
    ]  # fmt: skip


def _dataflow(random: Random, phase: str) -> str:
    return "vector" if phase == "update" else random.choice(["os", "ws", "is", "broadcast"])


def _memories(random: Random, is_shared: bool) -> list[dict[str, Any]]:
    held = {"weights": ["weight", *(["feedback"] if is_shared else [])], "state": STATES, "buffer": BUFFERED}
    held |= {} if is_shared else {"copies": ["feedback"]}
    return [
        {
            "name": name, "holds": random.sample(tensors, len(tensors)), "size_kib": random.choice(["fit", "fit", 2]),
            "bank_kib": 1, "width_bits": random.choice([8, 32, 64]),
            "read_bits_per_cycle": random.choice([16, 64, 100]), "write_bits_per_cycle": random.choice([16, 64]),
            "latency_cycles": random.randint(0, 4), "shared_port": random.random() < 0.3,
            "power_gated": random.random() < 0.3, **ASSUMED,
        }
        for name, tensors in held.items()
    ]  # fmt: skip


def _link(random: Random) -> dict[str, Any]:
    return {"name": "wire", "from": "weights", "to": "copies", "width_bits": random.choice([8, 64]), "length_mm": 1,
            "pj_per_bit_mm": 0.1, **ASSUMED}  # fmt: skip


def _skip_zeros(random: Random, chip: dict[str, Any]) -> None:
    """Let arrays rest on zeros, or skip them where their dataflows can."""
    for array in chip["arrays"]:
        systolic = set(array["phases"].values()) - {"broadcast", "vector"}
        ways = ["none", "gate"] if systolic else ["gate", "skip"]
        array["zero_skipping"] = {tensor: random.choice(ways) for tensor in ("activation", "error")}
    shares = {f"zero_{tensor}": random.choice([0.0, 0.3, 0.9]) for tensor in ("activation", "error")}
    chip["activity"] = shares | ASSUMED


def _mesh(random: Random, model: dict[str, Any]) -> dict[str, Any]:
    """A mesh whose layers lie one to a core, together, or in shares on several."""
    names = [layer["name"] for layer in model["layers"] if layer["kind"] in ("linear", "conv2d")]
    shares = {name: random.sample(range(12), random.choice([1, 1, 2, 3])) for name in names}
    if random.random() < 0.5:
        sizes = {"rows": 3, "cols": 4, "placement": shares}
    else:
        placement = random.choice(["one_layer_per_core", "balanced"])
        sizes = {"rows": random.randint(1, 3), "cols": random.randint(3, 4), "placement": placement}
    return sizes | {
        "link_bits_per_cycle": random.choice([8, 32]),
        "hop_latency_cycles": random.randint(0, 3), "hop_pj_per_bit": 0.1, "router_area_mm2": 0.01,
        "error_cores": random.choice(["own", "own", "separate"]), "multicast": random.random() < 0.5, **ASSUMED,
    }  # fmt: skip


def random_model(random: Random) -> dict[str, Any]:
    """A network of linear layers, behind convolutions or not, with what may stand between them."""
    layers: list[dict[str, Any]] = []
    if random.random() < 0.5:
        shape = [random.randint(1, 3), random.randint(5, 9), random.randint(5, 9)]
        for _ in range(random.randint(1, 2)):
            layers += [_convolution(random), *_between(random, "batchnorm2d")]
        pool = {"kind": random.choice(["maxpool2d", "avgpool2d", "sumpool2d"]), "kernel": 2, "stride": 1}
        layers += [*random.choice([[], [pool]]), {"kind": "flatten"}]
    else:
        shape = [random.randint(2, 20)]
    for _ in range(random.randint(1, 2)):
        layers += [{"kind": "linear", "out": random.randint(2, 16), "bias": random.random() < 0.7}]
        layers += _between(random, "batchnorm1d")
    layers.append({"kind": "linear", "out": random.randint(2, 8)})
    numbered = [{"name": f"layer{number}", **layer} for number, layer in enumerate(layers)]
    recipe = {"optimizer": random.choice(["sgd", "momentum", "adam"])}
    return {"name": "random", "input": shape, "layers": numbered, "recipe": recipe}


def _convolution(random: Random) -> dict[str, Any]:
    return {
        "kind": "conv2d", "out": random.choice([2, 4]), "kernel": random.choice([1, 2, 3]),
        "stride": random.choice([1, 1, 2]), "padding": random.choice([0, 1]), "bias": random.random() < 0.5,
        "dilation": random.choice([1, 1, 2]),
    }  # fmt: skip


def _between(random: Random, norm: str) -> list[dict[str, Any]]:
    plain, more = [["relu"], ["tanh"], ["sigmoid"], ["hardtanh"]], [[norm, "relu"], ["relu", "dropout"], ["silu"]]
    kinds = random.choice([["relu"], *plain, *more])
    return [{"kind": kind} for kind in kinds]
