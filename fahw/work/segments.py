"""Which layers are computed again on the way back, because the chip does not keep what they leave (`recompute`).

The weighted layers are cut into segments. A cut lies behind a layer that all later layers build on alone, so that one
tensor passes; what a layer at a cut leaves is kept. Inside a segment it is dropped, and computed again, from what lies
at the cut below, when the way back comes to the segment. What is read beyond its segment (a norm's input behind a
branch that a later layer joins) is kept too.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, cached_property

from fahw.layers.layer import INPUT, Layer, Shape
from fahw.network.graph import Network
from fahw.rules.rule import Rule
from fahw.work.graph import Graph, graph_of


@dataclass(frozen=True)
class Segment:
    """Weighted layers whose ways back run together. `layers`: their names, first to last. `again`: those that are
    computed again before."""

    layers: tuple[str, ...]
    again: tuple[str, ...]


@dataclass(frozen=True)
class Segments:
    """The segments of a network, first to last, of `every` layers each or some more, as cuts are."""

    network: Network
    graph: Graph
    every: int

    @cached_property
    def again(self) -> frozenset[str]:
        """The layers that are computed again."""
        return frozenset(name for segment in self.all for name in segment.again)

    @cached_property
    def all(self) -> tuple[Segment, ...]:
        """The segments, first to last."""
        found, start = [], 0
        for end in self._ends():
            layers = self._names[start : end + 1]
            found.append(Segment(layers, self._again(layers)))
            start = end + 1
        return tuple(found)

    def read_by_forward(self, name: str) -> list[str]:
        """The layers computed again whose outputs the task of a weighted layer, computed again, reads."""
        return [other for other in self._names if other in self.again and name in self._forward_readers[other]]

    def read_by_gradient(self, layer: Layer) -> list[str]:
        """The layers computed again whose outputs the gradient of a weighted layer reads."""
        owners = dict.fromkeys(self.graph.owners[source] for source in layer.sources)
        return [name for name in owners if name in self.again]

    def read_by_error(self, layer: Layer) -> list[str]:
        """The layers computed again of which the error task of a weighted layer reads values or masks."""
        owners = (name for owner in self.graph.completed_errors[layer.name] for name in self._derived(owner.name))
        return [name for name in dict.fromkeys(owners) if name in self.again]

    def is_read_again(self, item: Layer) -> bool:
        """Whether the way back reads the output of a layer, or one that is computed again does."""
        own = self.graph.owners[item.name]
        owners = (self.graph.owners[user.name] for user in self.network.users_of(item))
        return item.name in self.graph.read_again or any(name in self.again and name != own for name in owners)

    @cached_property
    def _names(self) -> tuple[str, ...]:
        return tuple(layer.name for layer in self.network.weighted)

    @cached_property
    def _order(self) -> dict[str, int]:
        return {name: position for position, name in enumerate(self._names)}

    @cached_property
    def _forward_readers(self) -> dict[str, set[str]]:
        """By weighted layer, those whose tasks read its outputs on the way forward."""
        readers: dict[str, set[str]] = {name: set() for name in (INPUT, *self._names)}
        for layer in self.network.weighted:
            for item in (layer, *self.graph.tails[layer.name]):
                for source in item.sources:
                    readers[self.graph.owners[source]].add(layer.name)
        return {name: others - {name} for name, others in readers.items()}

    def _ends(self) -> Iterator[int]:
        """Yield the positions of the last layers of segments: cuts at least `every` layers apart, and the end."""
        last_read, start, last = -1, -1, len(self._names) - 1
        for position, name in enumerate(self._names[:-1]):
            if last_read <= position and position - start >= self.every:
                start = position
                yield position
            readers = self._forward_readers[name]
            last_read = max(last_read, *(self._order[other] for other in readers)) if readers else last_read
        yield last

    def _derived(self, owner: str) -> Iterator[str]:
        """Yield the layers of which the derivatives of an owner's tail read something."""
        for item in self.graph.tails[owner]:
            if item.mask_bits or item.saved_outputs:
                yield owner
            for source, size in zip(item.sources, item.saved_inputs, strict=True):
                if size:
                    yield self.graph.owners[source]

    @cached_property
    def _back_readers(self) -> dict[str, set[int]]:
        """By weighted layer, the positions of those whose gradients or errors read what it leaves."""
        readers: dict[str, set[int]] = {name: set() for name in (INPUT, *self._names)}
        for layer in self.network.weighted:
            if layer.name in self.graph.roles.learns:
                for source in layer.sources:
                    readers[self.graph.owners[source]].add(self._order[layer.name])
            for owner in self.graph.completed_errors[layer.name]:
                for name in self._derived(owner.name):
                    readers[name].add(self._order[layer.name])
        return readers

    def _again(self, layers: tuple[str, ...]) -> tuple[str, ...]:
        """Of the layers of a segment, those that are computed again."""
        inside = layers[:-1] if self.every > 1 else ()
        dropped = [name for name in inside if self._is_inside(name, self._order[layers[-1]])]
        again = list[str]()
        for name in reversed(dropped):
            if self._back_readers[name] or self._forward_readers[name].intersection(again):
                again.append(name)
        return tuple(reversed(again))

    def _is_inside(self, name: str, end: int) -> bool:
        """Whether nothing that the way back reads of a layer is read beyond its segment's end."""
        return max(self._back_readers[name], default=end) <= end


def segments_of(network: Network, rule: Rule, every: int) -> Segments:
    """The segments of a network under a rule; cached."""
    return _segments(network.input_shape, network.layers, rule, every)


@cache
def _segments(input_shape: Shape, layers: tuple[Layer, ...], rule: Rule, every: int) -> Segments:
    network = Network("", input_shape, layers)
    return Segments(network, graph_of(network, rule), every)
