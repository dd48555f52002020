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

    def state_words(self, bits: int) -> tuple[int, int]:
        """Number of states that a weight has, and the width of each; `bits` is the width of the optimizer's format."""
        return self.optimizer.states, FLOAT_BITS if self.optimizer.is_float else bits

    @property
    def roundings(self) -> int:
        """Number of roundings per weight: one of every sum with a state, one of the step."""
        return self.optimizer.blends + 1

    def direction_bits(self, gradient_bits: int, state_bits: int) -> int:
        """Width of what a weight moves along, times the rate."""
        widths = {"gradient": gradient_bits, "velocity": state_bits, "sign": 1, "real": FLOAT_BITS}
        return widths[self.optimizer.direction_format]

    def rounded(self, values: int, gradient_bits: int, state_bits: int) -> list[tuple[int, int]]:
        """Number and width of the roundings of the update of `values` weights: of sums with a state, and of the step, a
        product with the rate (a float where the unit is one)."""
        step_bits = self.direction_bits(gradient_bits, state_bits) + CONSTANT_BITS * (not self.optimizer.is_float)
        return [((self.roundings - 1) * values, state_bits + CONSTANT_BITS), (values, step_bits)]

    def operations(self, values: int, gradient_bits: int, state_bits: int, master_bits: int) -> list[Operation]:
        """Vector operations of the update of `values` weights, roundings and decay apart; the other arguments are
        widths."""
        optimizer = self.optimizer
        step_bits = self.direction_bits(gradient_bits, state_bits)
        ops: list[Operation] = [
            ("compare", (optimizer.compares + 2 * self.clips) * values, (gradient_bits,)),
            ("multiply", optimizer.blends * values, (state_bits, CONSTANT_BITS)),
            ("accumulate", optimizer.blends * values, (state_bits,)),
            ("subtract", values, (master_bits,)),
        ]
        if optimizer.linear:
            ops.append(
                ("shift", values, (step_bits,)) if self.shifts else ("multiply", values, (step_bits, CONSTANT_BITS))
            )
        return ops + [
            (f"float_{kind}", number * values, (FLOAT_BITS,)) for kind, number in optimizer.float_operations.items()
        ]

    def decay_operations(self, values: int, master_bits: int) -> list[Operation]:
        """Vector operations of the weight decay of `values` weights, its rounding apart."""
        return [("multiply", values, (master_bits, CONSTANT_BITS)), ("subtract", values, (master_bits,))]


def optimizer_costs(chip: Chip, network: Network, rule: Rule) -> OptimizerCosts:
    """The optimizer of the network's recipe for the rule. On a chip that keeps no velocity momentum is plain SGD.

    Raises ConfigError where the chip has no place for what the optimizer keeps.
    """
    recipe = network.recipe
    rule_recipe = recipe.rules.get(rule.name)
    rule_values = {key: getattr(rule_recipe, key, None) for key in ("optimizer", "weight_decay", "clip")}
    name, decay, clip = (getattr(recipe, key) if value is None else value for key, value in rule_values.items())
    optimizer = OPTIMIZERS[name]
    if optimizer.states and not chip.update_options.momentum:
        if optimizer.states > 1:
            message = f"{optimizer.name} keeps {optimizer.states} states per weight, {chip.name} keeps none"
            raise ConfigError(Problem("recipe.optimizer", f"{message} (update_options.momentum: false): use sgd"))
        optimizer = OPTIMIZERS["sgd"]
    return OptimizerCosts(optimizer, decay > 0, clip is not None, recipe.power_of_two_rates)
