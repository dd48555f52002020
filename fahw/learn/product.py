"""Exact products of integer matrices, by the fastest way that is exact on this processor.

`torch._int_mm` is five times as fast as float32 but wrong where oneDNN adds 8-bit products with saturation in 16 bits
(processors without VNNI); float32 is exact while sums stay under 2^24 unless a matmul precision flag lowers it. So
each way is tried at first use of every shape and layout on the values that break it, and not used where it fails.
"""

from __future__ import annotations

from functools import cache
from typing import Literal

import torch
from torch import Tensor

Way = Literal["int8", "float32", "float64", "int64"]
WAYS: tuple[Way, ...] = ("int8", "float32", "float64", "int64")
"""Fastest first."""
_BOUNDS: dict[Way, int] = {"int8": 1 << 31, "float32": 1 << 24, "float64": 1 << 53, "int64": 1 << 63}
_DTYPES: dict[Way, torch.dtype] = {
    "int8": torch.int8, "float32": torch.float32, "float64": torch.float64, "int64": torch.int64,
}  # fmt: skip


def product(a: Tensor, b: Tensor, bound: int, way: Way | None = None) -> Tensor:
    """a @ b of integers, exact: int32 (by int8), float32, float64 or int64 (which alone wraps, modulo 2^64).

    `a`: (m, k), `b`: (k, n), integers in any type; int8 is multiplied fastest. `bound`: at least k * max|a| * max|b|.
    `way` forces one, and raises ValueError where that is not exact.
    """
    chosen = next((w for w in ((way,) if way else WAYS) if _usable(w, a, b, bound)), None)
    if chosen is None:
        raise ValueError(f"{way} is not exact here: bound {bound}, {a.dtype} x {b.dtype}")
    if chosen == "int8":
        return torch._int_mm(a, b)
    return torch.mm(a.to(_DTYPES[chosen]), b.to(_DTYPES[chosen]))


def matmul_flags() -> tuple[str, bool]:
    """The global settings that decide how PyTorch multiplies floats."""
    return torch.get_float32_matmul_precision(), bool(torch.backends.mkldnn.enabled)


def _usable(way: Way, a: Tensor, b: Tensor, bound: int) -> bool:
    if way == "int64":
        return True
    if bound >= _BOUNDS[way] or (way == "int8" and not a.dtype == b.dtype == torch.int8):
        return False
    return way == "float64" or is_exact(
        way, a.shape[0], a.shape[1], b.shape[1], *_layout(a), *_layout(b), matmul_flags()
    )


def _layout(x: Tensor) -> tuple[bool]:
    """Whether the matrix is stored by columns."""
    return (x.stride(0) == 1 and x.shape[0] > 1,)


@cache
def is_exact(way: Way, m: int, k: int, n: int, a_columns: bool, b_columns: bool, flags: tuple[str, bool]) -> bool:
    """Whether `way` multiplies worst-case matrices of this shape and layout exactly; tried once."""
    top = 128 if way == "int8" else max(1, int(((1 << 24) / k) ** 0.5))
    return all(_agrees(way, a, b) for a, b in _worst_cases(m, k, n, top, a_columns, b_columns))


def _worst_cases(m: int, k: int, n: int, top: int, a_columns: bool, b_columns: bool) -> list[tuple[Tensor, Tensor]]:
    """Pairs of float64 matrices in the given layouts: all lowest, highest by lowest, and mixed extremes and noise."""
    generator = torch.Generator().manual_seed(m * 1_000_003 + k * 1009 + n)
    low, high = -top, top - 1

    def noise(rows: int, columns: int) -> Tensor:
        values = torch.randint(low, high + 1, (rows, columns), generator=generator, dtype=torch.float64)
        extreme = torch.randint(0, 3, (rows, columns), generator=generator)
        return torch.where(extreme == 0, float(low), torch.where(extreme == 1, float(high), values))

    full = [torch.full((m, k), float(v), dtype=torch.float64) for v in (low, high)]
    other = [torch.full((k, n), float(v), dtype=torch.float64) for v in (low, high)]
    pairs = [(full[0], other[0]), (full[1], other[0]), (full[0], other[1]), (full[1], other[1])]
    pairs.append((noise(m, k), noise(k, n)))
    return [(_stored(a, a_columns), _stored(b, b_columns)) for a, b in pairs]


def _stored(x: Tensor, columns: bool) -> Tensor:
    return x.t().contiguous().t() if columns else x


def _agrees(way: Way, a: Tensor, b: Tensor) -> bool:
    x, y = a.to(_DTYPES[way]), b.to(_DTYPES[way])
    try:
        result = torch._int_mm(x, y) if way == "int8" else torch.mm(x, y)
    except (RuntimeError, AttributeError):  # not built for this processor, or no such shape
        return False
    return torch.equal(result.double(), a @ b)
