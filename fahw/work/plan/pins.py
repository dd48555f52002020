"""What a chip file pins of a step, checked: mappings of products, forms of errors and shares of tensors."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

from fahw.errors import ConfigError, Problem, suggestion
from fahw.hardware.memory import Memory
from fahw.hardware.pinned_mapping import PINNED_LISTS, Pinned, PinnedMapping, PinnedOuter, PinnedTensor
from fahw.mapping.grid import DIMENSIONS
from fahw.mapping.mapper import OuterTiling, Tiling, mapped_as
from fahw.mapping.nest import IRRELEVANT, PARTS, Nest
from fahw.mapping.problem import Dataflow, TiledProduct
from fahw.mapping.sizes import sizes_of
from fahw.rules.catalogue import RULES
from fahw.work.context import StepContext
from fahw.work.counts.record import TaskId, task_text
from fahw.work.error_forms import ErrorFormName
from fahw.work.plan.fused.pinned import unknown_tensor, with_shared
from fahw.work.plan.keeping import Keeping
from fahw.work.plan.measured import Measured, ProductTask
from fahw.work.plan.step_plan import ProductKey
from fahw.work.plan.survey import SeenProduct, survey

_Entry = TypeVar("_Entry", bound=Pinned)
_NONE = "none"
"""Transport of a rule that moves nothing."""


def with_pins(keeping: Keeping) -> Keeping:
    """The same with what the chip file pins. Raises ConfigError with every entry that cannot be."""
    step = keeping.step
    mappings = list(_applying(step, step.chip.layer_mappings))
    tensors = list(_applying(step, step.chip.kept_tensors))
    shared = list(_applying(step, step.chip.shared_errors))
    problems = list(_unknown_rules(entry for name in PINNED_LISTS for entry in getattr(step.chip, name)))
    if not (mappings or tensors or shared or problems):
        return keeping
    keeping, unshared = with_shared(keeping, shared)
    given, given_outer, wrong = _given(keeping, tensors)
    given = dict(keeping.given) | given
    keeping = replace(keeping, given=given, given_outer=given_outer)
    found = _Resolved(list(survey(step, keeping.nothing_kept(0), keeping.tasks)))
    for entry in mappings:
        found.add(entry)
    problems += [*found.problems, *found.uncovered(), *wrong, *unshared]
    if problems:
        raise ConfigError(problems)
    tasks = tuple(_in_form(task, found.forms) for task in keeping.tasks)
    is_complete = found.is_complete and len(given) == len(keeping.tensors)
    return replace(keeping, tasks=tasks, tilings=found.tilings, is_complete=is_complete)


def pinned_waits(step: StepContext) -> bool | None:
    """Whether tasks wait until there is room, as the chip file pins it; None where it does not."""
    return next((entry.waits for entry in _applying(step, step.chip.waiting_tasks)), None)


def _applying(step: StepContext, entries: Iterable[_Entry]) -> Iterator[_Entry]:
    """The entries that are for the step's rule and transport."""
    for entry in entries:
        if entry.rule in (None, step.rule.name) and entry.transport in (None, step.form or _NONE):
            yield entry


def _unknown_rules(entries: Iterable[Pinned]) -> Iterator[Problem]:
    for entry in entries:
        if entry.rule is not None and entry.rule not in RULES:
            message = f"no rule '{entry.rule}'{suggestion(entry.rule, RULES)}; known: {', '.join(RULES)}"
            yield entry.problem(message, "rule")


def _in_form(task: ProductTask, forms: dict[str, ErrorFormName]) -> ProductTask:
    form = forms.get(task.part.name) if task.forms else None
    return task if form is None else replace(task, forms=(form,))


_Given = dict[int, tuple[float, ...]]


