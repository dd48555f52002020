"""Networks from model files or from the names of shipped models."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from fahw.config.files import find_file, load_file
from fahw.config.partial import UnknownPart
from fahw.config.validate import Check, Overrides, Place
from fahw.errors import ConfigError, Problem, suggestion
from fahw.layers.catalogue import KINDS, LayerSpec, make_layer
from fahw.layers.layer import INPUT, Layer, Shape
from fahw.network.error_path import frozen_problems
from fahw.network.graph import Network
from fahw.network.model_file import Model
from fahw.network.recipe import Recipe, RuleTuning


def load_model_file(name: str | Path, overrides: Overrides | None, check: Check[Model]) -> Model:
    """The model that a YAML file describes, layers as written. Raises ConfigError with every problem, `check`'s too."""
    return load_file(find_file(name, "models", "model"), Model, overrides, check)


_RESERVED_NAMES = (INPUT, "loss")


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
class _WrongLayer:
    """A mistake in a layer, at one of its keys; `message` is empty where only the layers that it reads are wrong."""

    message: str = ""
    key: tuple[str | int, ...] = ()


def _shape_problems(model: Model, place: Place) -> Iterator[Problem]:
    """Yield the mistakes that the schema cannot see: shapes, names, layers that nothing reads, unknown ranges."""
    names = _names(model)
    items = list(_layers(model))
    for index, item in enumerate(items):
        key, dotted_key = ("layers", index), f"layers.{index}"
        if isinstance(item, _WrongLayer) and item.message:
            yield Problem(place((*key, *item.key)), item.message, ".".join(map(str, (dotted_key, *item.key))))
        if names[index] in _RESERVED_NAMES:
            message = f"no layer can be called '{names[index]}': reports use it for what belongs to no layer"
            yield Problem(place(key), message, f"{dotted_key}.name")
        elif names[index] in names[:index]:
            yield Problem(place(key), f"the name '{names[index]}' is taken", f"{dotted_key}.name")
    names_read = {source for index, spec in enumerate(model.layers) for source in _sources(spec, names, index)}
    for index, name in enumerate(names[:-1]):
        if name not in names_read and name not in names[:index]:
            yield Problem(place(("layers", index)), f"no layer reads '{name}': leave it out or name it in a 'from'")
    if len(layers := [item for item in items if isinstance(item, Layer)]) == len(items):
        for index, message in frozen_problems(layers):
            yield Problem(place(("layers", index)), message, f"layers.{index}.frozen")
    last_kind = model.layers[-1].kind
    if not KINDS[last_kind].ends_network:
        message = f"the last layer must be {' or '.join(_last_kinds())}, one output per class (got {last_kind})"
        yield Problem(place(("layers", len(items) - 1)), message)
    weighted = [name for name, spec in zip(names, model.layers, strict=True) if KINDS[spec.kind].weighted]
    for path, ranges in _layer_ranges(model.recipe):
        for name in (name for name in ranges if name not in weighted):
            message = f"no layer with weights is called '{name}'{suggestion(name, weighted)}; they are"
            yield Problem(place((*path, name)), f"{message} {', '.join(weighted)}", ".".join((*path, name)))


def _last_kinds() -> list[str]:
    """The kinds of layers that can end a network."""
    return [name for name, kind in KINDS.items() if kind.ends_network]


def _layer_ranges(recipe: Recipe) -> Iterator[tuple[tuple[str, ...], Iterable[str]]]:
    """Yield (key, names) of every mapping of a recipe that names layers."""
    yield ("recipe", "layer_ranges"), recipe.layer_ranges
    for rule, tuning in recipe.rules.items():
        if isinstance(tuning, RuleTuning):  # not where a mistake left it as it was read
            yield ("recipe", "rules", rule, "layer_ranges"), tuning.layer_ranges or ()


def _names(model: Model) -> list[str]:
    """The names of the layers in order: a given one, or the kind with the number among its kind."""
    counts: dict[str, int] = {}
    names = []
    for spec in model.layers:
        counts[spec.kind] = counts.get(spec.kind, 0) + 1
        names.append(spec.name or f"{spec.kind}{counts[spec.kind]}")
    return names


def _sources(spec: LayerSpec, names: list[str], index: int) -> tuple[str, ...]:
    """The names of what layer `index` reads: as `from` says, else the layer before."""
    if spec.from_ is None:
        return (names[index - 1] if index else INPUT,)
    return (spec.from_,) if isinstance(spec.from_, str) else spec.from_


def _layers(model: Model) -> Iterator[Layer | _WrongLayer]:
    """Yield the layers in order, a `_WrongLayer` in the place of each that does not fit its inputs."""
    names = _names(model)
    shapes: dict[str, Shape | None] = {INPUT: model.input}
    for index, (name, spec) in enumerate(zip(names, model.layers, strict=True)):
        sources = _sources(spec, names, index)
        wrong = _wrong_source(sources, names, index, isinstance(spec.from_, tuple))
        item = wrong or _built_layer(spec, name, sources, shapes)
        yield item
        shapes[name] = item.out_shape if isinstance(item, Layer) else None


def _wrong_source(sources: tuple[str, ...], names: list[str], index: int, is_list: bool) -> _WrongLayer | None:
    """The mistake of the first source that does not come before layer `index`; None where all do."""
    readable = [INPUT, *names[:index]]
    for number, source in enumerate(sources):
        key: tuple[str | int, ...] = ("from", number) if is_list else ("from",)
        if source in readable:
            continue
        if source == names[index]:
            return _WrongLayer(f"'{source}' cannot read itself", key)
        if source in names[index:]:
            return _WrongLayer(f"'{source}' comes after this layer; a layer reads those before it", key)
        return _WrongLayer(f"no layer '{source}' before this one{suggestion(source, readable)}", key)
    return None


def _built_layer(
    spec: LayerSpec, name: str, sources: tuple[str, ...], shapes: dict[str, Shape | None]
) -> Layer | _WrongLayer:
    """The layer on inputs of these shapes (None: that of a wrong layer), or the mistake that prevents it."""
    input_shapes = [shape for source in sources if (shape := shapes[source]) is not None]
    if len(input_shapes) < len(sources):
        return _WrongLayer()
    try:
        return make_layer(spec, name, *input_shapes, sources=sources)
    except UnknownPart:  # its own mistake is reported; what follows from it is not
        return _WrongLayer()
    except ConfigError as error:
        return _WrongLayer(error.problems[0].message)
