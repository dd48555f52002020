"""Decisions of a search that a chip file pins: the mapping of a product, and what of a tensor stays on the chip.

They stand in the chip file, or in a file of their own (`pinned_mappings`), which `fahw simulate --save-mapping` writes.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Protocol, TypeAlias

from pydantic import Field, PrivateAttr

from fahw.config import yamltext
from fahw.config.partial import until_unknown
from fahw.config.schema import MOST_NAME_CHARACTERS, Frozen
from fahw.config.validate import Place, validate
from fahw.config.yamltext import Key, dotted
from fahw.errors import Problem, check_path
from fahw.hardware.arrays.catalogue import FOLDED
from fahw.hardware.part import CoreIndex, Fraction

if TYPE_CHECKING:
    MappedDataflow: TypeAlias = str
else:
    MappedDataflow = Literal[FOLDED]
_Size = Annotated[int, Field(ge=1, le=1 << 53)]
_Text = Annotated[str, Field(min_length=1, max_length=2 * MOST_NAME_CHARACTERS)]
Order = Literal["mnk", "mkn", "nmk", "nkm", "kmn", "knm"]
_MOST_PRODUCTS = 9999
PINNED_LISTS = ("layer_mappings", "kept_tensors", "shared_errors", "waiting_tasks")
"""The lists of pinned decisions, by their keys."""


class Pinned(Frozen):
    """What all pinned decisions share: where they hold, and where they were written."""

    rule: _Text | None = None
    """The rule that the entry is for; every rule where absent."""
    transport: Literal["copy", "write_through", "transposable", "accumulate", "column", "none"] | None = None
    """The form of weight transport that the entry is for; every form where absent."""
    _places: dict[str, str] = PrivateAttr(default_factory=dict)

    def placed(self, document: yamltext.Document, key: Key) -> None:
        """Note where the entry and its keys stand: it is at `key` of the document."""
        for name in self.model_fields_set:
            value = getattr(self, name)
            self._places[name] = document.place((*key, name))
            for within in _within(value):
                self._places[dotted((name, *within))] = document.place((*key, name, *within))
        self._places[""] = document.place(key)
        self._places["key"] = dotted(key)

    def problem(self, message: str, name: str = "") -> Problem:
        """The mistake at one of the entry's keys, or of the entry."""
        key = self._places.get("key", "")
        place = self._places.get(name) or self._places.get("") or "pinned mapping"
        return Problem(place, message, f"{key}.{name}" if key and name else key or name)


class PinnedOuter(Frozen):
    """The tile of one product in the memories behind the local ones, and the loops over these."""

    tile: tuple[_Size, _Size, _Size]
    """Tile sizes along M, N and K, each filled by whole tiles."""
    order: Order
    """The loops over tiles, outermost first."""
    hold: tuple[Literal["left", "right", "results"], ...] = ()
    """Of what all tiles over which the inner loops run stay there, in place of the tile in use alone."""


class PinnedMapping(Pinned):
    """The mapping of one product: its tile, the loops over tiles, and the dataflow."""

    layer: _Text
    """Name of the layer, with the number of its share where a mesh splits it: as the ledger has it."""
    phase: Literal["forward", "recompute", "error", "gradient", "transport"]
    product: Annotated[int, Field(ge=0, le=_MOST_PRODUCTS)] = 0
    """Number of the product among those of the layer and phase."""
    sizes: tuple[_Size, _Size, _Size] | None = None
    """M, N and K of the product that the entry is for. Where absent: of every product of this number, of which those
    that are smaller (of a last micro-batch) are cut into tiles no larger than they are."""
    form: Literal["gather", "scatter"] | None = None
    """Form of the error of a convolution whose windows overlap. All its products are pinned then."""
    dataflow: MappedDataflow
    tile: tuple[_Size, _Size, _Size]
    """Tile sizes along M, N and K."""
    order: Order
    """The loops over tiles, outermost first."""
    hold: tuple[Literal["left", "right", "results"], ...] = ()
    """Of what all tiles over which the inner loops run stay in memory, in place of the tile in use alone."""
    outer: PinnedOuter | None = None
    """Where operands or sums have a second home, the tiles there that these tiles are parts of; without it what comes
    from DRAM passes by."""
    blocks: bool = False
    """Whether what streams is cut into blocks whose sums the accumulators at the array's edge keep."""


class PinnedTensor(Pinned):
    """Which share of a tensor stays in its memory, and in the one behind it."""

    name: _Text
    """Name of the tensor, as `fahw simulate --json` lists it."""
    core: CoreIndex = 0
    shares: tuple[Fraction, ...] = Field(min_length=1)
    """The share that is there at each of its reads, which does not rise; one share where nothing reads it."""
    outer_shares: tuple[Fraction, ...] = ()
    """Likewise in its home behind that memory; none where absent."""


class PinnedSharing(Pinned):
    """An error at a layer's output of which the error task and the gradient task share the tiles."""

    name: _Text
    """Name of the tensor, as `fahw simulate --json` lists it."""
    core: CoreIndex = 0
    samples: _Size
    """Samples of a sub-batch, which a tile is of: fewer than those of a micro-batch, which they divide."""


