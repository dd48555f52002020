"""The paths of errors in a network under a rule: which layers learn, receive an error and send one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from fahw.errors import ConfigError, Problem
from fahw.layers.layer import Layer, Shape
from fahw.layers.weighted import Weighted
from fahw.network.graph import Network
from fahw.rules.rule import Rule


def feedback_shape(layer: Weighted, outputs: int, direct: bool, tiled: bool = False) -> Shape:
    """The shape of the matrix that sends the error to the input of `layer`.

    It is the weight's where the error goes layer by layer; `(outputs, values of one input sample)` where it comes
    straight from the output (Nøkland 2016, the `dense` form); for a convolution whose feedback is `tiled`, the kernel
    `(outputs, input channels, kernel height, kernel width)`, whatever its groups (Sanfiz and Akrout 2021).
    """
    if not direct:
        return layer.weight_shape
    if tiled and layer.convolutional:
        return (outputs, layer.in_shape[0], *layer.kernel)
    return (outputs, layer.inputs)


@dataclass(frozen=True)
class Roles:
    """The names of the weighted layers of a network that learn, receive and send errors under a rule."""

    learns: frozenset[str]
    """The layers whose weights are trained."""
    receives: frozenset[str]
    """The layers whose output error is needed: they learn, or pass it on to some that do."""
    sends: frozenset[str]
    """The layers that send an error to their input."""


NO_ROLES = Roles(frozenset(), frozenset(), frozenset())
"""The roles where nothing is trained."""


def roles_of(network: Network, rule: Rule) -> Roles:
    """The roles of the weighted layers under `rule`: which learn, and which an error must pass for that."""
    weighted, receives, sends = network.weighted, set[str](), set[str]()
    learns = {
        item.name
        for item in weighted
        if not item.frozen and rule.trains_layer(item.convolutional, item is weighted[-1])
    }
    for layer in weighted:
        below = {item.name for item in network.weighted_below(layer)}
        if below & receives:
            sends.add(layer.name)
        if layer.name in learns or (below & receives and rule.path == "layerwise"):
            receives.add(layer.name)
    return Roles(frozenset(learns), frozenset(receives), frozenset(sends))


@dataclass(frozen=True)
class ErrorPath:
    """The layers of a network that errors pass under a rule.

    `wants_error`: names of the layers whose output error is needed, those without weights included. `tapped`: names of
    the layers to whose output a weighted layer that reads it sends an error.
    """

    roles: Roles
    wants_error: frozenset[str]
    tapped: frozenset[str]


def error_path(network: Network, rule: Rule) -> ErrorPath:
    """The path of errors through `network` under `rule`."""
    roles, wants_error = roles_of(network, rule), set[str]()
    for layer in network.layers:
        if layer.name in roles.receives or (not layer.weighted and wants_error.intersection(layer.sources)):
            wants_error.add(layer.name)
    tapped = frozenset(layer.sources[0] for layer in network.weighted if layer.name in roles.sends)
    return ErrorPath(roles, frozenset(wants_error), tapped)


def check_learning(network: Network, rule: Rule) -> None:
    """Raise ConfigError where nothing is trained under the rule."""
    if not roles_of(network, rule).learns:
        last = network.weighted[-1]
        names = [item.name for item in network.weighted if rule.trains_layer(item.convolutional, item is last)]
        message = (
            f"nothing is trained under {rule.name}: frozen are all layers that it trains ({describe_layers(names)})"
        )
        raise ConfigError(Problem(network.name, message))


def frozen_problems(layers: Sequence[Layer]) -> Iterator[tuple[int, str]]:
    """Yield the mistakes in what is frozen, each with the index of its layer: batch norms that are not frozen where the
    layer is which makes what they normalise; and that nothing is trained, at the last layer."""
    if not any(layer.frozen for layer in layers):
        return
    owner: dict[str, int] = {}  # the weighted layer that makes each layer's values
    for index, layer in enumerate(layers):
        below = [owner[source] for source in layer.sources if source in owner]
        if layer.weighted or below:
            owner[layer.name] = index if layer.weighted else max(below)
        if layer.params and not layer.frozen and below and layers[max(below)].frozen:
            message = (
                f"'{layers[max(below)].name}', which it normalises, is frozen, and a batch norm learns with its layer"
            )
            yield index, f"{message}: set frozen: true here too"
    if all(layer.frozen for layer in layers if layer.weighted):
        yield len(layers) - 1, "nothing is trained: every layer with weights is frozen"


def check_trainable(network: Network) -> None:
    """Raise ConfigError where a batch norm lies below all layers with weights: no error goes there."""
    names = [layer.name for layer in network.layers if layer.params and layer.name not in network.wants_error]
    if names:
        layers = describe_layers(names)
        message = f"no error reaches the batch norms before the first weighted layer ({layers}): leave them out"
        raise ConfigError(Problem(network.name, message))


def describe_layers(names: list[str]) -> str:
    """A phrase that names the layers, or the first three and the number of the others."""
    shown = ", ".join(f"'{name}'" for name in names[:3])
    return f"layers {shown} and {len(names) - 3} more" if len(names) > 3 else f"layer{'s'[: len(names) - 1]} {shown}"
