"""How many bits each tensor of a training step occupies, and how many feedback bits a rule stores."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from math import prod

from fahw.hardware.chip import Chip
from fahw.hardware.part import Tensor
from fahw.layers.layer import INPUT, Layer
from fahw.layers.weighted import Weighted
from fahw.network.feedback_matrices import layer_matrices, layer_stages
from fahw.network.graph import Network
from fahw.optimizers import FLOAT_BITS
from fahw.rules.rule import MIRROR_SAMPLES, Rule
from fahw.work.counts.optimizer import optimizer_costs
from fahw.work.graph import Graph
from fahw.work.mesh import Part

Packed = Callable[[Tensor, Layer | None, int, int], int]
"""Bits in memory of values of a tensor, so many and so wide, that a layer reads (of errors: has at its output)."""
NOISE_BITS = 1
"""Width of the noise that mirrors weights: -1 and 1."""


def feedback_values(network: Network, graph: Graph, rule: Rule, part: Part) -> int:
    """Feedback weights that a part has, in one matrix or two: none where it sends no error down."""
    if part.whole.name not in graph.roles.sends:
        return 0
    *narrow, last = layer_matrices(network, part.whole, rule)
    words = (
        last.fan_in * part.input_share(last.words // last.fan_in) if rule.path == "direct" else part.share(last.words)
    )
    return sum(matrix.words for matrix in narrow) + words


def fixed_bits(network: Network, rule: Rule, layer: Weighted, feedback_bits: int) -> int:
    """Bits that are stored for each of a layer's feedback weights before training: what the rule keeps of it, and where
    it lies in a sparse matrix."""
    return rule.kept_bits(feedback_bits) + layer_matrices(network, layer, rule)[-1].index_bits


def narrow_values(network: Network, rule: Rule, layer: Weighted) -> int:
    """Values per sample of the error between the two matrices of a layer, where the rule has two."""
    return layer_stages(network, layer, rule)[0].inputs if rule.rank is not None else 0


def feedback_width(chip: Chip, rule: Rule) -> int:
    """Bits of a feedback weight: a copied one has those of the forward weight where these are fewer."""
    bits = chip.precision.bits("feedback")
    return min(bits, chip.precision.bits("weight")) if rule.feedback.copies_weight else bits


def copied_bits(chip: Chip, rule: Rule) -> int:
    """Bits per feedback weight of the copy that transport keeps up to date; none where the error reads W itself."""
    return 0 if chip.error_reaches_weights else rule.transported_bits(feedback_width(chip, rule))


def mask_bits(layers: Iterable[Layer]) -> int:
    """Bits per sample that the local derivatives need: signs, pooling choices, dropped values."""
    return sum(layer.mask_bits for layer in layers)


def stored_outputs(network: Network, tail: tuple[Layer, ...], layer: Layer | None) -> tuple[Layer, ...]:
    """The layers whose outputs go to memory, as others read them: of a weighted layer (None: the input) and its
    tail."""
    names = {item.name for item in tail}
    layers = ((layer,) if layer else ()) + tail
    outputs = []
    for item in layers:
        users = network.users_of(item)
        if not users or any(user.name not in names for user in users):
            outputs.append(item)
    return tuple(outputs)


def saved_values(network: Network, tail: tuple[Layer, ...], layer: Layer | None, needs_derivative: bool = True) -> int:
    """Values per sample kept although no other layer reads them: tanh before pooling (for its derivative, if
    `needs_derivative`), a norm's input."""
    stored_names = {INPUT}
    for item in stored_outputs(network, tail, layer):
        while item.same_values and network.sources_of(item):
            item = network.sources_of(item)[0]
        stored_names.add(item.name)
    computed_here = {item.name for item in tail} | ({layer.name} if layer else set())
    saved = sum(item.inputs for item in tail if item.rereads_input)
    for item in tail if needs_derivative else ():
        saved += item.saved_outputs if item.name not in stored_names else 0
        sizes = zip(item.sources, item.saved_inputs, strict=True)
        saved += sum(size for name, size in sizes if name in computed_here - stored_names and not item.rereads_input)
    return saved


def derivative_inputs(layers: Iterable[Layer]) -> int:
    """Number of activations per sample that the local derivatives read."""
    return sum(layer.saved_outputs + sum(layer.saved_inputs) for layer in layers)


def norm_params(layers: Iterable[Layer]) -> int:
    """Number of scales and shifts of the batch norms among `layers`."""
    return sum(layer.params for layer in layers)


def learned_norm_params(layers: Iterable[Layer]) -> int:
    """Number of scales and shifts of the batch norms among `layers` that are not frozen."""
    return sum(layer.params for layer in layers if not layer.frozen)


def norm_constants(layers: Iterable[Layer]) -> tuple[int, int]:
    """Numbers of statistics and of scales that the way back through `layers` needs of each batch."""
    items = tuple(layers)
    return sum(item.statistics for item in items), sum(item.scales for item in items)


