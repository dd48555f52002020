"""What `fahw list technology` shows: parts with their sources; layers and optimizers at the ledger's prices."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import pytest

from fahw.chip.price_list import entries
from fahw.errors import ConfigError
from fahw.layers.catalogue import KINDS, examples
from fahw.layers.layer import LaneOperation, Layer
from fahw.layers.schema import Named
from fahw.optimizers import OPTIMIZERS


def values(node=45):
    return {entry.part: entry.value for entry in entries(node)}


def test_the_list_of_parts_is_complete_and_sourced():
    """Every part once per node, a positive number, a unit, a source and a factor."""
    found = entries()
    assert len({(entry.part, entry.node_nm) for entry in found}) == len(found)
    for entry in found:
        assert entry.value > 0, entry
        assert entry.source, entry
        assert entry.factor >= 1, entry
        assert entry.unit or "over 45 nm" in entry.part
    parts = " ".join(entry.part for entry in found)
    for word in ("mac", "lfsr", "stochastic", "adam", "batchnorm2d", "register file", "rom", "wire", "router", "ucie",
                 "serdes", "sram", "lpddr4", "hbm2", "gddr5", "compare", "shift", "sigmoid"):  # fmt: skip
        assert word in parts, word


def test_the_list_at_another_node():
    """Logic and wires of the list follow the node that is asked for; one that is not known is an input error."""
    at_45, at_22 = values(), values(22)
    assert at_22["mac 8x8+32"] < at_45["mac 8x8+32"]
    assert at_22["lpddr4, read a bit"] == at_45["lpddr4, read a bit"]
    with pytest.raises(ConfigError, match="28 nm"):
        entries(28)


def test_every_layer_and_optimizer_that_computes_is_listed():
    """A layer in each direction in which the lanes do something for it; an optimizer for one weight."""
    parts = [entry.part for entry in entries()]
    for layer in examples():
        for part, operations in (("forward", layer.forward_operations()), ("error", layer.error_operations())):
            listed = [name for name in parts if name.split()[0].strip(",") == layer.kind and name.endswith(f", {part}")]
            assert len(listed) == any(operation.times for operation in operations), (layer.kind, part)
    assert all(any(part.startswith(f"{name} 16, weight") for part in parts) for name in OPTIMIZERS)


def test_a_new_kind_lists_itself(monkeypatch):
    class TwiceSpec(Named):
        kind: Literal["twice"]

    @dataclass(frozen=True)
    class Twice(Layer):
        kind: ClassVar[str] = "twice"
        spec: ClassVar[type[Named]] = TwiceSpec

        def forward_operations(self):
            return (LaneOperation("add", self.outputs),)

    monkeypatch.setitem(KINDS, "twice", Twice)
    assert values()["twice 8, forward"] == pytest.approx(0.1 * 8 / 32)


@pytest.mark.parametrize(
    ("part", "pj"),
    [
        ("relu 8, forward", 0.00736),  # 8 bits of 0.92 fJ
        ("hardtanh 8, forward", 2 * 0.00736),
        ("tanh 8, error", 2 * 0.2 + 0.025),  # two products of 8 x 8 bits, an 8-bit sum
        ("maxpool2d 2x2 8, forward", 3 * 0.00736),
        ("batchnorm2d, forward", 2 * 3.7 + 3 * 0.9),  # fp32
        ("batchnorm2d, error", 3 * 3.7 + 4 * 0.9),
        ("batchnorm2d, forward, channel and batch", 10 * 3.7 + 5 * 0.9 + 2 * 7 * 3.7),
        ("sgd 16, weight", 0.4 + 0.05 + 24 * 0.013),  # a product of 16 x 8 bits, a 16-bit sum, a 24-bit shift
        ("sgd 16, weight, rate a power of two", 0.05 + (16 + 24) * 0.013),
        ("momentum 16, weight", 2 * 0.4 + 2 * 0.05 + 2 * 24 * 0.013),
        ("adam 16, weight", 7 * 3.7 + 3 * 0.9 + 2 * 7 * 3.7 + 0.05 + 32 * 0.013),
    ],
)
def test_energies_by_hand(part, pj):
    """Per value, channel or weight at 45 nm, from Horowitz's and Aladdin's operations."""
    assert values()[part] == pytest.approx(pj)
