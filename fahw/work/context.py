"""What the tasks of a training step are made from: the chip, the network, the rule, and where everything lies."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from math import ceil

from fahw.activity import Activity
from fahw.errors import ConfigError, Problem
from fahw.formats.precision import TENSORS
from fahw.hardware.array import Array, Skipping
from fahw.hardware.chip import Chip
from fahw.hardware.energy_table import UPDATE
from fahw.hardware.memory import Overheads
from fahw.hardware.part import Form, Phase, Tensor
from fahw.layers.layer import Layer
from fahw.layers.weighted import Weighted
from fahw.network.error_path import NO_ROLES
from fahw.network.graph import Network
from fahw.rules.rule import Rule
from fahw.work import tensor_sizes
from fahw.work.counts.optimizer import OptimizerCosts, optimizer_costs
from fahw.work.counts.packing import Packing
from fahw.work.counts.record import TaskId, local_name, task_id
from fahw.work.counts.site import Site
from fahw.work.graph import Graph
from fahw.work.mesh import Part
from fahw.work.plan.step_plan import StepPlan
from fahw.work.segments import Segments, segments_of

_ASSUMED = {
    "zero_activations": "zero_activation",
    "zero_errors": "zero_error",
    "changed_words": "changed_weight",
    "sign_flips": "sign_flip",
}
"""Names of the chip file's assumed shares, which hold for every layer."""
_OF_ALL_TASKS = ("_widths", "element_bits", "_skipping_arrays", "feedback_width", "trains", "segments")
"""What is computed of a step at the latest when it gets a plan, so that it is not for every task."""


