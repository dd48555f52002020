"""The matrix products of a layer in each phase: sizes, operands and where they come from."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from math import prod

from fahw.errors import ConfigError, Problem
from fahw.hardware.arrays.catalogue import DATAFLOWS
from fahw.hardware.arrays.mapping import Convolution, Mapping, Product
from fahw.hardware.part import Phase, Tensor
from fahw.layers.weighted import Weighted
from fahw.layers.window_axes import layer_windows
from fahw.mapping.problem import Unfolded
from fahw.network.error_path import feedback_shape, roles_of
from fahw.network.feedback_matrices import FeedbackMatrix, layer_matrices
from fahw.network.graph import Network
from fahw.rules.rule import Rule
from fahw.work import tensor_sizes
from fahw.work.context import StepContext
from fahw.work.counts.accesses import Traffic
from fahw.work.counts.gemm import Gemm, Operand, Stream, gemm_traffic
from fahw.work.counts.site import Site
from fahw.work.error_forms import ErrorForm, error_forms
from fahw.work.mesh import Part
from fahw.work.plan.tiles import Unfolding

_PLAIN = "os"
"""The dataflow of a product on an array that names none for the phase."""


def layer_gemm_sizes(layer: Weighted, samples: int) -> dict[Phase, tuple[int, int, int, int]]:
    """M, N, K and the number of equal products (groups) of a layer's three phases, layer by layer."""
    groups, positions = layer.groups, samples * layer.positions
    out = layer.out_shape[0] // groups
    return {
        "forward": (positions, out, layer.window, groups),
        "error": (positions, layer.window, out, groups),
        "gradient": (out, layer.window, positions, groups),
    }


def rule_gemm_sizes(
    network: Network, rule: Rule, layer: Weighted, samples: int
) -> dict[Phase, tuple[int, int, int, int]]:
    """M, N, K and the number of equal products of the phases that a layer has under a rule."""
    sizes = layer_gemm_sizes(layer, samples)
    roles = roles_of(network, rule)
    if layer.name not in roles.learns:
        del sizes["gradient"]
    if layer.name not in roles.sends:
        del sizes["error"]
    elif rule.sent.names_rows:
        del sizes["error"]  # a label names a row
    elif rule.path == "direct":
        shape = feedback_shape(layer, network.classes, True, network.dfa_feedback == "tiled")
        sizes["error"] = (samples, prod(shape[1:]), network.classes, 1)
    return sizes


def convolution_of(layer: Weighted, samples: int) -> Convolution:
    """One group of a layer on `samples`; a linear layer has one pixel."""
    outputs, inputs = layer.out_shape[0] // layer.groups, layer.in_shape[0] // layer.groups
    if not layer.convolutional:
        return Convolution(samples, outputs, inputs, (1, 1), (1, 1), (1, 1))
    (_, *out), (_, *image) = layer.out_shape, layer.in_shape
    return Convolution(
        samples, outputs, inputs, layer.kernel, (out[0], out[1]), (image[0], image[1]), layer.stride[0]
    )  # fmt: skip


def _layer_mapping(step: StepContext, part: Part, samples: int) -> Mapping:
    """The forward product of a part as its array lays it out. Raises ConfigError where it does not fit."""
    site, (m, n, k, _) = step.site(part, "forward"), layer_gemm_sizes(part.layer, samples)["forward"]
    array = site.array("forward")
    kind = DATAFLOWS[array.phases.forward or _PLAIN]
    buffer = site.home("psum", "forward") if kind.keeps_sums else None
    words = 1 << 62 if buffer is None or not buffer.kib else int(buffer.kib * 8192) // step.bits("activation")
    objective = step.chip.mapping_objective if step.chip.mapping == "best" else None
    mapping = kind.laid_out(Product(m, n, k, convolution_of(part.layer, samples), words, objective), array)
    if mapping is None:
        height, width = part.layer.kernel
        message = f"layer '{part.layer.name}' ({height} x {width}) does not fit {array.name} ({kind.limits(array)})"
        message += f" and {buffer.name}" if buffer is not None else ""
        raise ConfigError(Problem(step.chip.name, message, "arrays"))
    return mapping


