"""What an arithmetic must be able to do for a training step."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from fahw.datasets.images import Pixels
from fahw.layers.layer import Layer
from fahw.layers.unit import Unit
from fahw.layers.weighted import Weighted
from fahw.learn.kernels.device import CPU
from fahw.learn.state.parameters import Gradient, Parameters
from fahw.network.graph import Network
from fahw.prng import Lfsr
from fahw.rules.rule import Rule

if TYPE_CHECKING:
    from fahw.learn.state.rounding_losses import RoundingLosses


class Arithmetic(Unit, Protocol):
    """The operations of a training step in some kind of numbers, those of layers among them.

    Layers are the network's own; errors and words are scaled as the arithmetic likes.
    """

    @property
    def norm_samples(self) -> int | None:
        """Samples over which batch norms take their statistics; None: the batch."""

    @property
    def generators(self) -> tuple[Lfsr, ...]:
        """The random generators, all that a step changes of the arithmetic."""

    def initial(self, network: Network, seed: int, device: torch.device = CPU) -> dict[str, Parameters]:
        """The parameters of every layer with weights and batch norm before training: Xavier-uniform weights, zero
        biases and optimizer states; scale 1 and shift 0 of a batch norm."""

    def encode(self, pixels: Pixels, maximum: int) -> Tensor:
        """The images as network inputs, `pixels / maximum`."""

    def arranged(self, x: Tensor) -> Tensor:
        """The network inputs `(n, ...)` with their axes in the arithmetic's order."""

    def by_sample(self, logits: Tensor) -> Tensor:
        """The logits as `(n, classes)`."""

    def loss(self, logits: Tensor, labels: Tensor) -> tuple[Tensor, float]:
        """The output error, softmax - one-hot per sample, and the summed cross-entropy."""

    def signal(self, rule: Rule, output_error: Tensor, labels: Tensor) -> Tensor:
        """What a direct rule sends back from the output: the error, its ternary form, or the labels."""

    def direct_error(self, layer: Weighted, signal: Tensor, feedback: Tensor) -> Tensor:
        """The error at the layer's input under a direct rule, from what is sent back from the output (`signal`)."""

    def pruned(self, layer: Weighted, error: Tensor, rule: Rule, draw: int) -> Tensor:
        """The error at a hidden layer's output with small ones rounded at random to zero or to the threshold."""

    def summed(self, errors: list[Tensor]) -> Tensor:
        """The sum of the errors that come back to one layer's output from several that read it."""

    def update(self, parameters: dict[str, Parameters], gradients: dict[str, Gradient], rate: float, step: int) -> None:
        """Move the parameters of all layers in place, by the recipe's optimizer; `step` counts the training's steps
        from 0."""

    def evaluator(self, seed: int, batch_statistics: bool = False) -> Arithmetic:
        """The same arithmetic outside the training, with a random stream of its own and nothing dropped.

        Batch norms use their running statistics, in forward passes only; with `batch_statistics` those of the batch, in
        backward passes too. The running ones stay as they are.
        """

    def plain(self, layer: Layer, parameters: Parameters) -> tuple[Tensor, Tensor | None]:
        """The values of weight and bias, shaped as they are, in floating point."""

    def watch(self, losses: RoundingLosses | None) -> None:
        """From now on count in `losses` what rounding loses; None: no longer."""

    def unit_ratio(self, layer: Weighted) -> float:
        """The value of one step of the layer's feedback words over that of one step of its weight words."""

    def saturated(self, parameters: dict[str, Parameters]) -> dict[str, float]:
        """The share of the stored numbers that lie at an end of their range, by kind of tensor; empty if none can."""
