"""One training step of a network under a rule on a chip, as tasks. See docs/model.md for every equation.

    input -> forward(1) -> ... -> forward(L) -> loss -> error(L) -> ... -> error(2)
    gradient(l) after the error at l's output; update(l) after gradient(l); transport(l) after update(l)

Under a direct rule every error(l) waits for the loss alone. Micro-batches go through the phases one after the other and
meet in the update. On a mesh a layer's tasks run on its core, or in shares on several; results go where they are read.
"""

from __future__ import annotations

from collections.abc import Iterable

from fahw.activity import Activity
from fahw.errors import ConfigError, Problem, suggestion
from fahw.hardware.chip import Chip
from fahw.hardware.part import Form, Tensor
from fahw.network.error_path import check_learning, roles_of
from fahw.network.graph import Network
from fahw.rules.rule import Rule
from fahw.work import learned_feedback, tensor_sizes, transport
from fahw.work.context import StepContext
from fahw.work.counts.accesses import Accesses, place_tensors, required_memory, with_sized_memories
from fahw.work.counts.record import Count, Placement, Task, Work
from fahw.work.counts.site import Site
from fahw.work.graph import graph_of
from fahw.work.layer_gemms import psum_bits
from fahw.work.mesh import Part, core_prefix, parts_of
from fahw.work.phases.error import error_task
from fahw.work.phases.forward import forward_task, input_task, loss_task
from fahw.work.phases.gradient import gradient_task
from fahw.work.phases.update import update_task

NONE = "none"
"""Transport of a rule that moves nothing."""


def form_of(chip: Chip, rule: Rule, transport_form: str | None, network: Network | None = None) -> Form | None:
    """The form of transport for a rule: the chip's first where none is asked for, None where the rule moves nothing, as
    no layer of `network` sends an error down."""
    reads_weight = rule.reads_weight and (network is None or bool(roles_of(network, rule).sends))
    form = next((form for form in chip.transport if transport_form in (None, form)), None)
    if not chip.transport and reads_weight:
        message = f"{rule.name} uses the forward weights, and the chip has no form of transport (`transport: []`)"
        raise ConfigError(Problem(chip.name, message, "transport"))
    if not chip.transport and transport_form is None:
        return None
    if form is None and (reads_weight or transport_form != NONE):
        advice = suggestion(str(transport_form), chip.transport)
        message = (
            f"no transport '{transport_form}' on this chip{advice}; its forms: {', '.join(chip.transport) or NONE}"
        )
        raise ConfigError(Problem(chip.name, message, "transport"))
    return form if reads_weight else None


def training_step(
    chip: Chip, network: Network, rule: Rule, batch_size: int, form: Form | None, activity: Activity | None = None
) -> Work:
    """The work of one step. Raises ConfigError with advice where the chip cannot host the rule or the network.

    `activity`: measured shares of zeros and changes, by layer; the chip file's assumed ones where absent.
    """
    if batch_size < 1:
        raise ConfigError(Problem("batch_size", f"must be at least 1 (got {batch_size})"))
    if missing := [layer.name for layer in network.weighted if activity and layer.name not in activity.layers]:
        raise ConfigError(Problem("activity", f"measured on another network: nothing of {', '.join(missing)}"))
    check_learning(network, rule)
    parts = parts_of(chip, network, rule.path == "direct")
    contents = _CoreContents(chip, network, rule, batch_size, form, parts, activity)
    chip = contents.sized_chip
    sites, placements = {}, list[Placement]()
    for core, bits in contents.bits.items():
        core_placements = place_tensors(chip, bits, core_prefix(chip, core))
        placements += core_placements
        sites[core] = Site(
            chip, core, core_prefix(chip, core), Accesses(chip, core_placements, core_prefix(chip, core))
        )
    step = contents.context(chip, sites)
    stored = sum(bits["feedback"] for bits in contents.bits.values()) + contents.rom_bits
    tasks = tuple(_tasks(step))
    return Work(chip, tasks, tuple(placements), stored, _one_time(step), _padding_macs(step, tasks), _inference(step))