def _given(keeping: Keeping, entries: Iterable[PinnedTensor]) -> tuple[_Given, _Given, list[Problem]]:
    """The shares of pinned tensors by their number, in both homes, and what is wrong with entries."""
    numbers = {(tensor.core, tensor.name): number for number, tensor in enumerate(keeping.tensors)}
    given, given_outer, problems = _Given(), _Given(), list[Problem]()
    for entry in entries:
        number = numbers.get((entry.core, entry.name))
        if number is None:
            problems.append(unknown_tensor(keeping, entry))
        elif message := _wrong_shares(keeping, number, entry.shares):
            problems.append(entry.problem(message, "shares"))
        elif message := _wrong_outer_shares(keeping, number, entry):
            problems.append(entry.problem(message, "outer_shares"))
        else:
            given[number] = entry.shares
            if entry.outer_shares:
                given_outer[number] = entry.outer_shares
    return given, given_outer, problems


def _wrong_outer_shares(keeping: Keeping, number: int, entry: PinnedTensor) -> str:
    """What is wrong with the shares of a tensor in its home behind the innermost; empty where nothing is."""
    tensor, shares = keeping.tensors[number], entry.outer_shares
    if not shares:
        return ""
    if keeping.outer_home(tensor.tensor) is None:
        return f"{tensor.tensor} has one home alone: leave it out"
    if any(both > 1 for both in map(sum, zip(shares, entry.shares, strict=False))):
        return "with `shares` it is more than all"
    return _wrong_shares(keeping, number, shares) if len(shares) != len(tensor.reads) or tensor.persistent else ""


def _wrong_shares(keeping: Keeping, number: int, shares: Sequence[float]) -> str:
    """What is wrong with the shares of a tensor; empty where nothing is."""
    tensor = keeping.tensors[number]
    if len(shares) != len(tensor.reads):
        return f"needs a share for each of its {len(tensor.reads)} reads (got {len(shares)})"
    if tensor.persistent and len(set(shares)) > 1:
        return "needs the same share at every read: it lives through the whole step"
    if any(error.number == number and error.is_made for error in keeping.errors) and min(shares) < 1:
        return "must be 1: it is made and read tile by tile (shared_errors), and all of a tile is there"
    return ""


