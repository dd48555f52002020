"""Every number that fahw prices with, as `fahw list technology` shows: of parts, and of layers and optimizers.

What these two take on the lanes is counted where they are defined and priced as in the ledger.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from fahw.hardware.memories.catalogue import MEMORY_KINDS
from fahw.layers.catalogue import examples
from fahw.layers.layer import VALUE, LaneOperation, Layer
from fahw.optimizers import OPTIMIZERS
from fahw.technology import catalogue
from fahw.technology.constant import Entry
from fahw.technology.operations import LANE_PRICES, weighted_sum
from fahw.work.counts.optimizer import OptimizerCosts

LAYER_BITS, WEIGHT_BITS = 8, 16
"""Widths that the list shows: of values and errors, of everything that an update reads."""


def entries(node_nm: int = 45) -> tuple[Entry, ...]:
    """All parts, memories, layers and optimizers, logic and wires at `node_nm`.

    Raises ConfigError for a node that nothing is known of.
    """
    memories = (entry for kind in MEMORY_KINDS for entry in kind.listed(node_nm))
    return *catalogue.entries(node_nm), *memories, *_layers(node_nm), *_optimizers(node_nm)


def _layers(node: int) -> Iterator[Entry]:
    """What a layer takes per value of its output, forward and back, and per channel and batch; weights apart."""
    for layer in examples():
        outputs, channels = layer.outputs, layer.out_shape[0]
        for part, operations, share in (
            ("forward", layer.forward_operations(), outputs),
            ("error", layer.error_operations(), outputs),
            ("forward, channel and batch", layer.forward_constants(), channels),
            ("error, channel and batch", layer.error_constants(), channels),
        ):
            bits = f" {LAYER_BITS}" if any(VALUE in operation.widths for operation in operations) else ""
            yield from _entry(f"{_title(layer)}{bits}, {part}", operations, share, node)


def _title(layer: Layer) -> str:
    """The kind, and its window where it has one."""
    kernel = getattr(layer, "kernel", None)
    return f"{layer.kind} {kernel[0]}x{kernel[1]}" if kernel else layer.kind


def _optimizers(node: int) -> Iterator[Entry]:
    """What the update of a weight takes, its roundings included, with a rate of any value or a power of two."""
    for optimizer in OPTIMIZERS.values():
        for shifts in (False, True) if optimizer.linear else (False,):
            costs = OptimizerCosts(optimizer, False, False, shifts)
            operations = [LaneOperation(*each) for each in costs.operations(1, *[WEIGHT_BITS] * 3)]
            rounded = costs.rounded(1, WEIGHT_BITS, WEIGHT_BITS)
            operations += [LaneOperation("shift", number, (bits,)) for number, bits in rounded]
            rate = ", rate a power of two" if shifts else ""
            yield from _entry(f"{optimizer.name} {WEIGHT_BITS}, weight{rate}", operations, 1, node)


def _entry(part: str, operations: Iterable[LaneOperation], share: int, node: int) -> Iterator[Entry]:
    """One entry, the operations over `share`; none where nothing is done."""
    counts: dict[tuple[str, tuple[int, ...]], float] = {}
    for action, times, widths in operations:
        key = action, tuple(LAYER_BITS if width == VALUE else int(width) for width in widths)
        counts[key] = counts.get(key, 0) + times / share
    prices = [(times, LANE_PRICES[action](bits, node, None)) for (action, bits), times in counts.items() if times]
    if prices:
        counted = ", ".join(f"{times:g} {action}" for (action, _), times in counts.items() if times)
        sources = "; ".join(dict.fromkeys(price.source for _, price in prices))
        total = weighted_sum(prices, f"{counted} (counted): {sources}")
        yield Entry(part, total.value, "pJ", node, total.factor, total.source)
