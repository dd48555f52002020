"""Pseudo-random generators as a chip file describes them."""

from __future__ import annotations

from fahw.hardware.part import Count, Factor, NotNegative, Sourced

GENERATORS = ("feedback_generator", "rounding_generator")


class Generator(Sourced):
    """A pseudo-random generator."""

    pj_per_bit: NotNegative
    bits_per_cycle: Count
    area_mm2: NotNegative
    uncertainty: Factor = 4.0
