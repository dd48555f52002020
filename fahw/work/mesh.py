"""Cores on a mesh: which layers go where, and what a message between cores takes.

A message goes along x, then along y. Its bits occupy every link of its way at once (cut-through), and arrive after the
hops' latency; a multicast charges every link of the tree once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise

from fahw.errors import ConfigError, Problem, suggestion
from fahw.hardware.chip import Chip
from fahw.hardware.interconnect import Mesh
from fahw.layers.layer import Layer
from fahw.network.graph import Network
from fahw.work.counts.accesses import Traffic
from fahw.work.counts.record import Count, Flow

NOC = "noc"
"""Component name of routers and links of the mesh."""


@dataclass(frozen=True)
class Part:
    """A weighted layer, or the share of its outputs that one core holds. `layer` is the share as a layer of its own."""

    layer: Layer
    whole: Layer
    core: int
    error_core: int

    @property
    def name(self) -> str:
        """The layer's name, with the number of the share where there are several."""
        return self.layer.name

    def share(self, values: int) -> int:
        """This part's share of `values` that come with the layer's outputs."""
        return -(-values * self.layer.outputs // self.whole.outputs)


def prefix(chip: Chip, core: int) -> str:
    """What stands before the names of a core's parts; nothing on a chip of one core."""
    return f"core{core}:" if chip.mesh else ""


def parts_of(chip: Chip, network: Network, direct: bool) -> dict[str, tuple[Part, ...]]:
    """The parts of every weighted layer, by its name. Raises ConfigError where the layers do not fit the cores.

    `direct`: the error comes straight from the output, and is made on the core of the layer below, which reads it.
    """
    if chip.mesh is None:
        return {layer.name: (Part(layer, layer, 0, 0),) for layer in network.weighted}
    cores = _placed(chip, chip.mesh, network)
    used = {core for found in cores.values() for core in found}
    separate = chip.mesh.error_cores == "separate"
    if separate and 2 * len(used) > chip.mesh.cores:
        message = f"error_cores: separate needs {2 * len(used)} cores for {network.name}, there are {chip.mesh.cores}"
        raise ConfigError(Problem(chip.name, message, "mesh"))
    twins = dict(zip(sorted(used), sorted(set(range(chip.mesh.cores)) - used), strict=False))
    parts = {}
    for layer in network.weighted:
        own = cores[layer.name]
        below = [core for item in network.weighted_below(layer)[:1] for core in cores[item.name]]
        errors = [below[i % len(below)] for i in range(len(own))] if direct and below else own
        parts[layer.name] = tuple(
            Part(share, layer, core, twins[error] if separate else error)
            for share, core, error in zip(_shares(chip, layer, len(own)), own, errors, strict=True)
        )
    return parts


def _shares(chip: Chip, layer: Layer, count: int) -> list[Layer]:
    """`layer` split by outputs into `count` layers."""
    if count == 1:
        return [layer]
    outputs = layer.out_shape[0]
    if layer.groups != 1 or count > outputs:
        message = f"layer '{layer.name}' ({outputs} outputs, {layer.groups} groups) cannot be split over {count} cores"
        raise ConfigError(Problem(chip.name, message, "mesh.placement"))
    edges = [outputs * i // count for i in range(count + 1)]
    return [
        replace(layer, name=f"{layer.name}/{i + 1}", out_shape=(end - start, *layer.out_shape[1:]))
        for i, (start, end) in enumerate(pairwise(edges))
    ]


def _placed(chip: Chip, mesh: Mesh, network: Network) -> dict[str, tuple[int, ...]]:
    if isinstance(mesh.placement, dict):
        return _given(chip, mesh, mesh.placement, network)
    if mesh.placement == "balanced":
        return _balanced(mesh.cores, network)
    counts = {layer.name: _cores_needed(chip, layer) if mesh.split_layers else 1 for layer in network.weighted}
    if sum(counts.values()) > mesh.cores:
        more = " (layers that do not fit one core are split)" if mesh.split_layers else ""
        message = (
            f"{network.name} needs {sum(counts.values())} cores with one layer per core{more}, "
            f"the mesh has {mesh.cores}: enlarge it, or choose placement: balanced"
        )
        raise ConfigError(Problem(chip.name, message, "mesh.placement"))
    cores = iter(range(mesh.cores))
    return {name: tuple(next(cores) for _ in range(count)) for name, count in counts.items()}


def _cores_needed(chip: Chip, layer: Layer) -> int:
    memory = chip.home("weight")
    if memory is None or not memory.kib:
        return 1
    needed = -(-layer.weights * chip.precision.bits("weight") // int(memory.kib * 8192))
    return 1 if layer.groups != 1 else min(needed, layer.out_shape[0])


def _balanced(cores: int, network: Network) -> dict[str, tuple[int, ...]]:
    """Neighbouring layers together, so that every core has about the same multiply-accumulates."""
    total, done = network_macs(network), 0
    placed: dict[str, tuple[int, ...]] = {}
    for layer in network.weighted:
        placed[layer.name] = (min(cores - 1, (2 * done + layer.macs) * cores // (2 * total)),)
        done += layer.macs
    return placed


def network_macs(network: Network) -> int:
    """Multiply-accumulates of one sample's forward pass."""
    return sum(layer.macs for layer in network.weighted)


def _given(
    chip: Chip, mesh: Mesh, placement: Mapping[str, int | tuple[int, ...]], network: Network
) -> dict[str, tuple[int, ...]]:
    known = [layer.name for layer in network.weighted]
    problems = [
        f"no layer '{name}'{suggestion(name, known)}; known: {', '.join(known)}"
        for name in placement
        if name not in known
    ]
    problems += [f"layer '{name}' has no core" for name in known if name not in placement]
    cores = {name: (found,) if isinstance(found, int) else tuple(found) for name, found in placement.items()}
    for name, found in cores.items():
        if not found or max(found) >= mesh.cores or len(set(found)) < len(found):
            problems.append(f"layer '{name}': cores must be different numbers from 0 to {mesh.cores - 1} (got {found})")
    if problems:
        raise ConfigError([Problem(chip.name, message, "mesh.placement") for message in problems])
    return {name: cores[name] for name in known}


def route(mesh: Mesh, start: int, end: int) -> list[str]:
    """Links of the way from one core to another: along x, then along y."""
    (y, x), (end_y, end_x) = divmod(start, mesh.cols), divmod(end, mesh.cols)
    cores = [start]
    while x != end_x:
        x += 1 if end_x > x else -1
        cores.append(y * mesh.cols + x)
    while y != end_y:
        y += 1 if end_y > y else -1
        cores.append(y * mesh.cols + x)
    return [f"{NOC}:{a}>{b}" for a, b in pairwise(cores)]


def send(chip: Chip, tensor: str, bits: int, start: int, ends: Iterable[int]) -> Traffic:
    """A message of `bits` from a core to others: energy per bit and hop, the links that it occupies."""
    mesh = chip.mesh
    if mesh is None or not bits:
        return Traffic()
    ways = [route(mesh, start, end) for end in dict.fromkeys(ends) if end != start]
    links = [link for way in ways for link in way]
    if mesh.multicast:
        links = list(dict.fromkeys(links))
    if not links:
        return Traffic()
    uses = {link: links.count(link) for link in dict.fromkeys(links)}
    latency = max(map(len, ways)) * mesh.hop_latency_cycles
    flows = tuple(Flow(link, bits * times, mesh.link_bits_per_cycle, latency) for link, times in uses.items())
    return Traffic((Count(NOC, "hop", tensor, bits * len(links)),), drains=flows)


def hops_latency(drains: Iterable[Flow]) -> int:
    """Cycles from the last bit sent to the last bit received."""
    return max((flow.latency_cycles for flow in drains if flow.part.startswith(f"{NOC}:")), default=0)
