"""Into what a batch is split where training has to know it: batch norms take their statistics over a micro-batch, so
that the split changes what a network learns. Loads no torch."""

from __future__ import annotations

from fahw.activity import Activity, LayerActivity
from fahw.chip.cost import simulate
from fahw.hardware.chip import Chip
from fahw.network.graph import Network


def has_norms(network: Network) -> bool:
    """Whether a split of the batch changes what the network learns: frozen batch norms take the batch's statistics
    too."""
    return any(layer.statistics for layer in network.layers)


def norm_samples(network: Network, batch_size: int, micro_batch: int | None) -> int | None:
    """Samples over which the network's batch norms take their statistics; None where that is the batch, or there are
    none."""
    if micro_batch is None or micro_batch >= batch_size or not has_norms(network):
        return None
    return micro_batch


def norm_samples_on(chip: Chip | None, network: Network, rule: str, batch_size: int) -> int | None:
    """`norm_samples` of a training under a rule on a chip (None: none): over its micro-batch; where it asks for the
    best, over that of the rule under the chip's first form of transport."""
    if chip is None or not has_norms(network):
        return None
    size = chip.micro_batch
    return norm_samples(network, batch_size, best_split(chip, network, rule, batch_size) if size == "best" else size)


def best_split(chip: Chip, network: Network, rule: str, batch_size: int, transport: str | None = None) -> int:
    """The micro-batch that is best for a rule on a chip that asks for the best one, before anything is trained.

    Zeros and changes are then those that the chip file assumes; where it assumes none, nothing is zero and all changes.
    Raises ConfigError where the chip cannot host the rule.
    """
    activity = all_at_work(network) if chip.uses_activity and chip.activity is None else None
    return simulate(chip, network, rule, batch_size, transport, activity).micro_batch


def all_at_work(network: Network) -> Activity:
    """The activity of a training in which nothing is zero and all changes."""
    return Activity({layer.name: LayerActivity(0.0, 0.0, 1.0, 1.0) for layer in network.weighted}, 1)