class _CoreContents:
    """Bits of every tensor on each core, the chip with memories sized for them, and the bits of its ROMs."""

    def __init__(
        self, chip: Chip, network: Network, rule: Rule, batch_size: int, form: Form | None,
        parts: dict[str, tuple[Part, ...]], activity: Activity | None,
    ) -> None:  # fmt: skip
        self._inputs = (network, rule, batch_size, form, parts, activity)
        all_parts = [part for shares in parts.values() for part in shares]
        cores = dict.fromkeys([*(part.core for part in all_parts), *(part.error_core for part in all_parts)])
        unplaced = self.context(
            chip, {core: Site(chip, core, core_prefix(chip, core), Accesses(chip, ())) for core in cores}
        )
        graph = graph_of(network, rule)
        psum = psum_bits(unplaced)
        self.bits: dict[int, dict[Tensor, int]] = {}
        for core in cores:
            bits = tensor_sizes.tensor_bits(chip, network, graph, rule, batch_size, all_parts, core)
            bits["psum"] = psum.get(core, 0)
            for tensor, amount in bits.items():
                if amount:
                    required_memory(chip, tensor, None, f"{rule.name} on {network.name}")
            self.bits[core] = bits
        largest = {
            tensor: max(bits[tensor] for bits in self.bits.values()) for tensor in next(iter(self.bits.values()))
        }
        self.sized_chip = with_sized_memories(chip, largest)
        self.rom_bits = self._rom_bits(chip, all_parts, cores)

    def context(self, chip: Chip, sites: dict[int, Site]) -> StepContext:
        """The context of the step's tasks on these cores."""
        network, rule, batch_size, form, parts, activity = self._inputs
        sizes = _micro_batches(batch_size, chip.micro_batch)
        return StepContext(chip, network, rule, sizes, form, parts, sites, graph_of(network, rule), activity)

    def _rom_bits(self, chip: Chip, all_parts: list[Part], cores: Iterable[int]) -> int:
        """Bits of fixed feedback weights in read-only memory. Raises ConfigError where they do not fit."""
        network, rule = self._inputs[:2]
        fixed_memory, graph, width = chip.fixed_home, graph_of(network, rule), chip.precision.bits("feedback")
        if fixed_memory is None or not fixed_memory.is_read_only:
            return 0
        total = 0
        for core in cores:
            sending = [part for part in all_parts if part.error_core == core]
            bits = sum(
                tensor_sizes.fixed_bits(network, rule, part.whole, width)
                * tensor_sizes.feedback_values(network, graph, rule, part)
                for part in sending
            )
            if fixed_memory.size_kib != "fit" and bits > fixed_memory.kib * 8192:
                sizes = f"feedback ({bits / 8192:.1f} KiB) does not fit {fixed_memory.name} ({fixed_memory.kib:g} KiB)"
                message = f"{sizes}, a {fixed_memory.kind}: enlarge it, or lower the feedback's bits"
                raise ConfigError(Problem(chip.name, message, "memories"))
            total += bits
        return total


def _micro_batches(batch_size: int, micro_batch: int | None) -> tuple[int, ...]:
    size = min(micro_batch or batch_size, batch_size)
    full, remainder = divmod(batch_size, size)
    return (size,) * full + ((remainder,) if remainder else ())


def _tasks(step: StepContext) -> Iterable[Task]:
    layers = step.network.weighted
    # Where errors do not wait for each other, the first layers go first: the next step's forward waits for them.
    order = layers if step.rule.path == "direct" else layers[::-1]
    ordered_parts = [part for layer in order for part in step.parts[layer.name]]
    for micro in range(len(step.micro_batch_sizes)):
        yield input_task(step, micro)
        for layer in layers:
            for part in step.parts[layer.name]:
                yield forward_task(step, part, micro)
        yield loss_task(step, micro)
        for part in ordered_parts:
            if step.sends_error(part):
                yield error_task(step, part, micro)
        for part in filter(step.learns, ordered_parts):
            yield gradient_task(step, part, micro)
    for part in filter(step.learns, ordered_parts):
        yield update_task(step, part)
    for part in filter(step.sends_error, (part for layer in reversed(layers) for part in step.parts[layer.name])):
        if not step.learns(part):
            continue
        if step.has_weight_copy:
            yield transport.transport_task(step, part)
        yield from learned_feedback.feedback_learning_tasks(step, part)


def _one_time(step: StepContext) -> tuple[Count, ...]:
    """Counts of writing the rule's own feedback weights once before training, where their memory is written."""
    rule, width = step.rule, step.bits("feedback")
    fixed = step.chip.fixed_home
    if fixed is None or not fixed.writable:
        return ()
    counts: list[Count] = []
    for part in (part for shares in step.parts.values() for part in shares):
        values = tensor_sizes.feedback_values(step.network, step.graph, step.rule, part)
        site = step.sites[part.error_core]
        bits = tensor_sizes.fixed_bits(step.network, rule, part.whole, width) + rule.learned_bits(width)
        if values and bits:
            counts += site.accesses.write(site.fixed_home("error"), "feedback", [(1, values)], bits).counts
    return _merged(counts)


def _padding_macs(step: StepContext, tasks: Iterable[Task]) -> int:
    """Multiply-accumulates with zeros of paddings, or whose results fall there; a direct rule's errors have none."""
    shares = {part.name: part.whole.padding_share for parts in step.parts.values() for part in parts}
    phases = {"forward", "gradient"} | ({"error"} if step.rule.path == "layerwise" else set())
    return round(sum(task.macs * shares.get(task.layer, 0.0) for task in tasks if task.phase in phases))


def _inference(step: StepContext) -> tuple[Count, ...]:
    """Counts of the samples of a step in inference, on the memories of training."""
    step = step.without_training()
    tasks = [input_task(step, micro) for micro in step.micro_batches]
    for part in (part for layer in step.network.weighted for part in step.parts[layer.name]):
        tasks += [forward_task(step, part, micro) for micro in step.micro_batches]
    return _merged(count for task in tasks for count in task.counts)


def _merged(counts: Iterable[Count]) -> tuple[Count, ...]:
    totals: dict[tuple[str, str, str, tuple[int, ...], float], int] = {}
    for count in counts:
        address = (count.component, count.action, count.tensor, count.widths, count.factor)
        totals[address] = totals.get(address, 0) + count.count
    return tuple(
        Count(component, action, tensor, number, widths, factor)
        for (component, action, tensor, widths, factor), number in totals.items()
    )