class PinnedWaiting(Pinned):
    """Whether tasks wait until there is room, so that tensors live shorter."""

    waits: bool


def _within(value: object) -> Iterator[Key]:
    """The keys of what is in a value: places of a list, and keys of a part with theirs."""
    for index in range(len(value) if isinstance(value, tuple) else 0):
        yield (index,)
    for name in value.model_fields_set if isinstance(value, PinnedOuter) else ():
        yield (name,)
        yield from ((name, *within) for within in _within(getattr(value, name)))


class PinnedFile(Frozen):
    """A file of pinned decisions."""

    layer_mappings: tuple[PinnedMapping, ...] = ()
    kept_tensors: tuple[PinnedTensor, ...] = ()
    shared_errors: tuple[PinnedSharing, ...] = ()
    waiting_tasks: tuple[PinnedWaiting, ...] = ()


def read_pinned(folder: Path, name: str) -> PinnedFile:
    """The decisions of a file that a chip names, relative to a folder. Raises ConfigError with every mistake as
    file:line:col."""
    check_path("pinned_mappings", name, "the path of a file")
    document = yamltext.read(folder / name)
    pinned = validate(document, PinnedFile, check=_stands_once)
    note_places(document, pinned)
    return pinned


def note_places(document: yamltext.Document, pinned: PinnedParts) -> None:
    """Note where every entry stands in the document that it comes from."""
    for name in PINNED_LISTS:
        entries: tuple[Pinned, ...] = getattr(pinned, name)
        for index, entry in enumerate(entries):
            entry.placed(document, (name, index))


def _stands_once(pinned: PinnedFile, place: Place) -> Iterator[Problem]:
    for key, message in pinned_twice(pinned):
        yield Problem(place(key), message, dotted(key))


class PinnedParts(Protocol):
    """What has lists of pinned decisions: a chip, or a file of its own."""

    @property
    def layer_mappings(self) -> tuple[PinnedMapping, ...]:
        """Mappings of products."""

    @property
    def kept_tensors(self) -> tuple[PinnedTensor, ...]:
        """Shares of tensors."""

    @property
    def shared_errors(self) -> tuple[PinnedSharing, ...]:
        """Errors in tiles that two tasks share."""

    @property
    def waiting_tasks(self) -> tuple[PinnedWaiting, ...]:
        """Whether tasks wait."""


def pinned_twice(pinned: PinnedParts) -> Iterator[tuple[Key, str]]:
    """A message for every entry that pins what an earlier one pins, for parts that are held twice, and for shares that
    rise."""
    yield from until_unknown(_mappings_twice(pinned))
    yield from until_unknown(_tensors_twice(pinned))
    yield from until_unknown(_sharing_twice(pinned))
    yield from until_unknown(_waiting_twice(pinned))


def _mappings_twice(pinned: PinnedParts) -> Iterator[tuple[Key, str]]:
    first: dict[Any, int] = {}
    for index, entry in enumerate(pinned.layer_mappings):
        key = entry.layer, entry.phase, entry.product, entry.sizes, entry.rule, entry.transport
        if first.setdefault(key, index) != index:
            what = f"{entry.phase} of {entry.layer}, product {entry.product}"
            yield ("layer_mappings", index), f"{what}, is pinned twice (first: layer_mappings.{first[key]})"
        for where, held in ((("hold",), entry.hold), (("outer", "hold"), entry.outer.hold if entry.outer else ())):
            if len(set(held)) < len(held):
                yield ("layer_mappings", index, *where), f"a part stands twice (got {', '.join(held)})"


def _tensors_twice(pinned: PinnedParts) -> Iterator[tuple[Key, str]]:
    first: dict[Any, int] = {}
    for index, entry in enumerate(pinned.kept_tensors):
        key = entry.name, entry.core, entry.rule, entry.transport
        if first.setdefault(key, index) != index:
            yield ("kept_tensors", index), f"'{entry.name}' is pinned twice (first: kept_tensors.{first[key]})"
        for name in ("shares", "outer_shares"):
            shares = getattr(entry, name)
            if any(later > earlier for earlier, later in pairwise(shares)):
                message = f"what is there does not become more from read to read (got {', '.join(map(str, shares))})"
                yield ("kept_tensors", index, name), message


def _sharing_twice(pinned: PinnedParts) -> Iterator[tuple[Key, str]]:
    first: dict[Any, int] = {}
    for index, entry in enumerate(pinned.shared_errors):
        key = entry.name, entry.core, entry.rule, entry.transport
        if first.setdefault(key, index) != index:
            yield ("shared_errors", index), f"'{entry.name}' is pinned twice (first: shared_errors.{first[key]})"


def _waiting_twice(pinned: PinnedParts) -> Iterator[tuple[Key, str]]:
    first: dict[Any, int] = {}
    for index, entry in enumerate(pinned.waiting_tasks):
        if first.setdefault((entry.rule, entry.transport), index) != index:
            yield (
                ("waiting_tasks", index),
                f"is pinned twice (first: waiting_tasks.{first[entry.rule, entry.transport]})",
            )
