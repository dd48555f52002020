"""Which tasks of a step wait for which, and who works on the layers without weights: read from a network's graph.

The layers without weights that follow a weighted one on the way up are its tail: its own task computes them on the
lanes, on results that have just left the array. On the way back, the derivative of a tail is the work of the first
weighted layer that reads it, which comes last there.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from fahw.layers.layer import Layer, Shape
from fahw.network.error_path import Roles, roles_of
from fahw.network.graph import Network
from fahw.rules.rule import Rule


@dataclass(frozen=True)
class Graph:
    """Relations between the weighted layers of a network; names stand for layers."""

    tails: dict[str, tuple[Layer, ...]]
    """Layers without weights by the last weighted layer that they depend on; `input` for those that depend on none."""
    users: dict[str, tuple[str, ...]]
    """Weighted layers that read a weighted layer's output with none between them."""
    below: dict[str, tuple[str, ...]]
    """Weighted layers that a weighted layer reads; none for those that read samples alone."""
    joined: dict[str, tuple[str, ...]]
    """Weighted layers of other branches whose results a weighted layer's tail reads, or what their tails made of
    them."""
    derivative_layers: dict[str, tuple[Layer, ...]]
    """Layers without weights whose derivative is a weighted layer's work."""
    completed_errors: dict[str, tuple[Layer, ...]]
    """Weighted layers whose output error is complete when a weighted layer's error task has run."""
    summed_values: dict[str, int]
    """Values per sample that the error task of a weighted layer adds to the errors of other paths, where paths part."""
    shortcut_sources: dict[str, tuple[str, ...]]
    """Higher weighted layers whose error tasks send errors, through shortcuts, to what a weighted layer completes with
    them."""
    roles: Roles
    """Which layers learn, and which send an error for that."""
    owners: dict[str, str]
    """The weighted layer, or `input`, whose task computes each layer."""
    read_again: frozenset[str]
    """Layers whose outputs the way back reads: gradients of what learns, and derivatives."""

    @property
    def senders(self) -> tuple[str, ...]:
        """The layers that send an error down: those that read a layer which needs one."""
        return tuple(name for name in self.below if name in self.roles.sends)


def graph_of(network: Network, rule: Rule) -> Graph:
    """The relations between the weighted layers of `network` that the tasks of a step under `rule` follow; cached."""
    return _graph(network.input_shape, network.layers, rule)


@cache
def _graph(input_shape: Shape, layers: tuple[Layer, ...], rule: Rule) -> Graph:
    network = Network("", input_shape, layers)
    roles = roles_of(network, rule)
    owner, tails = _owners(network)
    below = {layer.name: tuple(item.name for item in network.weighted_below(layer)) for layer in network.weighted}
    users: dict[str, list[str]] = {name: [] for name in tails}
    for name, sources in below.items():
        for source in sources or ("input",):
            users[source].append(name)
    first = {name: (readers[0] if readers else name) for name, readers in users.items() if name != "input"}
    derivative_layers: dict[str, list[Layer]] = {name: [] for name in below}
    completed_errors: dict[str, list[Layer]] = {name: [] for name in below}
    summed_values = dict.fromkeys(below, 0)
    shortcut_sources: dict[str, list[str]] = {name: [] for name in below}
    for layer in network.weighted:
        if first[layer.name] == layer.name or layer.name not in roles.receives:
            continue  # the last layer, whose error comes from the loss, or one that needs none
        reader = first[layer.name]
        derivative_layers[reader] += tails[layer.name]
        completed_errors[reader].append(layer)
        for item in (layer, *tails[layer.name]):
            summed_values[reader] += max(0, len(network.users_of(item)) - 1) * item.outputs
            passed = [owner[user.name] for user in network.users_of(item) if not user.weighted]
            for other in (first[name] for name in passed if name not in (layer.name, first[name])):
                if other != reader:  # else one task makes both errors; of two, the lower layer's comes last
                    later, earlier = sorted((reader, other), key=list(below).index)
                    shortcut_sources[later].append(earlier)
    return Graph(
        {name: tuple(tail) for name, tail in tails.items()},
        {name: tuple(readers) for name, readers in users.items()},
        below,
        {name: _joined(name, tail, owner) for name, tail in tails.items()},
        {name: tuple(local) for name, local in derivative_layers.items()},
        {name: tuple(completed) for name, completed in completed_errors.items()},
        summed_values,
        {name: tuple(dict.fromkeys(sources)) for name, sources in shortcut_sources.items()},
        roles,
        owner,
        _read_again(network, roles, tails),
    )


def _joined(name: str, tail: list[Layer], owner: dict[str, str]) -> tuple[str, ...]:
    sources = [owner[source] for item in tail for source in item.sources]
    return tuple(other for other in dict.fromkeys(sources) if other not in (name, "input"))


def _read_again(network: Network, roles: Roles, tails: dict[str, list[Layer]]) -> frozenset[str]:
    """The layers whose outputs the way back reads: what learning layers multiply errors with, and what the derivatives
    of tails read; of those that only move values also what they read."""
    names = {source for layer in network.weighted if layer.name in roles.learns for source in layer.sources}
    for item in (item for name in roles.receives for item in tails[name]):
        names |= {item.name} if item.saved_outputs else set()
        names |= {source for source, size in zip(item.sources, item.saved_inputs, strict=True) if size}
    for item in network.layers:
        if item.same_values and names.intersection(item.sources):
            names.add(item.name)
    return frozenset(names)


def _owners(network: Network) -> tuple[dict[str, str], dict[str, list[Layer]]]:
    """The weighted layer (or `input`) that computes each layer, and the layers without weights that each computes."""
    owner: dict[str, str] = {"input": "input"}
    order = {"input": -1} | {layer.name: position for position, layer in enumerate(network.weighted)}
    tails: dict[str, list[Layer]] = {name: [] for name in order}
    for layer in network.layers:
        if layer.weighted:
            owner[layer.name] = layer.name
        else:
            owner[layer.name] = max((owner[source] for source in layer.sources), key=order.__getitem__)
            tails[owner[layer.name]].append(layer)
    return owner, tails
