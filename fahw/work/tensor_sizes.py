"""How many bits each tensor of a training step occupies, and how many feedback bits a rule stores."""

from __future__ import annotations

from collections.abc import Iterable

from fahw.hardware.chip import Chip
from fahw.hardware.part import Tensor
from fahw.layers.layer import INPUT, NORMS, Layer
from fahw.network.error_path import feedback_shape
from fahw.network.graph import Network
from fahw.rules.rule import MIRROR_SAMPLES, TERNARY_BITS, Rule
from fahw.technology.operations import index_bits
from fahw.work.counts.optimizer import optimizer_costs
from fahw.work.graph import Graph
from fahw.work.mesh import Part

_SAVED = ("tanh", "sigmoid")
"""Kinds whose derivative needs their output."""

LABEL_BITS = 8
"""Width of a label."""

NOISE_BITS = 1
"""Width of the noise that mirrors weights: -1 and 1."""


def feedback_values(network: Network, graph: Graph, rule: Rule, part: Part) -> int:
    """Feedback weights of a part: none where it sends no error down, outputs x inputs under a direct rule."""
    if part.whole.name not in graph.roles.sends:
        return 0
    if rule.path == "direct":
        shape = feedback_shape(part.whole, network.classes, True, network.dfa_feedback == "tiled")
        return part.share(shape[0] * _product(shape[1:]))
    return part.layer.weights


def _product(values: Iterable[int]) -> int:
    result = 1
    for value in values:
        result *= value
    return result


def copied_bits(chip: Chip, rule: Rule) -> int:
    """Bits per feedback weight of the copy that transport keeps up to date; none where the error reads W itself."""
    return 0 if chip.error_reaches_weights else rule.transported_bits(chip.precision.bits("feedback"))


def mask_bits(layers: Iterable[Layer]) -> int:
    """Bits per sample that the local derivatives need: signs, pooling choices, dropped values."""
    bits = 0
    for layer in layers:
        if layer.kind in ("relu", "hardtanh", "dropout"):
            bits += layer.outputs
        elif layer.kind == "maxpool2d":
            bits += layer.outputs * index_bits(layer.kernel[0] * layer.kernel[1])
    return bits


def stored(network: Network, tail: tuple[Layer, ...], layer: Layer | None) -> tuple[Layer, ...]:
    """Of a weighted layer (None: the input) and its tail, the outputs that others read: they go to memory."""
    names = {item.name for item in tail}
    items = ((layer,) if layer else ()) + tail
    found = []
    for item in items:
        users = network.users_of(item)
        if not users or any(user.name not in names for user in users):
            found.append(item)
    return tuple(found)


def saved_values(network: Network, tail: tuple[Layer, ...], layer: Layer | None, derived: bool = True) -> int:
    """Values per sample kept although nobody else reads them: tanh before pooling (for its derivative, if `derived`), a
    norm's input."""
    kept = set()
    for item in stored(network, tail, layer):
        while item.kind == "flatten" and network.sources_of(item):
            item = network.sources_of(item)[0]
        kept.add(item.name)
    inner = sum(item.outputs for item in tail if item.kind in _SAVED and item.name not in kept)
    return inner * derived + sum(item.outputs for item in tail if item.kind in NORMS)


def derivative_values(layers: Iterable[Layer]) -> int:
    """Activations per sample that the local derivatives read."""
    return sum(layer.outputs for layer in layers if layer.kind in _SAVED or layer.kind in NORMS)


def norm_params(layers: Iterable[Layer]) -> int:
    """Scales and shifts of batch norms."""
    return sum(layer.params for layer in layers)


def tensor_bits(
    chip: Chip, network: Network, graph: Graph, rule: Rule, samples: int, parts: Iterable[Part], core: int
) -> dict[Tensor, int]:
    """Bits that each tensor occupies on a core, activations and masks once per step in flight; psum is added by the
    caller.

    `samples`: of a whole step.
    """
    precision = chip.precision
    own = [part for part in parts if part.core == core]
    sending = [part for part in parts if part.error_core == core and part.whole.name in graph.roles.sends]
    learning = [part for part in own if part.whole.name in graph.roles.learns]
    weights, learned = (sum(part.layer.weights for part in group) for group in (own, learning))
    params, learned_params = (_params(graph, group) for group in (own, learning))
    flying = samples * chip.steps_in_flight
    options, partial = chip.update_options, gradient_bits(chip, samples)
    velocity = optimizer_costs(chip, network, rule).optimizer.state_bits(precision.bits("optimizer"))
    state = (precision.bits("gradient") if partial else 0) + velocity
    receiving = [part for part in own if part.whole.name in graph.roles.receives]
    masks = sum(part.share(mask_bits(graph.tails[part.whole.name])) for part in receiving if _sends(graph, part))
    return {
        "weight": weights * precision.bits("weight"),
        "master": 0 if options.in_place else learned * precision.bits("master"),
        "optimizer": learned * velocity,
        "gradient": learned * partial,
        "param": learned_params * state + params * precision.bits("master"),
        "feedback": sum(_feedback_bits(chip, network, graph, rule, part, samples) for part in sending),
        "activation": flying * _activations(network, graph, own) * precision.bits("activation")
        + max((mirror_samples(rule, x.layer) * x.whole.inputs * NOISE_BITS for x in sending), default=0),
        "mask": flying * masks,
        "error": samples * sum(part.layer.outputs for part in receiving) * precision.bits("error")
        + _signal_bits(chip, network, rule, samples) * bool(sending)
        + max((mirror_samples(rule, x.layer) * x.layer.outputs * precision.bits("error") for x in sending), default=0),
    }


