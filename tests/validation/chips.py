"""Chips and networks that only the checks use."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml

from fahw.hardware.chip import Chip
from fahw.hardware.load import load_chip
from fahw.layers.activation import Relu
from fahw.layers.weighted import Linear
from fahw.network.graph import Network
from fahw.work.counts.accesses import Accesses
from tests.support.strategies import CHIP

ASSUMED = "a check"
STATES = ("param", "master", "optimizer", "gradient")
Part = dict[str, Any]


def chip_of(parts: Mapping[str, Any], settings: Mapping[str, str] | None = None) -> Chip:
    """The chip that a chip file of these keys and values describes, with `settings` (dotted key: YAML) changed."""
    return loaded(yaml.safe_dump(dict(parts), sort_keys=False), tuple((settings or {}).items()))


@cache
def loaded(text: str, settings: tuple[tuple[str, str], ...] = ()) -> Chip:
    """The chip that a YAML text describes."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "chip.yaml"
        path.write_text(text, encoding="utf-8")
        return load_chip(path, dict(settings))


def plain_accesses() -> Accesses:
    """Accesses on a chip where everything fits."""
    return Accesses(loaded(CHIP), ())


def memory(name: str, holds: tuple[str, ...], read_pj: float = 0.0, write_pj: float = 0.0, **more: Any) -> Part:
    """A large memory of one byte to a word that never makes anyone wait, its energies given, without leakage."""
    energy = {"read_pj": read_pj, "write_pj": write_pj, "leak_mw": 0, "area_mm2": 1}
    return {
        "name": name, "holds": list(holds), "size_kib": 65536, "width_bits": 8, "read_bits_per_cycle": 1_000_000,
        "write_bits_per_cycle": 1_000_000, "latency_cycles": 0, "energy": energy, "assumed": ASSUMED,
    } | more  # fmt: skip


def array(name: str, phases: Mapping[str, str], memories: tuple[str, ...], **more: Any) -> Part:
    """An array of 128 x 128 with lanes that never make anyone wait."""
    return {
        "name": name, "rows": 128, "cols": 128, "lanes": 1_000_000, "phases": dict(phases), "memories": list(memories),
        "assumed": ASSUMED,
    } | more  # fmt: skip


def perceptron(*sizes: int, relu: bool = True) -> Network:
    """Linear layers linear1, linear2, ... without biases, with ReLU between them."""
    layers: list[Linear | Relu] = []
    for number, (inputs, outputs) in enumerate(pairwise(sizes), 1):
        layers.append(Linear(f"linear{number}", ((inputs,),), (outputs,), bias=False))
        if relu and number + 1 < len(sizes):
            layers.append(Relu(f"relu{number}", ((outputs,),), (outputs,)))
    return Network("perceptron", (sizes[0],), tuple(layers))
