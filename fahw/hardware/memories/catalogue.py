"""The kinds of on-chip memories: a new kind is a module and its line here."""

from __future__ import annotations

from functools import reduce
from operator import or_
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

from pydantic import BeforeValidator, Field

from fahw.hardware.memories.mram import Mram
from fahw.hardware.memories.prng import Prng
from fahw.hardware.memories.register import Register
from fahw.hardware.memories.rom import Rom
from fahw.hardware.memories.sram import Sram
from fahw.hardware.memory import Memory
from fahw.technology.constant import KINDS

MEMORY_KINDS: tuple[type[Memory], ...] = (
    Sram,
    Rom,
    Register,
    Prng,
    Mram,
)
CONSTANT_KINDS = tuple(dict.fromkeys((*KINDS, *(kind.constant_kind for kind in MEMORY_KINDS))))
"""The kinds of constants that are uncertain together, those that a kind of memory adds included."""


def _with_kind(value: Any) -> Any:
    """The mapping of a memory; where it names no kind, it is an SRAM."""
    return {"kind": "sram", **value} if isinstance(value, dict) else value


if TYPE_CHECKING:
    AnyMemory: TypeAlias = Memory
else:
    AnyMemory = Annotated[reduce(or_, MEMORY_KINDS), Field(discriminator="kind"), BeforeValidator(_with_kind)]
"""The schema of a memory: that of the kind that its `kind` names."""
