"""Networks as geometry: layers, which of them read which, and their totals; from YAML."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from fahw.config.load import Overrides, Place, load_model_file
from fahw.config.model import DirectFeedback, DirectResidual, LayerSpec, Model
from fahw.config.partial import UnknownPart
from fahw.config.precision import Precision
from fahw.config.recipe import Recipe, RuleTuning
from fahw.errors import ConfigError, Problem, suggestion
from fahw.layers import INPUT, NORMS, WEIGHTED, Kind, Layer, Shape, make_layer, spatial
from fahw.rules import Rule

__all__ = [
    "INPUT", "ErrorPath", "Kind", "Layer", "Network", "Roles", "Shape", "error_path", "feedback_shape", "few_layers",
    "load_model", "make_layer", "network_of_model", "roles_of", "spatial", "untrainable",
]  # fmt: skip

_TAKEN = (INPUT, "loss")


@dataclass(frozen=True)
class Network:
    """Layers in an order in which each reads only those before it (or `input`), every one but the last read by another.

    `input_shape` is one sample's; the last layer is linear and yields one logit per class. Layers without `sources`
    read the one before. `recipe` and `precision` are what the model file recommends for training; geometry does not
    depend on them. `dfa_feedback` and `dfa_residual` say how direct rules send the error into this network (see
    `config.model.Model`).
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
    def _users(self) -> dict[str, tuple[Layer, ...]]:
        users: dict[str, tuple[Layer, ...]] = {}
        for layer in self.layers:
            for source in dict.fromkeys(layer.sources):
                users[source] = (*users.get(source, ()), layer)
        return users

    @property
    def weighted(self) -> tuple[Layer, ...]:
        """The layers with weights, first to last."""
        return tuple(layer for layer in self.layers if layer.weighted)

    @property
    def trained(self) -> tuple[Layer, ...]:
        """The layers with weights and the batch norms, first to last."""
        return tuple(layer for layer in self.layers if layer.weighted or layer.kind in NORMS)

    @cached_property
    def last_reader(self) -> dict[str, str]:
        """By layer, and for the input: the name of the last layer that reads it."""
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
        """Number of outputs."""
        return self.layers[-1].outputs

    @property
    def parameters(self) -> int:
        """Weights, biases, and batch norms' scales and shifts."""
        return sum(layer.weights + layer.biases + layer.params for layer in self.layers)

    def layer(self, name: str) -> Layer:
        """The layer of that name."""
        return self._by_name[name]

    def sources_of(self, layer: Layer) -> tuple[Layer, ...]:
        """The layers that `layer` reads, in its order; without the network's input, which is no layer."""
        return tuple(self._by_name[name] for name in layer.sources if name != INPUT)

    def users_of(self, layer: Layer | None) -> tuple[Layer, ...]:
        """The layers that read `layer` (None: the network's input), first to last."""
        return self._users.get(layer.name if layer else INPUT, ())

    def between(self, layer: Layer) -> tuple[Layer, ...]:
        """The layers without weights below `layer`, first to last: all on the ways down to the next weighted layers.

        Where ways part and meet again (residual adds), a layer can lie below several weighted ones.
        """
        found: set[str] = set()
        pending = list(self.sources_of(layer))
        while pending:
            source = pending.pop()
            if not source.weighted and source.name not in found:
                found.add(source.name)
                pending += self.sources_of(source)
        return tuple(item for item in self.layers if item.name in found)

    def weighted_below(self, layer: Layer) -> tuple[Layer, ...]:
        """The weighted layers that `layer` depends on with no other weighted layer between, first to last."""
        ways = (layer, *self.between(layer))
        names = {source.name for item in ways for source in self.sources_of(item) if source.weighted}
        return tuple(item for item in self.weighted if item.name in names)