def gradient_bits(chip: Chip, samples: int) -> int:
    """Bits that a weight's gradient takes in memory: a sum over micro-batches, a rounded word, or nothing."""
    if _splits(chip, samples):
        return chip.precision.bits("accumulator")
    return 0 if chip.update_options.fused else chip.precision.bits("gradient")


def _params(graph: Graph, parts: Iterable[Part]) -> int:
    return sum(part.layer.biases + part.share(norm_params(graph.tails[part.whole.name])) for part in parts)


def _feedback_bits(chip: Chip, network: Network, graph: Graph, rule: Rule, part: Part, samples: int) -> int:
    """Bits of a part's feedback weights in memories that are written."""
    bits, fixed = chip.precision.bits("feedback"), chip.fixed_home
    kept = rule.kept_bits(bits) if fixed is not None and fixed.writable else 0
    learned = rule.learned_bits(bits) + kept_beside(chip, network, rule, samples)
    return feedback_values(network, graph, rule, part) * (kept + learned + copied_bits(chip, rule))


def _signal_bits(chip: Chip, network: Network, rule: Rule, samples: int) -> int:
    """Bits of what is sent back from the output, where that is not the output error itself."""
    ternary = samples * network.classes * TERNARY_BITS if rule.signal == "ternary" else 0
    return ternary + (samples * LABEL_BITS if rule.signal == "targets" else 0)


def recomputes(chip: Chip, rule: Rule) -> bool:
    """Whether feedback weights that follow W's steps have them computed again, as W's update cannot reach them."""
    home, array = chip.home("feedback"), chip.array_of("update")
    reached = home is not None and array is not None and home.name in array.memories
    apart = chip.mesh is not None and chip.mesh.error_cores == "separate"
    return rule.learned == "gradient" and (apart or not reached)


def kept_beside(chip: Chip, network: Network, rule: Rule, samples: int) -> int:
    """Bits beside each feedback weight: the optimizer's states, or the sum of earlier micro-batches."""
    if not recomputes(chip, rule):
        return 0
    number, width = optimizer_costs(chip, network, rule).words(chip.precision.bits("optimizer"))
    return max(number, int(_splits(chip, samples))) * width


def mirror_samples(rule: Rule, layer: Layer) -> int:
    """Samples of noise that show a layer's weights: a convolution's positions count as many."""
    return -(-MIRROR_SAMPLES // layer.positions) if rule.learned == "mirror" else 0


def _splits(chip: Chip, samples: int) -> bool:
    return chip.micro_batch is not None and chip.micro_batch < samples


def _sends(graph: Graph, part: Part) -> bool:
    return bool(graph.users[part.whole.name])


def _activations(network: Network, graph: Graph, own: list[Part]) -> int:
    """Values per sample that a core keeps: what its layers and its adds read, what its tails save, and the logits."""
    sizes = {item.name: item.outputs for item in network.layers} | {INPUT: _product(network.input_shape)}
    read, saved = set(), 0
    for part in own:
        tail = graph.tails[part.whole.name]
        read |= set(part.whole.sources)
        read |= {source for item in tail if item.kind == "add" for source in item.sources} - {x.name for x in tail}
        saved += part.share(saved_values(network, tail, part.whole, part.whole.name in graph.roles.receives))
        if not graph.users[part.whole.name]:
            saved += part.layer.outputs
    return saved + sum(sizes[name] for name in read)


def overlapping(layer: Layer) -> bool:
    """Whether neighbouring windows of a convolution share inputs, so that the error path adds into them."""
    return layer.kind == "conv2d" and any(k > s for k, s in zip(layer.kernel, layer.stride, strict=True))