def _gemm(
    step: StepContext, site: Site, phase: Phase, sizes: tuple[int, int, int, int], operands: tuple[Operand, Operand],
    result: Tensor, dataflow: str | None = None, mapping: Mapping | None = None, unfolding: Unfolding | None = None,
    number: int = 0,
) -> Gemm:  # fmt: skip
    """A product of the task that is being counted, its first or that of another `number`."""
    array, (m, n, k, _) = site.array(phase), sizes
    if mapping is None:
        kind = DATAFLOWS[dataflow or getattr(array.phases, phase) or _PLAIN]
        mapping = kind.laid_out(Product(m, n, k), array)
    assert mapping is not None, "a product without a convolution fits every array"
    skipping = array.zero_skipping
    built_bits = step.element_bits[:2]
    gemm = Gemm(mapping, *operands, result, step.bits("accumulator"), built_bits, skipping.imbalance, sizes[3])
    if step.plan is None:
        return gemm
    assert step.task is not None, "under a plan products are of a task"
    return step.plan.laid_out(gemm, number, unfolding, array, site.sums_home(phase), site.core, step.task)


def _operand(
    step: StepContext, site: Site, tensor: Tensor, phase: Phase, layer: Weighted, distinct: int | None = None,
    bits: int | None = None,
) -> Operand:  # fmt: skip
    zeros, skipping = step.operand_zeros(site.array(phase), tensor, layer)
    stream = Stream(site.home(tensor, phase), tensor, bits or step.bits(tensor))
    packing = step.packing(tensor, layer)
    return Operand(stream.bits, (stream,), zeros=zeros, skipping=skipping, distinct=distinct, packing=packing)


def forward_gemm(step: StepContext, part: Part, samples: int) -> Gemm:
    """The product that computes a part's outputs: (samples x positions) x window by window x out."""
    site = step.site(part, "forward")
    weights = Stream(site.home("weight", "forward"), "weight", step.bits("weight"))
    inputs = _operand(step, site, "activation", "forward", part.whole, samples * part.layer.inputs)
    operands, sizes = (inputs, Operand(weights.bits, (weights,))), layer_gemm_sizes(part.layer, samples)["forward"]
    mapping, unfolding = _layer_mapping(step, part, samples), _unfolding("left", part.layer, samples)
    return _gemm(step, site, "forward", sizes, operands, "activation", mapping=mapping, unfolding=unfolding)


def _unfolding(part: Unfolded, layer: Weighted, samples: int) -> Unfolding | None:
    """What the windows of a layer's inputs overlap in; None where it has none."""
    return Unfolding(part, layer_windows(layer, samples)) if layer.convolutional else None


def error_gemms(step: StepContext, part: Part, samples: int) -> tuple[Gemm, ...]:
    """The products that compute the error at a layer's input, one per feedback matrix: (samples x positions) x out by
    out x window; from the output for a direct rule. Of a sparse matrix only the entries are multiplied, each with the
    error that its index picks. A task that shares an error's tiles has them once for each sub-batch.

    Raises ConfigError where the shares of a split layer would have to be summed up between two matrices.
    """
    site, matrices = step.site(part, "error"), layer_matrices(step.network, part.whole, step.rule)
    if len(matrices) > 1 and step.rule.path == "layerwise" and len(step.parts[part.whole.name]) > 1:
        message = f"{step.rule.name} rounds the error of a layer between two matrices, and '{part.whole.name}' is split"
        raise ConfigError(Problem(step.chip.name, f"{message} over cores: give it one", "mesh"))
    left, products, (samples, times) = _sent_operand(step, site, part), list[Gemm](), step.sub_batches(samples)
    for matrix in matrices:
        left = replace(left, block=Fraction(matrix.rows, matrix.fan_in)) if matrix.is_sparse else left
        for sizes, unfolding in _error_products(step, part, matrix, samples):
            operands = (_seen_through(left, unfolding, sizes[3]), feedback_operand(step, site, matrix.index_bits))
            dataflow, number, (m, n, k, groups) = _error_dataflow(step), len(products), sizes
            product = _gemm(
                step, site, "error", (m, n, k, groups * times), operands, "error", dataflow, unfolding=unfolding,
                number=number,
            )  # fmt: skip
            products.append(product)
        stream = Stream(site.home("error", "error"), "error", step.bits("error"))
        left = Operand(stream.bits, (stream,))
    return tuple(products)


def _seen_through(operand: Operand, unfolding: Unfolding | None, groups: int) -> Operand:
    """An operand that lies in memory once for all windows which see it."""
    if unfolding is None or unfolding.part == "result":
        return operand
    return replace(operand, distinct=unfolding.windows.values * groups)


def _error_products(
    step: StepContext, part: Part, matrix: FeedbackMatrix, samples: int
) -> list[tuple[tuple[int, int, int, int], Unfolding | None]]:
    """The products through a matrix, the last or the first of two: sizes, and what their windows overlap in."""
    last = matrix is layer_matrices(step.network, part.whole, step.rule)[-1]
    form = error_form(step, part, samples)
    if form is None or not last:
        return [(_error_sizes(step, part, matrix, samples, last), None)]
    side: Unfolded = "left" if form.name == "gather" else "result"
    return [(product.sizes, Unfolding(side, product.windows)) for product in form.products]