def feedback_shape(layer: Layer, outputs: int, direct: bool, tiled: bool = False) -> Shape:
    """Shape of the matrix that sends the error to the input of `layer`.

    As its weight where the error goes layer by layer; `(outputs, values of one input sample)` where it comes straight
    from the output (Nøkland 2016, the `dense` form); for a convolution whose feedback is `tiled`, the kernel
    `(outputs, input channels, kernel height, kernel width)`, whatever its groups (Sanfiz and Akrout 2021).
    """
    if not direct:
        return layer.weight_shape
    if tiled and layer.kind == "conv2d":
        return (outputs, layer.in_shape[0], *layer.kernel)
    return (outputs, layer.inputs)


@dataclass(frozen=True)
class Roles:
    """What the weighted layers of a network do under a rule, by name."""

    learns: frozenset[str]
    receives: frozenset[str]
    """Those at whose output an error is needed: they learn, or pass it on to some that do."""
    sends: frozenset[str]
    """Those that send an error to their input."""


def roles_of(network: Network, rule: Rule) -> Roles:
    """Which weighted layers learn under `rule`, and which an error must pass for that."""
    weighted, receives, sends = network.weighted, set[str](), set[str]()
    learns = {x.name for x in weighted if rule.trains_layer(x.kind == "conv2d", x is weighted[-1])}
    for layer in weighted:
        below = {item.name for item in network.weighted_below(layer)}
        if below & receives:
            sends.add(layer.name)
        if layer.name in learns or (below & receives and rule.path == "layerwise"):
            receives.add(layer.name)
    return Roles(frozenset(learns), frozenset(receives), frozenset(sends))


@dataclass(frozen=True)
class ErrorPath:
    """Where errors go in a network under a rule. `wants`: the layers whose output error is needed; `tapped`: those to
    whose outputs the weighted layers that read them send it."""

    roles: Roles
    wants: frozenset[str]
    tapped: frozenset[str]


def error_path(network: Network, rule: Rule) -> ErrorPath:
    """The layers that errors pass under `rule`, those without weights included."""
    roles, wants = roles_of(network, rule), set[str]()
    for layer in network.layers:
        if layer.name in roles.receives or (not layer.weighted and wants.intersection(layer.sources)):
            wants.add(layer.name)
    tapped = frozenset(layer.sources[0] for layer in network.weighted if layer.name in roles.sends)
    return ErrorPath(roles, frozenset(wants), tapped)


def untrainable(network: Network) -> None:
    """Raise ConfigError where a batch norm lies below all layers with weights: no error goes there."""
    names = [layer.name for layer in network.layers if layer.kind in NORMS and layer.name not in network.wants_error]
    if names:
        message = (
            f"no error reaches the batch norms before the first weighted layer ({few_layers(names)}): leave them out"
        )
        raise ConfigError(Problem(network.name, message))


def few_layers(names: list[str]) -> str:
    """The names of some layers in a few words."""
    shown = ", ".join(f"'{name}'" for name in names[:3])
    return f"layers {shown} and {len(names) - 3} more" if len(names) > 3 else f"layer{'s'[: len(names) - 1]} {shown}"


def load_model(name: str | Path, overrides: Overrides | None = None) -> Network:
    """The network of a model file or of a shipped model, `overrides` applied first.

    They are values, or YAML text, by dotted key: `{"recipe.momentum": 0}`.
    Raises ConfigError with every problem as file:line:col, shapes that do not fit included.
    """
    return network_of_model(load_model_file(name, overrides, _shape_problems))


def network_of_model(model: Model) -> Network:
    """The network that a model describes whose layers fit."""
    layers = tuple(item for item in _layers(model) if isinstance(item, Layer))
    return Network(
        model.name, model.input, layers, model.recipe, model.precision, model.dfa_feedback, model.dfa_residual
    )


@dataclass(frozen=True)
class _Wrong:
    """What is wrong with a layer, and at which of its keys; `message` is empty where only its sources are wrong."""

    message: str = ""
    key: tuple[str | int, ...] = ()