def reaches_params(chip: Chip) -> bool:
    """Whether the array of the error path is wired to the memory of the parameters."""
    array, home = chip.array_of("error"), chip.home("param")
    return array is not None and home is not None and home.name in array.memories


def constant_bits(chip: Chip, graph: Graph, parts: Iterable[Part]) -> int:
    """Bits per batch of the batch norms' constants that wait for the way back: statistics, and scales out of reach."""
    scale_bits = 0 if reaches_params(chip) else chip.precision.bits("master")
    bits = 0
    for part in parts:
        statistics, scales = norm_constants(graph.tails[part.whole.name])
        bits += part.share(statistics) * FLOAT_BITS + part.share(scales) * scale_bits
    return bits


def tensor_bits(
    chip: Chip, network: Network, graph: Graph, rule: Rule, samples: int, parts: Iterable[Part], core: int,
    packed: Packed,
) -> dict[Tensor, int]:  # fmt: skip
    """Bits that each tensor occupies on a core, activations and masks once per step in flight; psum is added by the
    caller.

    `samples` is the batch size of a whole step. `packed`: bits of what a layer reads, or of errors at its output.
    """
    precision = chip.precision
    local_parts = [part for part in parts if part.core == core]
    sending = [part for part in parts if part.error_core == core and part.whole.name in graph.roles.sends]
    learning = [part for part in local_parts if part.whole.name in graph.roles.learns]
    weights, learned_weights = (sum(part.layer.weights for part in group) for group in (local_parts, learning))
    params, learned_params = _params(graph, local_parts, norm_params), _params(graph, learning, learned_norm_params)
    samples_in_flight = samples * chip.steps_in_flight
    options, gradient_width = chip.update_options, gradient_bits(chip, samples)
    optimizer_width = optimizer_costs(chip, network, rule).optimizer.state_bits(precision.bits("optimizer"))
    receiving = [part for part in local_parts if part.whole.name in graph.roles.receives]
    waiting = [part for part in receiving if _has_readers(graph, part)]
    batches_in_flight = chip.steps_in_flight * -(-samples // chip.together(samples))
    masks = sum(part.input_share(mask_bits(graph.derivative_layers[part.whole.name])) for part in sending)
    taught = [part for part in sending if part.whole.name in graph.roles.learns]
    kept, passing = _activation_bits(network, graph, local_parts, packed, precision.bits("activation"))
    return {
        "weight": weights * precision.bits("weight"),
        "master": 0 if options.in_place else learned_weights * precision.bits("master"),
        "optimizer": learned_weights * optimizer_width,
        "gradient": learned_weights * gradient_width,
        "param": learned_params * (gradient_width + optimizer_width) + params * precision.bits("master"),
        "feedback": sum(feedback_bits(chip, network, graph, rule, part, samples) for part in sending),
        "activation": samples_in_flight * kept
        + samples * passing
        + batches_in_flight * constant_bits(chip, graph, waiting)
        + max((mirror_samples(rule, share.layer) * share.whole.inputs * NOISE_BITS for share in taught), default=0),
        "mask": samples_in_flight * masks,
        "error": _waiting_bits(chip, network, graph, rule, samples, receiving, sending, core, packed)
        + samples * rule.sent.stored_bits(network.classes, precision.bits("error")) * bool(sending)
        + max((_passing_bits(chip, network, graph, rule, samples, part) for part in sending), default=0),
    }


def _waiting_bits(
    chip: Chip, network: Network, graph: Graph, rule: Rule, samples: int, receiving: list[Part], sending: list[Part],
    core: int, packed: Packed,
) -> int:  # fmt: skip
    """Bits of the errors that wait on a core: of the outputs of its parts, and those that it sends on, which are of all
    the network's outputs under a direct rule."""
    held = [(part.whole, part.layer.outputs) for part in receiving]
    if rule.path == "layerwise":
        others = (part for part in sending if part.core != core and part.whole.name in graph.roles.receives)
        held += [(part.whole, part.layer.outputs) for part in others]
    elif sending and rule.sent.is_error:
        last = network.weighted[-1]
        held.append((last, network.classes - sum(number for whole, number in held if whole is last)))
    return sum(packed("error", whole, samples * number, chip.precision.bits("error")) for whole, number in held)


def _passing_bits(chip: Chip, network: Network, graph: Graph, rule: Rule, samples: int, part: Part) -> int:
    """Bits of the errors of a part that wait for its next product alone: between two matrices, or answers to noise; and
    of the sums that the other shares of its layer send it."""
    together = chip.together(samples)
    answers = mirror_samples(rule, part.layer) if part.whole.name in graph.roles.learns else 0
    errors = together * narrow_values(network, rule, part.whole) + answers * part.layer.outputs
    sums = (part.count - 1) * part.input_share(part.whole.inputs) if rule.path == "layerwise" else 0
    return errors * chip.precision.bits("error") + together * sums * chip.precision.bits("accumulator")


def gradient_bits(chip: Chip, samples: int) -> int:
    """Bits that a weight's gradient takes in memory: a sum over micro-batches, a rounded word, or nothing."""
    if _has_micro_batches(chip, samples):
        return chip.precision.bits("accumulator")
    return 0 if chip.update_options.fused else chip.precision.bits("gradient")


def _params(graph: Graph, parts: Iterable[Part], norms: Callable[[Iterable[Layer]], int]) -> int:
    return sum(part.layer.biases + part.share(norms(graph.tails[part.whole.name])) for part in parts)


def feedback_bits(chip: Chip, network: Network, graph: Graph, rule: Rule, part: Part, samples: int) -> int:
    """Bits of a part's feedback weights in memories that are written."""
    bits, fixed = chip.precision.bits("feedback"), chip.fixed_home
    written = fixed_bits(network, rule, part.whole, bits) if fixed is not None and fixed.writable else 0
    learns = part.whole.name in graph.roles.learns
    learned = rule.learned_bits(bits) + (feedback_state_bits(chip, network, rule, samples) if learns else 0)
    return feedback_values(network, graph, rule, part) * (written + learned + copied_bits(chip, rule))


def recomputes_gradient(chip: Chip, rule: Rule) -> bool:
    """Whether the gradient of W is computed again for the feedback weights, as W's update cannot reach them."""
    home, array = chip.home("feedback"), chip.array_of("update")
    is_wired = home is not None and array is not None and home.name in array.memories
    other_core = chip.mesh is not None and chip.mesh.error_cores == "separate"
    return rule.learned == "gradient" and (other_core or not is_wired)


def feedback_state_bits(chip: Chip, network: Network, rule: Rule, samples: int) -> int:
    """Bits beside each feedback weight: the optimizer's states, or the sum of earlier micro-batches."""
    if not recomputes_gradient(chip, rule):
        return 0
    number, width = optimizer_costs(chip, network, rule).state_words(chip.precision.bits("optimizer"))
    return max(number, int(_has_micro_batches(chip, samples))) * width


def mirror_samples(rule: Rule, layer: Weighted) -> int:
    """Samples of noise that show a layer's weights: a convolution's positions count as many."""
    return -(-MIRROR_SAMPLES // layer.positions) if rule.learned == "mirror" else 0


def _has_micro_batches(chip: Chip, samples: int) -> bool:
    return chip.together(samples) < samples


def _has_readers(graph: Graph, part: Part) -> bool:
    return bool(graph.users[part.whole.name])


def _activation_bits(
    network: Network, graph: Graph, local_parts: list[Part], packed: Packed, bits: int
) -> tuple[int, int]:  # fmt: skip
    """Bits per sample of a core that wait for the way back: what its layers and its adds read, what its tails save,
    and the logits; and the most that wait at a time for layers that read them on the way forward alone."""
    readers: dict[str, list[int]] = {}
    saved, order = 0, {layer.name: position for position, layer in enumerate(network.weighted)}
    alive = [0] * len(order)
    for part in local_parts:
        name, tail = part.whole.name, graph.tails[part.whole.name]
        own_names = {layer.name for layer in tail}
        joined = {source for item in tail if len(item.sources) > 1 for source in item.sources} - own_names
        for source in {*part.whole.sources, *joined}:
            readers.setdefault(source, []).append(order[name])
        receives = name in graph.roles.receives
        own = part.share(saved_values(network, tail, part.whole, receives))
        if receives:
            saved += own
        else:  # a norm's input, for the second pass over the batch alone
            alive[order[name]] += own * bits
        if not graph.users[name]:
            saved += part.layer.outputs
    passing = {name for name in readers if _only_passes(network, graph, name)}
    sizes = {name: _packed_size(network, name, packed, bits) for name in readers}
    for name in passing:
        for position in range(max(0, order.get(graph.owners[name], -1)), max(readers[name]) + 1):
            alive[position] += sizes[name]
    return saved * bits + sum(sizes[name] for name in readers if name not in passing), max(alive)


def _packed_size(network: Network, name: str, packed: Packed, bits: int) -> int:
    """Bits per sample of the output of the layer called `name`, as it lies in memory."""
    item = None if name == INPUT else network.layer(name)
    values = prod(network.input_shape) if item is None else item.outputs
    reader = next((user for user in network.users_of(item) if user.weighted), None)
    return packed("activation", reader, values, bits)


def _only_passes(network: Network, graph: Graph, name: str) -> bool:
    """Whether the output of the layer called `name` is of no use once the layers that read it have run: no gradient and
    no derivative reads it."""
    if name in graph.read_again:
        return False
    read_by_weights = any(user.weighted for user in network.users_of(network.layer(name) if name != INPUT else None))
    return read_by_weights or graph.owners[name] not in graph.roles.receives