@dataclass
class _Resolved:
    """Entries, resolved to the products that they pin."""

    seen: list[SeenProduct]
    tilings: dict[ProductKey, Tiling] = field(default_factory=dict)
    forms: dict[str, ErrorFormName] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    _entries: dict[tuple[str, str], list[PinnedMapping]] = field(default_factory=dict)

    def add(self, entry: PinnedMapping) -> None:
        """Resolve an entry, or note what is wrong with it."""
        self._entries.setdefault((entry.layer, entry.phase), []).append(entry)
        if not self._is_known(entry) or not self._has_form(entry):
            return
        products = [product for product in self._of(entry) if product.number == entry.product]
        if not products:
            count = 1 + max(product.number for product in self._of(entry))
            products_text = f"{count} product{'s' if count > 1 else ''}, numbered from 0"
            message = f"{_named(entry)} has {products_text} (got {entry.product})"
            self.problems.append(entry.problem(message, "product"))
        elif fitting := [product for product in products if entry.sizes in (None, product.sizes)]:
            self._pin(entry, fitting)
        else:
            sizes = " or ".join(dict.fromkeys(_by(product.sizes) for product in products))
            message = f"the product is {sizes} (M x N x K), the mapping is of {_by(entry.sizes)}"
            self.problems.append(entry.problem(message, "sizes"))

    def _of(self, entry: PinnedMapping) -> list[SeenProduct]:
        """The products of the entry's layer and phase, of its form where there is a choice."""
        return [
            product
            for product in self.seen
            if (product.layer, product.phase) == (entry.layer, entry.phase)
            and (entry.form is None or product.form == entry.form)
        ]

    def _is_known(self, entry: PinnedMapping) -> bool:
        """Whether there is such a layer, and it has such a phase."""
        phases = dict.fromkeys(product.phase for product in self.seen if product.layer == entry.layer)
        if entry.phase in phases:
            return True
        layers = list(dict.fromkeys(product.layer for product in self.seen))
        if phases:
            message = f"{entry.layer} has no product in the phase {entry.phase}; it has: {', '.join(phases)}"
            self.problems.append(entry.problem(message, "phase"))
        else:
            message = f"no layer '{entry.layer}' with products{suggestion(entry.layer, layers)}"
            self.problems.append(entry.problem(f"{message}; known: {', '.join(layers)}", "layer"))
        return False

    def _has_form(self, entry: PinnedMapping) -> bool:
        """Whether the entry's form is one that the error can take, and the one of the entries before; noted if so."""
        of_phase = [item for item in self.seen if (item.layer, item.phase) == (entry.layer, entry.phase)]
        forms = list(dict.fromkeys(product.form for product in of_phase if product.form))
        message = ""
        if entry.form is None and len(forms) > 1:
            message = f"the error of {entry.layer} needs a form, as its products are others: {' or '.join(forms)}"
        elif entry.form is not None and entry.form not in forms:
            allowed = f"it is {forms[0]} (error_form)" if forms else "there is one form alone"
            message = f"{_named(entry)} has no form {entry.form}: {allowed}"
        elif entry.form is not None and self.forms.setdefault(entry.layer, entry.form) != entry.form:
            message = f"the error of {entry.layer} is pinned as {self.forms[entry.layer]} before (got {entry.form})"
        if message:
            self.problems.append(entry.problem(message, "form"))
        return not message

    def _pin(self, entry: PinnedMapping, products: Sequence[SeenProduct]) -> None:
        """Pin the products, of which those of a last micro-batch may be smaller than the first."""
        wrong = dict[Problem, None]()
        for number, seen in enumerate(products):
            if seen.product is None:
                message = f"the array of {_named(entry)} fixes what moves in its dataflow: there is nothing to pin"
                wrong[entry.problem(message)] = None
                continue
            tiling = _tiling(entry, seen.sizes if number else None)
            wrong |= dict.fromkeys(_misfits(entry, seen.product, tiling))
            self.tilings[seen.key] = tiling
        self.problems += wrong

    @property
    def is_complete(self) -> bool:
        """Whether all products of the forms that are pinned have their tilings."""
        left = (item for item in self.seen if item.form in (None, self.forms.get(item.layer, item.form)))
        return all(item.product is None or item.key in self.tilings for item in left)

    def uncovered(self) -> Iterator[Problem]:
        """A problem for every error whose form is pinned, and not all of its products."""
        for layer, form in self.forms.items():
            entries = self._entries[layer, "error"]
            numbers = {product.number for product in self._of(entries[0]) if product.form == form}
            missing = sorted(numbers - {entry.product for entry in entries})
            if missing:
                some = f"{', '.join(map(str, missing))} {'is' if len(missing) == 1 else 'are'} missing"
                count = f"{len(numbers)} product{'s' if len(numbers) > 1 else ''}"
                message = f"the error of {layer} as {form} has {count}, and all are to be pinned: {some}"
                yield entries[0].problem(message, "form")


def _named(entry: PinnedMapping) -> str:
    return f"{entry.phase} of {entry.layer}"


def _by(sizes: tuple[int, int, int] | None) -> str:
    return " x ".join(f"{size:,}" for size in sizes or ())


def _tiling(entry: PinnedMapping, within: tuple[int, int, int] | None) -> Tiling:
    """The mapping that an entry describes, its tile no larger than a product `within` which it is to lie."""
    m, n, k = entry.tile if within is None else map(min, entry.tile, within)
    return Tiling(entry.dataflow, (m, n, k), _nest(entry, entry.blocks), _outer_tiling(entry, within))


def _nest(entry: PinnedMapping | PinnedOuter, blocks: bool = False) -> Nest:
    return Nest(tuple(entry.order), tuple(part in entry.hold for part in PARTS), blocks)  # type: ignore[arg-type]


def _outer_tiling(entry: PinnedMapping, within: tuple[int, int, int] | None) -> OuterTiling | None:
    if entry.outer is None:
        return None
    m, n, k = entry.outer.tile if within is None else map(min, entry.outer.tile, within)
    return OuterTiling((m, n, k), _nest(entry.outer))