def _shape_problems(model: Model, place: Place) -> Iterator[Problem]:
    names = _names(model)
    items = list(_layers(model))
    for index, item in enumerate(items):
        spot, dotted = ("layers", index), f"layers.{index}"
        if isinstance(item, _Wrong) and item.message:
            yield Problem(place((*spot, *item.key)), item.message, ".".join(map(str, (dotted, *item.key))))
        if names[index] in _TAKEN:
            message = f"no layer can be called '{names[index]}': reports use it for what belongs to no layer"
            yield Problem(place(spot), message, f"{dotted}.name")
        elif names[index] in names[:index]:
            yield Problem(place(spot), f"the name '{names[index]}' is taken", f"{dotted}.name")
    read = {source for index, spec in enumerate(model.layers) for source in _sources(spec, names, index)}
    for index, name in enumerate(names[:-1]):
        if name not in read and name not in names[:index]:
            yield Problem(place(("layers", index)), f"no layer reads '{name}': leave it out or name it in a 'from'")
    if model.layers[-1].kind != "linear":
        message = f"the last layer must be linear, one output per class (got {model.layers[-1].kind})"
        yield Problem(place(("layers", len(items) - 1)), message)
    weighted = [name for name, spec in zip(names, model.layers, strict=True) if spec.kind in WEIGHTED]
    for path, ranges in _layer_ranges(model.recipe):
        for name in (name for name in ranges if name not in weighted):
            message = f"no layer with weights is called '{name}'{suggestion(name, weighted)}; they are"
            yield Problem(place((*path, name)), f"{message} {', '.join(weighted)}", ".".join((*path, name)))


def _layer_ranges(recipe: Recipe) -> Iterator[tuple[tuple[str, ...], Iterable[str]]]:
    """Where a recipe names layers, and which."""
    yield ("recipe", "layer_ranges"), recipe.layer_ranges
    for rule, tuning in recipe.rules.items():
        if isinstance(tuning, RuleTuning):  # not where a mistake left it as it was read
            yield ("recipe", "rules", rule, "layer_ranges"), tuning.layer_ranges or ()


def _names(model: Model) -> list[str]:
    """Every layer's name: its own, or its kind and its number among its kind."""
    counts: dict[str, int] = {}
    names = []
    for spec in model.layers:
        counts[spec.kind] = counts.get(spec.kind, 0) + 1
        names.append(spec.name or f"{spec.kind}{counts[spec.kind]}")
    return names


def _sources(spec: LayerSpec, names: list[str], index: int) -> tuple[str, ...]:
    if spec.from_ is None:
        return (names[index - 1] if index else INPUT,)
    return (spec.from_,) if isinstance(spec.from_, str) else spec.from_


def _layers(model: Model) -> Iterator[Layer | _Wrong]:
    """The layers in order; in the place of those that do not fit their inputs, what is wrong with them."""
    names = _names(model)
    shapes: dict[str, Shape | None] = {INPUT: model.input}
    for index, (name, spec) in enumerate(zip(names, model.layers, strict=True)):
        sources = _sources(spec, names, index)
        item = _missing(sources, names, index, isinstance(spec.from_, tuple)) or _fitted(spec, name, sources, shapes)
        yield item
        shapes[name] = item.out_shape if isinstance(item, Layer) else None


def _missing(sources: tuple[str, ...], names: list[str], index: int, listed: bool) -> _Wrong | None:
    """The first source that does not come before the layer."""
    known = [INPUT, *names[:index]]
    for number, source in enumerate(sources):
        key: tuple[str | int, ...] = ("from", number) if listed else ("from",)
        if source in known:
            continue
        if source == names[index]:
            return _Wrong(f"'{source}' cannot read itself", key)
        if source in names[index:]:
            return _Wrong(f"'{source}' comes after this layer; a layer reads those before it", key)
        return _Wrong(f"no layer '{source}' before this one{suggestion(source, known)}", key)
    return None


def _fitted(spec: LayerSpec, name: str, sources: tuple[str, ...], shapes: dict[str, Shape | None]) -> Layer | _Wrong:
    found = [shape for source in sources if (shape := shapes[source]) is not None]
    if len(found) < len(sources):
        return _Wrong()
    try:
        return make_layer(spec, name, *found, sources=sources)
    except UnknownPart:  # its own mistake is said; what follows from it is not
        return _Wrong()
    except ConfigError as error:
        return _Wrong(error.problems[0].message)
