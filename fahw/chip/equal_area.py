"""Rivals of equal area: what a rule leaves free of the feedback memory is built as buffer, where more can stay on the
chip.

A chip without a second weight memory gets the area of all of it; a rule with few feedback weights that of the banks
which they leave empty. Rivals that had to leave this area unused would lose by what nobody would build.
"""

from __future__ import annotations

from functools import lru_cache
from math import ceil

from fahw.chip.area import area_mm2
from fahw.hardware.chip import Chip
from fahw.hardware.memory import Memory


def with_free_area_as_buffer(chip: Chip, area_limit_mm2: float, transposable: bool) -> Chip:
    """The chip with as many more banks of the memory of activations as keep its area within the limit; itself where
    none does, or that memory has no banks, no size of its own, or an area that does not follow its size.

    `transposable`: whether the weight memory is built to be read by rows and by columns.
    """
    buffer, banks = chip.home("activation"), _free_banks(chip, area_limit_mm2, transposable)
    return _enlarged(chip, buffer, banks) if buffer is not None and banks else chip


@lru_cache(maxsize=64)
def _free_banks(chip: Chip, area_limit_mm2: float, transposable: bool) -> int:
    """How many more banks of the memory of activations keep the chip's area within the limit; 0 where that memory has
    none, or no area that follows its size."""
    buffer = chip.home("activation")
    if buffer is None or not buffer.bank_kib or not buffer.kib:
        return 0
    if area_mm2(_enlarged(chip, buffer, 1), transposable) <= area_mm2(chip, transposable):
        return 0
    fewest, most = 0, 1
    while _within(chip, buffer, most, area_limit_mm2, transposable):
        fewest, most = most, 2 * most
    while most - fewest > 1:
        middle = (fewest + most) // 2
        if _within(chip, buffer, middle, area_limit_mm2, transposable):
            fewest = middle
        else:
            most = middle
    return fewest


def _within(chip: Chip, buffer: Memory, banks: int, limit_mm2: float, transposable: bool) -> bool:
    return area_mm2(_enlarged(chip, buffer, banks), transposable) <= limit_mm2 * (1 + 1e-9)


def _enlarged(chip: Chip, buffer: Memory, banks: int) -> Chip:
    size = buffer.kib + banks * buffer.bank
    memories = tuple(
        memory.model_copy(update={"size_kib": size}) if memory.name == buffer.name else memory
        for memory in chip.memories
    )
    return chip.model_copy(update={"memories": memories})


def grown_memory(before: Chip, after: Chip) -> tuple[str, float]:
    """The memory of activations, and by how many KiB the second chip has more of it; no name where it has not."""
    old, new = before.home("activation"), after.home("activation")
    if old is None or new is None or not old.kib or not new.kib or new.kib <= old.kib:
        return "", 0.0
    return old.name, new.kib - old.kib


def with_feedback_fitted(chip: Chip, feedback_bits: int, transposable: bool) -> Chip:
    """The chip with no more banks of its feedback memory than hold `feedback_bits`, and the rest of its area as buffer;
    itself where that memory holds other things, or has no bank to spare."""
    memory = chip.home("feedback")
    if memory is None or memory.holds != ("feedback",) or not memory.bank_kib or not memory.kib:
        return chip
    size = max(1, ceil(feedback_bits / 8192 / memory.bank)) * memory.bank
    if size >= memory.kib:
        return chip
    memories = tuple(
        item.model_copy(update={"size_kib": size}) if item.name == memory.name else item for item in chip.memories
    )
    fitted = chip.model_copy(update={"memories": memories})
    grown = with_free_area_as_buffer(fitted, area_mm2(chip, transposable), transposable)
    return chip if grown is fitted else grown
