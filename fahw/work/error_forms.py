"""The error of a convolution in both forms: gathered by place of the input, or scattered from windows and added up.

Gather: each input takes its errors from the outputs that it went into, a correlation with the mirrored kernel. A stride
leaves one product per residue of both axes, so that no zero is put between the outputs. Scatter: one product gives the
error of every place of every window, and overlapping windows are added up in a buffer.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import prod
from typing import Literal, NamedTuple

from fahw.layers.weighted import Weighted
from fahw.layers.window_axes import Residue, Windows, layer_windows, residues

ErrorFormName = Literal["gather", "scatter"]


@dataclass(frozen=True, slots=True)
class ErrorProduct:
    """One of the products of a form. `sizes`: M, N, K and the number of equal products (groups). `windows`: of one of
    these, over its left operand (gather) or its result (scatter). `places`: the rows and columns of the input whose
    errors a gathered product yields; None where it yields windows."""

    sizes: tuple[int, int, int, int]
    useful_macs: int
    added: int
    """Results that are added to another in memory, each with a read, an addition and a write at accumulator width."""
    windows: Windows
    places: tuple[Residue, Residue] | None = None

    @property
    def macs(self) -> int:
        """Multiply-accumulates, those of the border among them."""
        return prod(self.sizes)

    @property
    def results(self) -> int:
        """Values of all results."""
        return self.sizes[0] * self.sizes[1] * self.sizes[3]


@dataclass(frozen=True, slots=True)
class ErrorForm:
    """The error of a convolution in one form: its products, and `zeros`, the inputs in no window, whose errors are zero
    without a product."""

    name: ErrorFormName
    products: tuple[ErrorProduct, ...]
    zeros: int = 0

    @property
    def macs(self) -> int:
        """Multiply-accumulates of all products."""
        return sum(product.macs for product in self.products)

    @property
    def useful_macs(self) -> int:
        """Those that belong to a pair of an input and an output: the same in both forms and in the forward pass."""
        return sum(product.useful_macs for product in self.products)

    @property
    def border_macs(self) -> int:
        """Those with a zero beyond the outputs' edge (gather), or for a place of the padding, dropped (scatter)."""
        return self.macs - self.useful_macs

    @property
    def results(self) -> int:
        """Values of the results of all products."""
        return sum(product.results for product in self.products)

    @property
    def added(self) -> int:
        """Results that are added to another in memory."""
        return sum(product.added for product in self.products)


class ErrorForms(NamedTuple):
    """Both forms of the error of one layer, to choose from."""

    gather: ErrorForm
    scatter: ErrorForm


@lru_cache(maxsize=4096)
def error_forms(layer: Weighted, samples: int, fan_in: int | None = None) -> ErrorForms:
    """Both forms of the error that a layer, or a core's part of it, sends to its input. `fan_in`: entries in a column
    of the matrix that the error goes through; that of W where it is None, the outputs of a group."""
    entries = layer.out_shape[0] // layer.groups if fan_in is None else fan_in
    return ErrorForms(_gather(layer, samples, entries), _scatter(layer, samples, entries))


def _scatter(layer: Weighted, samples: int, fan_in: int) -> ErrorForm:
    windows = layer_windows(layer, samples)
    sizes = (samples * layer.positions, layer.window, fan_in, layer.groups)
    added = prod(sizes[:2]) * layer.groups if layer.overlapping else 0
    return ErrorForm("scatter", (ErrorProduct(sizes, windows.pairs * fan_in * layer.groups, added, windows),))


def _gather(layer: Weighted, samples: int, fan_in: int) -> ErrorForm:
    windows = layer_windows(layer, samples)
    pairs = [(row, column) for row in residues(windows.rows) for column in residues(windows.columns)]
    reached = [(row, column) for row, column in pairs if row.taps and column.taps]
    products = [_gathered(row, column, windows, fan_in, layer.groups) for row, column in reached]
    pixels = windows.rows.pixels * windows.columns.pixels - sum(row.pixels * column.pixels for row, column in reached)
    return ErrorForm("gather", tuple(products), pixels * samples * layer.in_shape[0])


def _gathered(row: Residue, column: Residue, windows: Windows, fan_in: int, groups: int) -> ErrorProduct:
    """The product that yields the errors at the places of two residues. Those at a border of copied pixels are added to
    the pixels' own."""
    samples, channels, places = windows.samples, windows.channels, row.places * column.places
    sizes = (samples * places, channels, len(row.taps) * len(column.taps) * fan_in, groups)
    outputs = Windows(samples, fan_in, row.outputs, column.outputs)
    added = samples * (places - row.pixels * column.pixels) * channels * groups
    return ErrorProduct(sizes, outputs.pairs * channels * groups, added, outputs, (row, column))
