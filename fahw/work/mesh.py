"""Cores on a mesh: which layers go where, and what a message between cores takes.

A message goes along x, then along y. Its bits occupy every link of its way at once (cut-through), and arrive after the
hops' latency; a multicast charges every link of the tree once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise

from fahw.errors import ConfigError, Problem, suggestion
from fahw.hardware.chip import Chip
from fahw.hardware.interconnect import Mesh
from fahw.layers.weighted import Weighted
from fahw.network.graph import Network
from fahw.work.counts.accesses import Traffic
from fahw.work.counts.record import Count, Flow

NOC = "noc"
"""Component name of routers and links of the mesh."""


@dataclass(frozen=True)
class Part:
    """A weighted layer, or the share of its outputs that one core holds. `layer` is the share as a layer of its own,
    `whole` the layer that it is a share of, `error_core` the core that sends the error to its input; `index` is its
    number among `count` shares, `first` that of its first output (channel). Shares of anything add up to it."""

    layer: Weighted
    whole: Weighted
    core: int
    error_core: int
    index: int = 0
    count: int = 1
    first: int = 0

    @property
    def name(self) -> str:
        """The layer's name, with the number of the share where there are several."""
        return self.layer.name

    def share(self, values: int) -> int:
        """This part's share of `values` that come with the layer's outputs."""
        start, end = self._output_range(values)
        return end - start

    def input_share(self, values: int) -> int:
        """This part's share of `values` that come with the layer's inputs: those whose errors it completes."""
        start, end = self._input_range(values)
        return end - start

    def values_for(self, reader: Part, values: int) -> int:
        """How many of `values`, inputs of this part's layer and outputs of the layer of `reader`, are in both's
        shares."""
        (start, end), (first, last) = self._input_range(values), reader._output_range(values)
        return max(0, min(end, last) - max(start, first))

    def _input_range(self, values: int) -> tuple[int, int]:
        return values * self.index // self.count, values * (self.index + 1) // self.count

    def _output_range(self, values: int) -> tuple[int, int]:
        outputs, end = self.whole.out_shape[0], self.first + self.layer.out_shape[0]
        return values * self.first // outputs, values * end // outputs


def core_prefix(chip: Chip, core: int) -> str:
    """The prefix of the names of a core's components, `core3:` say; empty on a chip of one core."""
    return f"core{core}:" if chip.mesh else ""


def parts_of(chip: Chip, network: Network, direct: bool) -> dict[str, tuple[Part, ...]]:
    """The parts of every weighted layer, by its name. Raises ConfigError where the layers do not fit the cores.

    `direct`: the error comes straight from the output, and is made on the core of the layer below, which reads it.
    """
    if chip.mesh is None:
        return {layer.name: (Part(layer, layer, 0, 0),) for layer in network.weighted}
    cores = _layer_cores(chip, chip.mesh, network)
    used_cores = {core for layer_cores in cores.values() for core in layer_cores}
    separate = chip.mesh.error_cores == "separate"
    if separate and 2 * len(used_cores) > chip.mesh.cores:
        needed = f"error_cores: separate needs {2 * len(used_cores)} cores for {network.name}"
        raise ConfigError(Problem(chip.name, f"{needed}, there are {chip.mesh.cores}", "mesh"))
    twins = dict(zip(sorted(used_cores), sorted(set(range(chip.mesh.cores)) - used_cores), strict=False))
    parts = {}
    for layer in network.weighted:
        forward_cores = cores[layer.name]
        below = [core for item in network.weighted_below(layer)[:1] for core in cores[item.name]]
        count = len(forward_cores)
        error_cores = [below[index % len(below)] for index in range(count)] if direct and below else forward_cores
        shares = _split_layer(chip, layer, count)
        error_cores = [twins[core] for core in error_cores] if separate else error_cores
        starts = accumulate((share.out_shape[0] for share in shares), initial=0)
        parts[layer.name] = tuple(
            Part(share, layer, core, error_core, index, count, first)
            for index, (share, core, error_core, first) in enumerate(
                zip(shares, forward_cores, error_cores, starts, strict=False)
            )
        )
    return parts