def error_form(step: StepContext, part: Part, samples: int) -> ErrorForm | None:
    """The form of the error of a layer whose windows overlap, as the plan has it; None where there is no plan, or no
    choice."""
    if step.plan is None or not gathers_or_scatters(step, part):
        return None
    matrix = layer_matrices(step.network, part.whole, step.rule)[-1]
    forms = error_forms(part.layer, samples, max(1, part.share(matrix.fan_in)))
    return forms.gather if step.plan.forms.get(part.name) == "gather" else forms.scatter


def gathers_or_scatters(step: StepContext, part: Part) -> bool:
    """Whether the error of a layer can take either form: its windows overlap. A sparse matrix picks errors by the place
    in a window, which only scattering has."""
    sparse = layer_matrices(step.network, part.whole, step.rule)[-1].is_sparse
    return step.rule.path == "layerwise" and part.whole.overlapping and not sparse


def _error_sizes(
    step: StepContext, part: Part, matrix: FeedbackMatrix, samples: int, last: bool
) -> tuple[int, int, int, int]:
    """M, N, K and the number of equal products through a matrix, the `last` or the first of two."""
    columns = prod(matrix.shape[1:])
    if step.rule.path == "layerwise":
        return samples * part.layer.positions, columns, max(1, part.share(matrix.fan_in)), matrix.groups
    return samples, part.input_share(columns) if last else columns, matrix.fan_in, 1


def _sent_operand(step: StepContext, site: Site, part: Part) -> Operand:
    """The error at the layer's output, or the signal of a direct rule, as an operand."""
    sender = step.output_part.whole if step.rule.path == "direct" else part.whole
    return _operand(step, site, "error", "error", sender, bits=step.rule.signal_bits(step.bits("error")))


def _error_dataflow(step: StepContext) -> str | None:
    """The dataflow that consumes weights by rows as they are stored, where the error reads them so."""
    stored_rows = step.has_weight_copy and step.chip.transport_options.layout == "same"
    return step.chip.transposed_access.accumulate_dataflow if step.form == "accumulate" or stored_rows else None


def feedback_operand(step: StepContext, site: Site, index_bits: int = 0) -> Operand:
    """The feedback weights as an operand, read from their own memory, the copy or W's memory, or from a generator.
    `index_bits`: stored beside each, where they are sparse.

    Raises ConfigError where the rule redraws them and the chip has no generator.
    """
    rule, chip, bits = step.rule, step.chip, step.feedback_width
    streams = []
    if rule.reads_weight and chip.error_reaches_weights:
        memory = site.home("weight", "error")
        # by columns a row-only memory gives one weight with every word
        read_bits = memory.width_bits if step.form == "column" else step.bits("weight")
        streams.append(Stream(memory, "feedback", read_bits, 1 + step.transposed.read, "weight"))
    if rule.learned_bits(bits):
        streams.append(Stream(site.home("feedback", "error"), "feedback", rule.learned_bits(bits)))
    if rule.kept_bits(bits):
        streams.append(Stream(site.fixed_home("error"), "feedback", rule.kept_bits(bits) + index_bits))
    if step.has_weight_copy and rule.transported_bits(bits):
        streams.append(Stream(site.home("feedback", "error"), "feedback", rule.transported_bits(bits)))
    generated = rule.generated_bits(bits)
    operand = Operand(rule.operand_bits(bits), tuple(streams), generated)
    if not generated:
        return operand
    name, rate = _magnitude_generator(step)
    return replace(operand, generator=f"{site.prefix}{name}", generator_rate=rate)


def _magnitude_generator(step: StepContext) -> tuple[str, int]:
    """What redraws magnitudes, and its bits per cycle. Raises ConfigError where the chip has no generator."""
    chip, fixed = step.chip, step.chip.fixed_home
    if chip.feedback_generator is not None:
        return "feedback_generator", chip.feedback_generator.bits_per_cycle
    if fixed is not None and fixed.generates:
        return fixed.name, fixed.read_bits_per_cycle
    message = f"{step.rule.name} redraws its feedback weights: the chip needs a feedback_generator"
    raise ConfigError(Problem(chip.name, message, "feedback_generator"))


def gradient_gemm(step: StepContext, part: Part, samples: int) -> Gemm:
    """The product that computes the weight gradient: out x (samples x positions) by (samples x positions) x window."""
    return outer_product_gemm(step, part, samples, "gradient", "gradient")


