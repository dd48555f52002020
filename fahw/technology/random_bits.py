"""Energy of random bits: linear-feedback shift registers that leap forward, and stochastic rounding with them."""

from __future__ import annotations

from fahw.errors import ConfigError, Problem
from fahw.technology.constant import Constant
from fahw.technology.operations import ALADDIN, add_pj, logic_constant, weighted_sum

LFSR_FACTOR = 2.0
"""Assumed: spread of gate counts. A programmable generator (0.57 pJ/bit) is another circuit."""
_REGISTER_PJ = 0.009
_XOR_TREE_PJ = 0.002  # assumed: 3.5 two-input XORs of 0.57 fJ per fresh bit


def lfsr_pj_per_bit(register_bits: int, bits_per_cycle: int, node_nm: int) -> Constant:
    """Energy of one fresh bit: all flip-flops are clocked per cycle, and a tree of XORs makes each of the cycle's bits.

    Raises ConfigError unless 1 <= bits_per_cycle <= register_bits.
    """
    if not 1 <= bits_per_cycle <= register_bits:
        message = f"a register of {register_bits} bits leaps 1 to {register_bits} bits per cycle (got {bits_per_cycle})"
        raise ConfigError(Problem("lfsr", message))
    value = _REGISTER_PJ * register_bits / bits_per_cycle + _XOR_TREE_PJ
    source = f"{ALADDIN}: registers and XORs of a {register_bits}-bit LFSR, {bits_per_cycle} bits per cycle"
    return logic_constant(value, node_nm, source, factor=LFSR_FACTOR)


def programmable_prng_pj_per_bit() -> Constant:
    """Energy of one bit of a generator with programmable statistics, at 65 nm."""
    return Constant(0.57, "arXiv 2501.00193, 65 nm, post-layout", "generator", 1.5)


def stochastic_rounding_pj(value_bits: int, random_bits: int, node_nm: int) -> Constant:
    """Energy of rounding one value: `random_bits` of a 32-bit leap-forward LFSR, an addition as wide as the wider."""
    random, sum_ = lfsr_pj_per_bit(32, 32, node_nm), add_pj(max(value_bits, random_bits), node_nm)
    parts = [(random_bits, random), (1.0, sum_)] if value_bits else []
    return weighted_sum(parts, f"{random.source}; {sum_.source}", LFSR_FACTOR)
