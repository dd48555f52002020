"""Garbage collection, and work that makes very many small objects which hardly refer to themselves."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without_garbage_collection() -> Iterator[None]:
    """A context without garbage collection: a cost is hundreds of thousands of small objects, which it would go through
    again and again (a tenth of the time). What refers to itself is collected afterwards."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
            gc.collect(0)