def outer_product_gemm(step: StepContext, part: Part, samples: int, phase: Phase, result: Tensor) -> Gemm:
    """The product of errors and activations, on the array of `phase` at the part's core for it."""
    site, (samples, times) = step.site(part, phase), step.sub_batches(samples)
    error = _operand(step, site, "error", phase, part.whole)
    activation = _operand(step, site, "activation", phase, part.whole, samples * part.layer.inputs)
    (m, n, k, groups), unfolding = (
        layer_gemm_sizes(part.layer, samples)["gradient"],
        _unfolding("right", part.layer, samples),
    )
    sizes = m, n, k, groups * times
    return _gemm(step, site, phase, sizes, (error, activation), result, unfolding=unfolding)


def handed_on_sums(step: StepContext, part: Part, samples: int) -> int:
    """Sums of the gradient that wait for the next sub-batch, where its task shares the error's tiles: each is written,
    and read back."""
    m, n, _, groups = layer_gemm_sizes(part.layer, samples)["gradient"]
    return (step.sub_batches(samples)[1] - 1) * m * n * groups


def noise_gemm(step: StepContext, part: Part) -> Gemm:
    """The product that computes a layer's responses to noise: (samples x positions) x window by window x out."""
    site, samples = step.site(part, "forward"), tensor_sizes.mirror_samples(step.rule, part.layer)
    noise = Stream(site.home("activation", "forward"), "activation", tensor_sizes.NOISE_BITS)
    weights = Stream(site.home("weight", "forward"), "weight", step.bits("weight"))
    operands = (Operand(noise.bits, (noise,)), Operand(weights.bits, (weights,)))
    sizes, unfolding = layer_gemm_sizes(part.layer, samples)["forward"], _unfolding("left", part.layer, samples)
    return _gemm(step, site, "forward", sizes, operands, "error", unfolding=unfolding)


def mirror_gemm(step: StepContext, part: Part) -> Gemm:
    """The product that estimates a layer's weights: out x (samples x positions) by (samples x positions) x window of
    noise."""
    site, samples = step.site(part, "error"), tensor_sizes.mirror_samples(step.rule, part.layer)
    responses = Stream(site.home("error", "error"), "error", step.bits("error"))
    noise = Stream(site.home("activation", "error"), "activation", tensor_sizes.NOISE_BITS)
    operands = (Operand(responses.bits, (responses,)), Operand(noise.bits, (noise,)))
    sizes, unfolding = layer_gemm_sizes(part.layer, samples)["gradient"], _unfolding("right", part.layer, samples)
    return _gemm(step, site, "error", sizes, operands, "feedback", unfolding=unfolding)


def traffic_of(site: Site, product: Gemm, phase: Phase) -> Traffic:
    """Action counts and flows of a product on its core, without those that hand on its results; none where these are
    not counted."""
    psum = site.home("psum", phase) if product.mapping.partial_sum_bursts else None
    if not site.counts_products:
        return Traffic()
    return gemm_traffic(product, site.array(phase), site.accesses, psum)


def psum_bits(step: StepContext) -> dict[int, int]:
    """Bits of the accumulators that wait in memory, by core: partial sums between folds, or the error of overlapping
    windows."""
    largest: dict[int, int] = {}
    samples = max(step.micro_batch_sizes)
    for part in (part for shares in step.parts.values() for part in shares):
        products = [(part.core, forward_gemm(step, part, samples))]
        if step.learns(part):
            products.append((part.core, gradient_gemm(step, part, samples)))
        if step.sends_error(part) and not step.rule.sent.names_rows:
            products += [(part.error_core, product) for product in error_gemms(step, part, samples)]
        products += _learning_products(step, part, samples)
        for core, product in products:
            largest[core] = max(largest.get(core, 0), _psum_bits(step, product, part, samples))
    return largest


def _learning_products(step: StepContext, part: Part, samples: int) -> list[tuple[int, Gemm]]:
    """The products that teach a part its feedback weights, each with the core that runs it."""
    if not (step.sends_error(part) and step.learns(part)):
        return []
    if step.rule.learned == "mirror":
        return [(part.core, noise_gemm(step, part)), (part.error_core, mirror_gemm(step, part))]
    return (
        [(part.error_core, outer_product_gemm(step, part, samples, "error", "feedback"))]
        if step.recomputes_gradient
        else []
    )


def _psum_bits(step: StepContext, product: Gemm, part: Part, samples: int) -> int:
    waiting = product.mapping.waiting_sums(product.repeats)
    if waiting:
        return waiting * product.accumulator_bits
    overlaps = product.result == "error" and step.rule.path == "layerwise" and part.whole.overlapping
    return samples * part.whole.inputs * product.accumulator_bits if overlaps else 0
