"""How many bits each tensor of a training step occupies, and how many feedback bits a rule stores."""

from __future__ import annotations

from collections.abc import Iterator

from fahw.config.chip import Chip, Tensor
from fahw.network import Layer, Network
from fahw.rules import Rule
from fahw.technology.operations import index_bits


def feedback_values(network: Network, rule: Rule, layer: Layer) -> int:
    """Feedback weights of `layer`: none for the first, outputs x inputs where the error comes from the output."""
    if layer == network.weighted[0]:
        return 0
    return network.classes * layer.inputs if rule.path == "direct" else layer.weights


def stored_feedback_bits(chip: Chip, rule: Rule) -> int:
    """Bits stored per feedback weight for the error path: the rule's own, and the copy where memories are separate."""
    bits = chip.precision.bits("feedback")
    copied = 0 if chip.error_reaches_weights else rule.transported_bits(bits)
    return rule.kept_bits(bits) + copied


def mask_bits(layers: tuple[Layer, ...]) -> int:
    """Bits per sample that the local derivatives need: ReLU signs, pooling choices."""
    relus = sum(layer.outputs for layer in layers if layer.kind == "relu")
    pools = sum(layer.outputs * index_bits(_area(layer)) for layer in layers if layer.kind == "maxpool2d")
    return relus + pools


def saved_values(layers: tuple[Layer, ...]) -> int:
    """Activations per sample kept for a derivative although no weighted layer reads them: tanh before pooling."""
    inner = layers[:-1] if layers and layers[-1].kind != "flatten" else layers[:-2]
    return sum(layer.outputs for layer in inner if layer.kind == "tanh")


def tensor_bits(chip: Chip, network: Network, rule: Rule, batch_size: int) -> dict[Tensor, int]:
    """Bits that each tensor occupies, activations and masks once per step in flight; psum is added by the caller."""
    precision, layers = chip.precision, network.weighted
    weights, biases = sum(layer.weights for layer in layers), sum(layer.biases for layer in layers)
    local = [network.between(layer) for layer in layers[1:]]  # no error goes below the first layer
    samples = batch_size * chip.steps_in_flight
    activations = sum(layer.inputs for layer in layers) + network.classes + sum(map(saved_values, local))
    feedback = sum(feedback_values(network, rule, layer) for layer in layers)
    state = sum(precision.bits(name) for name in ("gradient", "master", "optimizer"))
    return {
        "weight": weights * precision.bits("weight"),
        "master": weights * precision.bits("master"),
        "optimizer": weights * precision.bits("optimizer"),
        "gradient": weights * precision.bits("gradient"),
        "param": biases * state,
        "feedback": feedback * stored_feedback_bits(chip, rule),
        "activation": samples * activations * precision.bits("activation"),
        "mask": samples * sum(map(mask_bits, local)),
        "error": batch_size * sum(layer.outputs for layer in layers) * precision.bits("error"),
    }


def overlapping(layer: Layer) -> bool:
    """Whether neighbouring windows of a convolution share inputs, so that the error path adds into them."""
    return layer.kind == "conv2d" and any(k > s for k, s in zip(layer.kernel, layer.stride, strict=True))


def _area(layer: Layer) -> int:
    return layer.kernel[0] * layer.kernel[1]


def steps_between(network: Network, layer: Layer) -> Iterator[Layer]:
    """The layers without weights between `layer` and the weighted layer below it, last to first."""
    yield from reversed(network.between(layer))