def _split_layer(chip: Chip, layer: Weighted, count: int) -> list[Weighted]:
    """`layer` split by outputs into `count` layers."""
    if count == 1:
        return [layer]
    outputs = layer.out_shape[0]
    if layer.groups != 1 or count > outputs:
        message = f"layer '{layer.name}' ({outputs} outputs, {layer.groups} groups) cannot be split over {count} cores"
        raise ConfigError(Problem(chip.name, message, "mesh.placement"))
    edges = [outputs * index // count for index in range(count + 1)]
    return [
        replace(layer, name=f"{layer.name}/{index + 1}", out_shape=(end - start, *layer.out_shape[1:]))
        for index, (start, end) in enumerate(pairwise(edges))
    ]


def _layer_cores(chip: Chip, mesh: Mesh, network: Network) -> dict[str, tuple[int, ...]]:
    if isinstance(mesh.placement, dict):
        return _named_cores(chip, mesh, mesh.placement, network)
    if mesh.placement == "balanced":
        return _balanced_cores(mesh.cores, network)
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


def _cores_needed(chip: Chip, layer: Weighted) -> int:
    memory = chip.home("weight")
    if memory is None or not memory.kib:
        return 1
    needed = -(-layer.weights * chip.precision.bits("weight") // int(memory.kib * 8192))
    return 1 if layer.groups != 1 else min(needed, layer.out_shape[0])


def _balanced_cores(cores: int, network: Network) -> dict[str, tuple[int, ...]]:
    """One core per layer, neighbours on the same one so that all have about the same multiply-accumulates."""
    total, done = network_macs(network), 0
    placed: dict[str, tuple[int, ...]] = {}
    for layer in network.weighted:
        placed[layer.name] = (min(cores - 1, (2 * done + layer.macs) * cores // (2 * total)),)
        done += layer.macs
    return placed


def network_macs(network: Network) -> int:
    """Multiply-accumulates of one sample's forward pass."""
    return sum(layer.macs for layer in network.weighted)


def _named_cores(
    chip: Chip, mesh: Mesh, placement: Mapping[str, int | tuple[int, ...]], network: Network
) -> dict[str, tuple[int, ...]]:
    layer_names = [layer.name for layer in network.weighted]
    problems = [
        f"no layer '{name}'{suggestion(name, layer_names)}; known: {', '.join(layer_names)}"
        for name in placement
        if name not in layer_names
    ]
    problems += [f"layer '{name}' has no core" for name in layer_names if name not in placement]
    cores = {
        name: (layer_cores,) if isinstance(layer_cores, int) else tuple(layer_cores)
        for name, layer_cores in placement.items()
    }
    for name, layer_cores in cores.items():
        if not layer_cores or max(layer_cores) >= mesh.cores or len(set(layer_cores)) < len(layer_cores):
            problems.append(
                f"layer '{name}': cores must be different numbers from 0 to {mesh.cores - 1} (got {layer_cores})"
            )
    if problems:
        raise ConfigError([Problem(chip.name, message, "mesh.placement") for message in problems])
    return {name: cores[name] for name in layer_names}


def route(mesh: Mesh, start: int, end: int) -> list[str]:
    """The names of the links from one core to another: along x, then along y."""
    (y, x), (end_y, end_x) = divmod(start, mesh.cols), divmod(end, mesh.cols)
    cores = [start]
    while x != end_x:
        x += 1 if end_x > x else -1
        cores.append(y * mesh.cols + x)
    while y != end_y:
        y += 1 if end_y > y else -1
        cores.append(y * mesh.cols + x)
    return [f"{NOC}:{source}>{target}" for source, target in pairwise(cores)]


def message_traffic(chip: Chip, tensor: str, bits: int, start: int, targets: Iterable[int]) -> Traffic:
    """Action counts (a hop per bit and link) and flows of a message of `bits` from core `start` to the cores
    `targets`."""
    mesh = chip.mesh
    if mesh is None or not bits:
        return Traffic()
    routes = [route(mesh, start, end) for end in dict.fromkeys(targets) if end != start]
    uses = Counter(link for way in routes for link in way)
    if mesh.multicast:
        uses = Counter(uses.keys())
    if not uses:
        return Traffic()
    latency = max(map(len, routes)) * mesh.hop_latency_cycles
    flows = tuple(Flow(link, bits * times, mesh.link_bits_per_cycle, latency) for link, times in uses.items())
    return Traffic((Count(NOC, "hop", tensor, bits * uses.total()),), drains=flows)


def is_link(part: str) -> bool:
    """Whether a part that something passes is a link of the mesh."""
    return part.startswith(f"{NOC}:")


def hops_latency(drains: Iterable[Flow]) -> int:
    """Cycles from the last bit sent to the last bit received."""
    return max((flow.latency_cycles for flow in drains if is_link(flow.part)), default=0)
