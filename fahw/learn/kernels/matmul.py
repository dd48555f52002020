"""Exact products of integer matrices, by the fastest way that is exact on the device.

`torch._int_mm` is five times as fast as float32 on processors with VNNI. Without, oneDNN adds 8-bit products with
saturation in 16 bits, which is wrong, or loops over them, which is ten times as slow as float32; and it leaves its
result unset for some strides of matrices with a single row or column. float32 is exact while sums stay under 2^24
unless a matmul precision flag lowers it. So each way is tried at first use of every shape and layout on the values that
break it, and not used where it fails; and 8-bit products are timed once against float32. The result does not depend on
the way.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cache
from typing import Literal

import torch
from torch import Tensor

from fahw.learn.kernels.device import CPU

Way = Literal["int8", "float32", "float64", "int64"]
WAYS: tuple[Way, ...] = ("int8", "float32", "float64", "int64")
"""Fastest first."""
_MOST_SUMS, _LONGEST_SUM = 1024, 8192
"""Sides of the matrices that a way is tried on, at most; results do not depend on how many there are."""
LONGEST_EXACT = (1 << 10) - 1
"""Products of two bytes whose sum float32 holds whatever they are."""
_BLOCK = 1 << 19
"""Values that are converted at a time."""
_BOUNDS: dict[Way, int] = {"int8": 1 << 31, "float32": 1 << 24, "float64": 1 << 53, "int64": 1 << 63}
_DTYPES: dict[Way, torch.dtype] = {
    "int8": torch.int8, "float32": torch.float32, "float64": torch.float64, "int64": torch.int64,
}  # fmt: skip


def product(a: Tensor, b: Tensor, bound: int, way: Way | None = None, out: Tensor | None = None) -> Tensor:
    """a @ b of integers, exact: int32 (by int8), float32, float64 (in parts by int8 or float32, if they can) or int64
    (which alone wraps, modulo 2^64).

    `a`: (m, k), `b`: (k, n), integers in any type; int8 is multiplied fastest. `bound`: at least k * max|a| * max|b|.
    `way` forces one, and raises ValueError where that is not exact. `out`: int32 (m, n) for the product by
    int8, where results are so large that the operating system clears new memory for each.
    """
    if a.dtype == b.dtype == torch.int8:
        bound = min(bound, a.shape[1] << 14)
        if way is None and not int8_is_fast(a.device):
            return _in_blocks(a, b, bound)
        if way is None and bound >= _BOUNDS["int8"]:  # exact halves, added up, cost little more than one product
            half = a.shape[1] // 2
            parts = (product(a[:, part], b[part], bound) for part in (slice(half), slice(half, None)))
            return next(parts).double().add_(next(parts))
    a, b = _plainly_stored(a), _plainly_stored(b)
    chosen = next((w for w in ((way,) if way else WAYS) if _usable(w, a, b, bound)), None)
    if chosen is None:
        raise ValueError(f"{way} is not exact here: bound {bound}, {a.dtype} x {b.dtype}")
    if chosen == "int8":
        return torch._int_mm(a, b) if out is None else torch._int_mm(a, b, out=out)
    if chosen == "int64":  # the processor's: CUDA multiplies no int64
        return torch.mm(a.cpu().long(), b.cpu().long()).to(a.device)
    return torch.mm(a.to(_DTYPES[chosen]), b.to(_DTYPES[chosen]))


def _in_blocks(a: Tensor, b: Tensor, bound: int) -> Tensor:
    """a @ b of bytes by floats, block by block: what is converted stays in the cache, and sums that 2^24 may not hold
    are added up in float64 of parts that it holds."""
    (m, k), n, flags = a.shape, b.shape[1], matmul_flags()
    if bound >= _BOUNDS["float32"]:
        total = torch.zeros(m, n, dtype=torch.float64)
        for at in range(0, k, LONGEST_EXACT):
            total.add_(_by_floats(_real(a[:, at : at + LONGEST_EXACT]), b[at : at + LONGEST_EXACT], flags))
        return total
    left = _real(a)
    if k * n <= _BLOCK:
        return _by_floats(left, b, flags)
    out, size = torch.empty(m, n), max(64, _BLOCK // k)
    for at in range(0, n, size):
        out[:, at : at + size].copy_(_by_floats(left, b[:, at : at + size], flags))
    return out


def _by_floats(x: Tensor, b: Tensor, flags: tuple[str, ...]) -> Tensor:
    """By float32 if that is exact for the shapes, else by float64."""
    y = _real(b)
    if is_exact("float32", x.shape[0], x.shape[1], y.shape[1], _by_columns(x), _by_columns(y), flags):
        return torch.mm(x, y)
    return torch.mm(x.double(), y.double())


def _real(x: Tensor) -> Tensor:
    """In float32, without gaps, by rows or by columns as it lies."""
    if x.stride(0) == 1 and 1 not in x.shape:
        return x.t().contiguous().float().t()
    return x.contiguous().float()


@cache
def int8_is_fast(device: torch.device) -> bool:
    """Whether bytes multiply faster than float32: measured once on the processor, taken for granted elsewhere."""
    if device != CPU:
        return True
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randint(-128, 128, shape, generator=generator, dtype=torch.int8) for shape in ((64, 256), (256, 512)))

    def least(multiply: Callable[[], object]) -> int:
        times = []
        for _ in range(5):
            start = time.perf_counter_ns()
            multiply()
            times.append(time.perf_counter_ns() - start)
        return min(times)

    try:
        return least(lambda: torch._int_mm(a, b)) < least(lambda: torch.mm(a.float(), b.float()))
    except (RuntimeError, AttributeError):
        return False


def matmul_flags() -> tuple[str, ...]:
    """The global settings that decide how PyTorch multiplies floats."""
    mkldnn = torch.backends.mkldnn
    if not hasattr(mkldnn, "matmul"):  # before torch 2.9
        return str(mkldnn.enabled), torch.get_float32_matmul_precision()
    places = (torch.backends, mkldnn, mkldnn.matmul, getattr(mkldnn, "conv", None), torch.backends.cuda.matmul)
    return str(mkldnn.enabled), *(str(getattr(place, "fp32_precision", "")) for place in places)


def _usable(way: Way, a: Tensor, b: Tensor, bound: int) -> bool:
    if way == "int64":
        return True
    if bound >= _BOUNDS[way] or (way == "int8" and not a.dtype == b.dtype == torch.int8):
        return False
    return way == "float64" or is_exact(
        way, a.shape[0], a.shape[1], b.shape[1], _by_columns(a), _by_columns(b),
        matmul_flags() if way == "float32" else (), a.device,
    )  # fmt: skip


def _plainly_stored(x: Tensor) -> Tensor:
    """Row-major or column-major without gaps; a single row or column, whose strides mean nothing, row-major."""
    rows, columns = x.shape
    if x.stride() == (columns, 1) or (x.stride() == (1, rows) and 1 not in (rows, columns)):
        return x
    if x.stride(0) == 1 and 1 not in (rows, columns):  # columns with gaps: to turn them would take many times as long
        return x.t().contiguous().t()
    return x.contiguous().as_strided((rows, columns), (columns, 1))


def _by_columns(x: Tensor) -> bool:
    return x.stride() != (x.shape[1], 1)


@cache
def is_exact(
    way: Way, m: int, k: int, n: int, a_columns: bool, b_columns: bool, flags: tuple[str, ...] = (),
    device: torch.device = CPU,
) -> bool:  # fmt: skip
    """Whether `way` multiplies worst-case matrices of this shape and layout exactly on the device; tried once.

    For a longer side a shorter one with the same tail is tried.
    """
    m, k, n = _trial_size(m, _MOST_SUMS), _trial_size(k, _LONGEST_SUM), _trial_size(n, _MOST_SUMS)
    return all(
        _agrees(way, _stored(a, a_columns), _stored(b, b_columns), device)
        for tops in ([(128, 128)] if way == "int8" else float32_magnitudes(k))
        for a, b in worst_cases((m, k), (k, n), tops)
    )


def _trial_size(size: int, largest: int) -> int:
    return size if size <= largest else largest + size % 64


def float32_magnitudes(terms: int) -> list[tuple[int, int]]:
    """Magnitudes of two factors that just keep a sum of `terms` products exact: even, and as uneven as can be."""
    most = max(1, ((1 << 24) - 1) // terms)
    even = max(1, int(most**0.5))
    return [(even, even), (most, 1), (1, most)]


def worst_cases(
    a_shape: tuple[int, ...], b_shape: tuple[int, ...], tops: tuple[int, int]
) -> list[tuple[Tensor, Tensor]]:
    """Pairs of float64 tensors: all lowest and highest, and a mixture of the extremes and noise."""
    generator = torch.Generator().manual_seed(sum(a_shape) + 1009 * sum(b_shape))

    def noise(shape: tuple[int, ...], top: int) -> Tensor:
        values = torch.randint(-top, top + (top == 1), shape, generator=generator, dtype=torch.float64)
        extreme = torch.randint(0, 3, shape, generator=generator)
        high = float(max(1, top - 1))
        return torch.where(extreme == 0, -float(top), torch.where(extreme == 1, high, values))

    ends = [(-float(top), float(max(1, top - 1))) for top in tops]
    full = [
        (torch.full(a_shape, x, dtype=torch.float64), torch.full(b_shape, y, dtype=torch.float64))
        for x in ends[0]
        for y in ends[1]
    ]
    return [*full, (noise(a_shape, tops[0]), noise(b_shape, tops[1]))]


def _stored(x: Tensor, by_columns: bool) -> Tensor:
    return x.t().contiguous().t() if by_columns else x


def _agrees(way: Way, a: Tensor, b: Tensor, device: torch.device) -> bool:
    x, y = a.to(device, _DTYPES[way]), b.to(device, _DTYPES[way])
    try:
        result = torch._int_mm(x, y) if way == "int8" else torch.mm(x, y)
    except (RuntimeError, AttributeError):  # not built for this device, or no such shape
        return False
    return torch.equal(result.double().cpu(), a @ b)
