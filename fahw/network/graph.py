"""Networks as geometry: layers, which of them read which, and their totals."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property

from fahw.formats.precision import Precision
from fahw.layers.layer import INPUT, Layer, Shape
from fahw.layers.weighted import Weighted
from fahw.network.model_file import DirectFeedback, DirectResidual
from fahw.network.recipe import Recipe


@dataclass(frozen=True)
class Network:
    """Layers in an order in which each reads only those before it (or `input`), every one but the last read by another.

    `input_shape` is one sample's; the last layer is linear and yields one logit per class. Layers without `sources`
    read the one before. `recipe` and `precision` are what the model file recommends for training; geometry does not
    depend on them. `dfa_feedback` and `dfa_residual` say how direct rules send the error into this network (see
    `network.model_file.Model`).
    """

    name: str
    input_shape: Shape
    layers: tuple[Layer, ...]
    recipe: Recipe = field(default_factory=Recipe)
    precision: Precision | None = None
    dfa_feedback: DirectFeedback = "dense"
    dfa_residual: DirectResidual = "blocked"

    def __post_init__(self) -> None:
        names = [INPUT, *(layer.name for layer in self.layers)]
        pairs = zip(names, self.layers, strict=False)
        wired = tuple(layer if layer.sources else replace(layer, sources=(before,)) for before, layer in pairs)
        object.__setattr__(self, "layers", wired)

    @cached_property
    def _by_name(self) -> dict[str, Layer]:
        return {layer.name: layer for layer in self.layers}

    @cached_property
    def _weighted_below(self) -> dict[str, tuple[Weighted, ...]]:
        return {}

    @cached_property
    def _users(self) -> dict[str, tuple[Layer, ...]]:
        users: dict[str, tuple[Layer, ...]] = {}
        for layer in self.layers:
            for source in dict.fromkeys(layer.sources):
                users[source] = (*users.get(source, ()), layer)
        return users

    @cached_property
    def weighted(self) -> tuple[Weighted, ...]:
        """The layers with weights, first to last."""
        return tuple(layer for layer in self.layers if isinstance(layer, Weighted))

    @property
    def trained(self) -> tuple[Layer, ...]:
        """The layers with parameters, first to last."""
        return tuple(layer for layer in self.layers if layer.trained)

    @cached_property
    def last_reader(self) -> dict[str, str]:
        """The name of the last layer that reads each layer, by that layer's name; `input` for the network's input."""
        return {source: layer.name for layer in self.layers for source in layer.sources}

    @cached_property
    def wants_error(self) -> frozenset[str]:
        """Names of the layers whose output error is needed: a layer with weights lies there or below."""
        names: set[str] = set()
        for layer in self.layers:
            if layer.weighted or names.intersection(layer.sources):
                names.add(layer.name)
        return frozenset(names)

    @property
    def classes(self) -> int:
        """The number of classes, which is that of outputs."""
        return self.layers[-1].outputs

    @property
    def parameters(self) -> int:
        """The number of trained parameters: weights, biases, and batch norms' scales and shifts."""
        return sum(layer.weights + layer.biases + layer.params for layer in self.layers)

    def layer(self, name: str) -> Layer:
        """The layer called `name`. Raises KeyError where there is none."""
        return self._by_name[name]

    def sources_of(self, layer: Layer) -> tuple[Layer, ...]:
        """The layers that `layer` reads, in its order; without the network's input, which is no layer."""
        return tuple(self._by_name[name] for name in layer.sources if name != INPUT)

    def users_of(self, layer: Layer | None) -> tuple[Layer, ...]:
        """The layers that read `layer` (None: the network's input), first to last."""
        return self._users.get(layer.name if layer else INPUT, ())

    def between(self, layer: Layer) -> tuple[Layer, ...]:
        """The layers without weights below `layer`, first to last: all on the paths down to the next weighted layers.

        Where paths part and meet again (residual adds), a layer can lie below several weighted ones.
        """
        between: set[str] = set()
        pending = list(self.sources_of(layer))
        while pending:
            source = pending.pop()
            if not source.weighted and source.name not in between:
                between.add(source.name)
                pending += self.sources_of(source)
        return tuple(item for item in self.layers if item.name in between)

    def weighted_below(self, layer: Layer) -> tuple[Weighted, ...]:
        """The weighted layers that `layer` depends on with no other weighted layer between, first to last."""
        known = self._weighted_below
        if layer.name not in known:
            path = (layer, *self.between(layer))
            names = {source.name for item in path for source in self.sources_of(item) if source.weighted}
            known[layer.name] = tuple(item for item in self.weighted if item.name in names)
        return known[layer.name]