def _misfits(entry: PinnedMapping, product: TiledProduct, tiling: Tiling) -> Iterator[Problem]:
    """What keeps a product from being mapped so, each at its key."""
    flows = {flow.name: flow for flow in product.array.dataflows}
    if entry.dataflow not in flows:
        message = f"{_named(entry)} runs in {' or '.join(flows)} on its array (got {entry.dataflow})"
        yield entry.problem(message, "dataflow")
        return
    wrong = [*_wrong_nest(entry, product, flows[entry.dataflow]), *_wrong_tile(entry, product, tiling)]
    yield from wrong
    try:
        if not wrong:
            mapped_as(product, tiling)
    except ConfigError as error:
        for problem in error.problems:
            yield entry.problem(f"{_named(entry)}: {problem.message}", problem.place)


def _wrong_nest(entry: PinnedMapping, product: TiledProduct, flow: Dataflow) -> Iterator[Problem]:
    """Holds and blocks that have no use."""
    if entry.blocks and (flow.stays is None or not product.array.accumulators):
        message = "blocks are for `ws` and `is` on an array with accumulators: leave them out"
        yield entry.problem(f"{_named(entry)}: {message}", "blocks")
    yield from _needless_holds(entry, entry, "hold")
    if entry.outer is not None and product.outer is None:
        message = "nothing comes through a memory behind the local ones: leave it out"
        yield entry.problem(f"{_named(entry)}: {message}", "outer")
    elif entry.outer is not None:
        yield from _needless_holds(entry, entry.outer, "outer.hold")


def _needless_holds(entry: PinnedMapping, loops: PinnedMapping | PinnedOuter, key: str) -> Iterator[Problem]:
    innermost = loops.order[-1]
    for index, part in enumerate(loops.hold):
        if IRRELEVANT[PARTS.index(part)] == innermost:
            message = f"{part} needs no hold where {innermost} is the innermost loop: leave it out"
            yield entry.problem(f"{_named(entry)}: {message}", f"{key}.{index}")


def _wrong_tile(entry: PinnedMapping, product: TiledProduct, tiling: Tiling) -> Iterator[Problem]:
    """Sizes along M, N and K that tiles cannot have."""
    flow = next(flow for flow in product.array.dataflows if flow.name == entry.dataflow)
    for index, (dimension, size) in enumerate(zip(DIMENSIONS, tiling.tile, strict=True)):
        try:
            sizes_of(product, flow, dimension, size)
        except ConfigError as error:
            for problem in error.problems:
                message = f"{_named(entry)}: a tile's {dimension.upper()} {problem.message}"
                yield entry.problem(message, f"tile.{index}")


def check_room(keeping: Keeping, found: Measured, shares: Sequence[float] | None = None) -> None:
    """Raise ConfigError where tiles and what these shares keep (or what is pinned) do not fit a memory at some moment,
    with the entry to blame."""
    problems = []
    for memory, task, tiles, live in keeping.overfull(found, shares):
        text = f"{memory.name} has {memory.kib * 8192:,.0f} bits; tiles take {tiles:,.0f} of it during"
        message = f"{text} {task_text(task)}, and {'pinned' if shares is None else 'kept'} tensors {live:,.0f}"
        blamed = _blamed(keeping, memory, task, live > tiles)
        problems.append(blamed.problem(message) if blamed else Problem(keeping.step.chip.name, message, "memories"))
    if problems:
        raise ConfigError(problems)


def _blamed(keeping: Keeping, memory: Memory, task: TaskId, of_tensors: bool) -> Pinned | None:
    """The entry of the tensor that takes most of a memory, or of the task's mapping; None where nothing is pinned."""
    chip = keeping.step.chip
    mappings = list(_applying(keeping.step, chip.layer_mappings))
    tensors, shared = list(_applying(keeping.step, chip.kept_tensors)), _applying(keeping.step, chip.shared_errors)
    entries = {(entry.core, entry.name): entry for entry in tensors}
    here = [
        (tensor.bits * keeping.given[number][0], entries[tensor.core, tensor.name])
        for number, tensor in enumerate(keeping.tensors)
        if (tensor.core, tensor.name) in entries and chip.home(tensor.tensor) == memory
    ]
    if here and of_tensors:
        return max(here, key=lambda pair: pair[0])[1]
    own = (item for item in mappings if (item.phase, item.layer) == task[:2])
    return next(iter([*own, *mappings, *tensors, *shared]), None)