@dataclass(frozen=True)
class StepContext:
    """Inputs of the tasks of a step. `form` is the form of transport, None where nothing is transported;
    `micro_batch_sizes` are in samples; `parts` and `sites` are by layer and by core; `activity` is what training
    measured, None where the chip file's assumptions hold."""

    chip: Chip
    network: Network
    rule: Rule
    micro_batch_sizes: tuple[int, ...]
    form: Form | None
    parts: dict[str, tuple[Part, ...]]
    sites: dict[int, Site]
    graph: Graph
    activity: Activity | None = None
    plan: StepPlan | None = None
    """What a search decided (`mapping: best`); None where all counts follow from the chip file (`fixed`)."""
    task: TaskId | None = None
    """The task that is being counted, where there is a plan."""

    def during(self, task: TaskId) -> StepContext:
        """The same step as a task finds it: under a plan, with its shares of tensors on the chip."""
        plan = self.plan
        if plan is None:
            return self
        return self._with(sites={core: plan.site(site, task) for core, site in self.sites.items()}, task=task)

    def under(self, plan: StepPlan) -> StepContext:
        """The same step under a plan."""
        for name in _OF_ALL_TASKS:
            getattr(self, name)
        return self._with(plan=plan)

    def _with(self, **changed: object) -> StepContext:
        """The same step with other sites, plan or task. What was computed of it holds all the same, and is kept."""
        other = object.__new__(StepContext)
        other.__dict__.update(self.__dict__, **changed)
        return other

    def sub_batches(self, samples: int) -> tuple[int, int]:
        """Samples of a product of the task that is being counted, and how many products make up `samples`: several
        where the task shares the tiles of an error with another one."""
        size = self.plan.fused.get(self.task) if self.plan is not None and self.task is not None else None
        return (size, samples // size) if size else (samples, 1)

    def bits(self, tensor: str) -> int:
        """Width of one value of `tensor`, in bits."""
        return self._widths[tensor]

    @cached_property
    def _widths(self) -> dict[str, int]:
        return {tensor: self.chip.precision.bits(tensor) for tensor in TENSORS}

    @cached_property
    def element_bits(self) -> tuple[int, int, int]:
        """Widths that a processing element is built for."""
        return self.chip.element_bits

    @cached_property
    def _skipping_arrays(self) -> dict[Tensor, Array | None]:
        tensors: tuple[Tensor, ...] = ("activation", "error")
        return {tensor: self.chip.skipping_array(tensor) for tensor in tensors}

    @cached_property
    def optimizer_costs(self) -> OptimizerCosts:
        """The optimizer of the update and the work that it takes per weight."""
        return optimizer_costs(self.chip, self.network, self.rule)

    @cached_property
    def passes_shortcut_errors(self) -> bool:
        """Whether a direct rule also passes on the errors that come back through shortcuts of a residual network."""
        return self.rule.path == "direct" and self.network.dfa_residual == "biotorch"

    @property
    def transposable(self) -> bool:
        """Whether the weight memory is built to be read by rows and by columns."""
        return self.form == "transposable"

    @cached_property
    def transposed(self) -> Overheads:
        """What W's memory takes more because it is built to be read by rows and by columns; nothing where it is not."""
        memory = self.chip.home("weight")
        if memory is None or not self.transposable:
            return Overheads(0.0, 0.0, 0.0, 0.0)
        return self.chip.transposed_access.of(memory, self.chip.technology)

    @cached_property
    def has_weight_copy(self) -> bool:
        """Whether a second memory holds a copy (or the signs) of W that transport must refresh."""
        return self.rule.reads_weight and not self.chip.error_reaches_weights

    @cached_property
    def feedback_width(self) -> int:
        """Bits of a feedback weight at the multiplier, or of its copy in memory, before the rule leaves some out."""
        return tensor_sizes.feedback_width(self.chip, self.rule)

    @cached_property
    def recomputes_gradient(self) -> bool:
        """Whether the error path computes W's gradient again to give the feedback weights the same steps."""
        return tensor_sizes.recomputes_gradient(self.chip, self.rule)

    @cached_property
    def reaches_params(self) -> bool:
        """Whether the array of the error path is wired to the memory of the parameters."""
        return tensor_sizes.reaches_params(self.chip)

    @cached_property
    def updates_feedback(self) -> bool:
        """Whether the task that updates W gives the feedback weights the same step."""
        return self.rule.learned == "gradient" and not self.recomputes_gradient

    @cached_property
    def runs_transport_phase(self) -> bool:
        """Whether tasks of the phase `transport` bring the feedback weights up to date, by moving or by learning."""
        return self.has_weight_copy or (self.rule.learned is not None and not self.updates_feedback)

    @property
    def output_part(self) -> Part:
        """The part on whose core the loss is computed."""
        return self.parts[self.network.weighted[-1].name][0]

    @property
    def whole_layers(self) -> dict[str, Weighted]:
        """The weighted layers by the names of their parts."""
        return {part.name: part.whole for shares in self.parts.values() for part in shares}

    @cached_property
    def segments(self) -> Segments:
        """What is computed again on the way back; nothing in inference."""
        return segments_of(self.network, self.rule, self.chip.recompute if self.trains else 1)

    @property
    def micro_batches(self) -> range:
        """The numbers of the micro-batches, from 0."""
        return range(len(self.micro_batch_sizes))

    @cached_property
    def trains(self) -> bool:
        """Whether any layer learns; else the step is one of inference: no labels, nothing kept, nothing dropped."""
        return bool(self.graph.roles.learns)

    def without_training(self) -> StepContext:
        """The same step where nothing learns."""
        return replace(self, graph=replace(self.graph, roles=NO_ROLES))

    def update_is_given(self, array: Array) -> bool:
        """Whether the chip file gives the energy of a whole update on the lanes of `array`."""
        key = f"{local_name(array.name)}.vector", UPDATE
        return any((energy.component, energy.action) == key for energy in self.chip.energies)

    def sends_error(self, part: Part) -> bool:
        """Whether an error goes on from the layer: another one that needs it lies below."""
        return part.whole.name in self.graph.roles.sends

    def receives_error(self, part: Part) -> bool:
        """Whether the error at the layer's output is needed."""
        return part.whole.name in self.graph.roles.receives

    def learns(self, part: Part) -> bool:
        """Whether the layer has a gradient and an update."""
        return part.whole.name in self.graph.roles.learns

    def task_ids(self, phase: str, layers: Iterable[str], micro: int) -> list[TaskId]:
        """The ids of the tasks that run `phase` for all parts of `layers` in one micro-batch."""
        return [task_id(phase, part.name, micro) for name in layers for part in self.parts[name]]

    def site(self, part: Part, phase: Phase) -> Site:
        """The core that runs `phase` of a part."""
        return self.sites[part.error_core if phase == "error" else part.core]

    def reader_cores(self, names: Iterable[str], phases: Iterable[Phase]) -> list[int]:
        """The cores that run any of `phases` of the layers `names`, each once; parts without an error or a gradient run
        none of that phase."""
        phases = tuple(phases)
        cores = (core for name in names for part in self.parts[name] for core in self.part_cores(part, phases))
        return list(dict.fromkeys(cores))

    def part_cores(self, part: Part, phases: Iterable[Phase]) -> list[int]:
        """The cores that run any of `phases` of a part, each once; none where it has none of them."""
        cores: dict[int, None] = {}  # in the order of the phases
        for phase in phases:
            if phase == "error":
                cores |= {part.error_core: None} if self.sends_error(part) else {}
            elif phase != "gradient" or self.learns(part):
                cores[part.core] = None
        return list(cores)

    def activity_share(self, kind: str, layer: Layer, user: str) -> float:
        """The share of a layer's values as measured (`fahw.activity` has the kinds), else as the chip file assumes and
        the rule adds by pruning.

        Raises ConfigError where neither is known; `user` says what needs it.
        """
        if self.activity is not None:
            return float(getattr(self.activity.layers[layer.name], kind))
        if self.chip.activity is None:
            message = f"{user}, but the share of {kind.replace('_', ' ')} is not known: give the chip an `activity`"
            raise ConfigError(Problem(self.chip.name, f"{message}, or measure it by training", "activity"))
        assumed = float(getattr(self.chip.activity, _ASSUMED[kind]))
        hidden = layer.name != self.network.weighted[-1].name
        pruned = self.rule.pruned_zeros if kind == "zero_errors" and hidden else 0.0
        return 1 - (1 - assumed) * (1 - pruned)

    def packing(self, tensor: Tensor, layer: Layer | None) -> Packing | None:
        """How the activations that `layer` reads, or the errors at its output, lie in memory without their zeros; None
        where no array skips these, or there is no such layer."""
        array = self._skipping_arrays.get(tensor)
        if array is None or layer is None:
            return None
        zeros = self.activity_share(f"zero_{tensor}s", layer, f"{array.name} skips zeros")
        return Packing(array.zero_skipping.form, array.zero_skipping.index_bits, zeros)

    def packed_bits(self, tensor: Tensor, layer: Layer | None, values: int, bits: int) -> int:
        """Bits in memory of `values` that `layer` reads, or of errors at its output."""
        packing = self.packing(tensor, layer)
        return values * bits if packing is None else ceil(packing.stored_bits(values, bits))

    def first_reader(self, item: Layer | None) -> Layer | None:
        """The first layer with weights that reads a layer's output (None: the sample); None where none does."""
        return next((user for user in self.network.users_of(item) if user.weighted), None)

    def operand_zeros(self, array: Array, tensor: Tensor, layer: Layer) -> tuple[float, Skipping]:
        """The share of zeros in an operand of a layer, 0 to 1, and what the array does with them."""
        skipping: Skipping = getattr(array.zero_skipping, tensor, "none")
        if skipping == "none":
            return 0.0, skipping
        return self.activity_share(f"zero_{tensor}s", layer, f"{array.name} skips zeros"), skipping
