"""What an arithmetic must be able to do for a training step."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from torch import Tensor

from fahw.datasets.images import Pixels
from fahw.layers.layer import Layer
from fahw.learn.state.parameters import Gradient, Parameters
from fahw.rules.rule import Rule

if TYPE_CHECKING:
    from fahw.learn.state.rounding_losses import RoundingLosses


class Arithmetic(Protocol):
    """The numbers of a step. Layers are the network's own; errors and words are scaled as the arithmetic likes."""

    def initial(self, layer: Layer, seed: int) -> Parameters:
        """Xavier-uniform weights drawn for `layer`, zero biases and velocities; scale 1 and shift 0 of a batch norm."""

    def encode(self, pixels: Pixels, maximum: int) -> Tensor:
        """Images as network inputs, `pixels / maximum`."""

    def arranged(self, x: Tensor) -> Tensor:
        """Network inputs `(n, ...)` with their axes in the arithmetic's order."""

    def by_sample(self, logits: Tensor) -> Tensor:
        """Logits as `(n, classes)`."""

    def operand(self, layer: Layer, x: Tensor) -> Tensor:
        """A weighted layer's input as its products read it (a convolution's windows as rows)."""

    def weighted(self, layer: Layer, parameters: Parameters, operand: Tensor) -> Tensor:
        """Outputs of a linear or conv2d layer."""

    def local(self, layer: Layer, x: Tensor) -> tuple[Tensor, Tensor]:
        """Outputs of a layer without weights, and what its `local_error` needs."""

    def added(self, layer: Layer, inputs: list[Tensor]) -> Tensor:
        """The sum of several layers' outputs."""

    def normalised(self, layer: Layer, parameters: Parameters, x: Tensor) -> tuple[Tensor, Tensor]:
        """Outputs of a batch norm, and what `norm_error` needs; in training, with the batch's statistics."""

    def loss(self, logits: Tensor, labels: Tensor) -> tuple[Tensor, float]:
        """The output error, softmax - one-hot per sample, and the summed cross-entropy."""

    def error(self, layer: Layer, delta: Tensor, feedback: Tensor) -> Tensor:
        """The error at the layer's output sent to its input."""

    def signal(self, rule: Rule, output_error: Tensor, labels: Tensor) -> Tensor:
        """What a direct rule sends back from the output: the error, its ternary form, or the labels."""

    def direct_error(self, layer: Layer, signal: Tensor, feedback: Tensor) -> Tensor:
        """What is sent back from the output (`signal`), at the layer's input."""

    def pruned(self, layer: Layer, error: Tensor, rule: Rule, draw: int) -> Tensor:
        """The error at a hidden layer's output with small ones rounded at random to zero or to the threshold."""

    def local_error(self, layer: Layer, saved: Tensor, error: Tensor) -> Tensor:
        """The error at the output of a layer without weights, sent to its input; may change `error`."""

    def norm_error(self, layer: Layer, parameters: Parameters, saved: Tensor, error: Tensor) -> tuple[Tensor, Gradient]:
        """The error at a batch norm's output sent to its input, and the gradient sums of its scale and shift."""

    def summed(self, errors: list[Tensor]) -> Tensor:
        """Errors that come back to one layer's output from several that read it."""

    def gradient(self, layer: Layer, delta: Tensor, operand: Tensor) -> Gradient:
        """Sums over the batch."""

    def update(self, parameters: dict[str, Parameters], gradients: dict[str, Gradient], rate: float, step: int) -> None:
        """Of all layers by the recipe's optimizer, in place; `step` counts the training's steps from 0."""

    def evaluator(self, seed: int, batch_statistics: bool = False) -> Arithmetic:
        """The same arithmetic outside the training, with a random stream of its own and nothing dropped.

        Batch norms use their running statistics, in forward passes only; with `batch_statistics` those of the batch, in
        backward passes too. The running ones stay as they are.
        """

    def plain(self, layer: Layer, parameters: Parameters) -> tuple[Tensor, Tensor | None]:
        """The values of weight and bias, shaped as they are, in floating point."""

    def watch(self, tally: RoundingLosses | None) -> None:
        """From now on note in `tally` what rounding loses; None: no longer."""

    def unit_ratio(self, layer: Layer) -> float:
        """Value of one step of the layer's feedback words over one of its weight words."""

    def saturated(self, parameters: dict[str, Parameters]) -> dict[str, float]:
        """Share of the stored numbers that lie at an end of their range, by kind of tensor; empty if none can."""
