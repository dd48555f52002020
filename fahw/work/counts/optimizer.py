"""What the optimizer of a recipe reads, keeps and computes in the update of one weight."""

from __future__ import annotations

from dataclasses import dataclass

from fahw.errors import ConfigError, Problem
from fahw.hardware.chip import Chip
from fahw.network.graph import Network
from fahw.optimizers import FLOAT_BITS, OPTIMIZERS, Optimizer
from fahw.rules.rule import Rule
from fahw.work.counts.lanes import Operation

CONSTANT_BITS = 8
"""Width of the constants that integers are multiplied by."""


@dataclass(frozen=True)
class OptimizerCosts:
    """An optimizer, and what the recipe adds: `decays` (weights lose a share), `clips` (gradients saturate), `shifts`
    (rates are powers of two)."""

    optimizer: Optimizer
    decays: bool
    clips: bool
    shifts: bool

    def words(self, bits: int) -> tuple[int, int]:
        """How many states a weight has, and the width of each; `bits`: of the optimizer's format."""
        return self.optimizer.states, FLOAT_BITS if self.optimizer.is_float else bits

    @property
    def roundings(self) -> int:
        """Per weight: of every sum with a state, and of the step."""
        return self.optimizer.blends + 1

    def operations(self, values: int, gradient: int, state: int, master: int) -> list[Operation]:
        """For `values` weights, roundings and decay apart; the other arguments are widths."""
        o = self.optimizer
        along = {"gradient": gradient, "velocity": state}.get(o.direction_format, gradient)
        ops: list[Operation] = [
            ("compare", (o.compares + 2 * self.clips) * values, (gradient,)),
            ("multiply", o.blends * values, (state, CONSTANT_BITS)),
            ("accumulate", o.blends * values, (state,)),
            ("subtract", values, (master,)),
        ]
        if o.linear:
            ops.append(("shift", values, (along,)) if self.shifts else ("multiply", values, (along, CONSTANT_BITS)))
        return ops + [(f"float_{kind}", n * values, (FLOAT_BITS,)) for kind, n in o.float_operations.items()]

    def decay(self, values: int, master: int) -> list[Operation]:
        """What takes a share off `values` weights, its rounding apart."""
        return [("multiply", values, (master, CONSTANT_BITS)), ("subtract", values, (master,))]


def optimizer_costs(chip: Chip, network: Network, rule: Rule) -> OptimizerCosts:
    """As the network's recipe says for the rule. On a chip that keeps no velocity momentum is plain SGD.

    Raises ConfigError where the chip has no place for what the optimizer keeps.
    """
    recipe = network.recipe
    own = recipe.rules.get(rule.name)
    given = {key: getattr(own, key, None) for key in ("optimizer", "weight_decay", "clip")}
    name, decay, clip = (getattr(recipe, key) if value is None else value for key, value in given.items())
    optimizer = OPTIMIZERS[name]
    if optimizer.states and not chip.update_options.momentum:
        if optimizer.states > 1:
            message = f"{optimizer.name} keeps {optimizer.states} states per weight, {chip.name} keeps none"
            raise ConfigError(Problem("recipe.optimizer", f"{message} (update_options.momentum: false): use sgd"))
        optimizer = OPTIMIZERS["sgd"]
    return OptimizerCosts(optimizer, decay > 0, clip is not None, recipe.power_of_two_rates)
