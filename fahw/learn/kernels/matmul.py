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
"""All ways to multiply, fastest first."""
_MOST_SUMS, _LONGEST_SUM = 1024, 8192
"""The longest sides of the matrices that a way is tried on: how many sums (rows or columns of the result), and how many
terms each sum has. The results of trainings do not depend on them."""
LONGEST_EXACT = (1 << 10) - 1
"""How many products of two bytes float32 adds up exactly, whatever the bytes are."""
_BLOCK = 1 << 19
"""How many values are converted to float32 at a time."""
_BOUNDS: dict[Way, int] = {"int8": 1 << 31, "float32": 1 << 24, "float64": 1 << 53, "int64": 1 << 63}
_DTYPES: dict[Way, torch.dtype] = {
    "int8": torch.int8, "float32": torch.float32, "float64": torch.float64, "int64": torch.int64,
}  # fmt: skip


def exact_matmul(a: Tensor, b: Tensor, bound: int, way: Way | None = None, out: Tensor | None = None) -> Tensor:
    """The exact matrix product a @ b of integers, (m, n): int32 (by int8), float32, float64 (in parts by int8 or
    float32, if they can) or int64 (which alone wraps, modulo 2^64).

    `a`: (m, k), `b`: (k, n), integers in any type; int8 is multiplied fastest. `bound`: at least k * max|a| * max|b|.
    `way` forces a way; raises ValueError where that way is not exact. `out`: int32 (m, n) for the product by int8,
    where results are so large that the operating system clears new memory for each.
    """
    if a.dtype == b.dtype == torch.int8:
        bound = min(bound, a.shape[1] << 14)
        if way is None and not int8_is_fast(a.device):
            return _in_blocks(a, b, bound)
        if way is None and bound >= _BOUNDS["int8"]:  # exact halves, added up, cost little more than one product
            half = a.shape[1] // 2
            halves = (exact_matmul(a[:, terms], b[terms], bound) for terms in (slice(half), slice(half, None)))
            return next(halves).double().add_(next(halves))
    a, b = _plainly_stored(a), _plainly_stored(b)
    fastest = next((w for w in ((way,) if way else WAYS) if _usable(w, a, b, bound)), None)
    if fastest is None:
        raise ValueError(f"{way} is not exact here: bound {bound}, {a.dtype} x {b.dtype}")
    if fastest == "int8":
        return torch._int_mm(a, b) if out is None else torch._int_mm(a, b, out=out)
    if fastest == "int64":  # the processor's: CUDA multiplies no int64
        return torch.mm(a.cpu().long(), b.cpu().long()).to(a.device)
    return torch.mm(a.to(_DTYPES[fastest]), b.to(_DTYPES[fastest]))


def _in_blocks(a: Tensor, b: Tensor, bound: int) -> Tensor:
    """The product a @ b of bytes, computed by floats block by block: what is converted stays in the cache, and sums
    that can pass 2^24 are added up in float64 from partial sums that cannot."""
    (m, k), n, flags = a.shape, b.shape[1], matmul_flags()
    if bound >= _BOUNDS["float32"]:
        total = torch.zeros(m, n, dtype=torch.float64)
        for start in range(0, k, LONGEST_EXACT):
            terms = slice(start, start + LONGEST_EXACT)
            total.add_(_by_floats(_as_float32(a[:, terms]), b[terms], flags))
        return total
    a_float32 = _as_float32(a)
    if k * n <= _BLOCK:
        return _by_floats(a_float32, b, flags)
    out, width = torch.empty(m, n), max(64, _BLOCK // k)
    for start in range(0, n, width):
        out[:, start : start + width].copy_(_by_floats(a_float32, b[:, start : start + width], flags))
    return out


def _by_floats(a: Tensor, b: Tensor, flags: tuple[str, ...]) -> Tensor:
    """The product a @ b, `a` in float32 already, computed in float32 if that is exact for the shapes, else in
    float64."""
    b_float32 = _as_float32(b)
    if is_exact("float32", a.shape[0], a.shape[1], b_float32.shape[1], _by_columns(a), _by_columns(b_float32), flags):
        return torch.mm(a, b_float32)
    return torch.mm(a.double(), b_float32.double())


def _as_float32(x: Tensor) -> Tensor:
    """The matrix in float32 without gaps, row-major or column-major as `x` lies."""
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

    def shortest_ns(multiply: Callable[[], object]) -> int:
        times = []
        for _ in range(5):
            start = time.perf_counter_ns()
            multiply()
            times.append(time.perf_counter_ns() - start)
        return min(times)

    try:
        return shortest_ns(lambda: torch._int_mm(a, b)) < shortest_ns(lambda: torch.mm(a.float(), b.float()))
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
    """The matrix row-major or column-major without gaps; a single row or column, whose strides mean nothing,
    row-major."""
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
        _agrees(way, _laid_out(a, a_columns), _laid_out(b, b_columns), device)
        for magnitudes in ([(128, 128)] if way == "int8" else float32_magnitudes(k))
        for a, b in worst_cases((m, k), (k, n), magnitudes)
    )


def _trial_size(size: int, largest: int) -> int:
    return size if size <= largest else largest + size % 64


def float32_magnitudes(terms: int) -> list[tuple[int, int]]:
    """Magnitudes of two factors that just keep a sum of `terms` products exact: even, and as uneven as can be."""
    most = max(1, ((1 << 24) - 1) // terms)
    even = max(1, int(most**0.5))
    return [(even, even), (most, 1), (1, most)]


def worst_cases(
    a_shape: tuple[int, ...], b_shape: tuple[int, ...], magnitudes: tuple[int, int]
) -> list[tuple[Tensor, Tensor]]:
    """Pairs of float64 tensors whose magnitudes reach `magnitudes`: all lowest and highest values, and a mixture of the
    extremes and noise."""
    generator = torch.Generator().manual_seed(sum(a_shape) + 1009 * sum(b_shape))

    def noise(shape: tuple[int, ...], top: int) -> Tensor:
        values = torch.randint(-top, top + (top == 1), shape, generator=generator, dtype=torch.float64)
        extreme = torch.randint(0, 3, shape, generator=generator)
        high = float(max(1, top - 1))
        return torch.where(extreme == 0, -float(top), torch.where(extreme == 1, high, values))

    ends = [(-float(top), float(max(1, top - 1))) for top in magnitudes]
    full = [
        (torch.full(a_shape, a_value, dtype=torch.float64), torch.full(b_shape, b_value, dtype=torch.float64))
        for a_value in ends[0]
        for b_value in ends[1]
    ]
    return [*full, (noise(a_shape, magnitudes[0]), noise(b_shape, magnitudes[1]))]


def _laid_out(x: Tensor, by_columns: bool) -> Tensor:
    return x.t().contiguous().t() if by_columns else x


def _agrees(way: Way, a: Tensor, b: Tensor, device: torch.device) -> bool:
    x, y = a.to(device, _DTYPES[way]), b.to(device, _DTYPES[way])
    try:
        result = torch._int_mm(x, y) if way == "int8" else torch.mm(x, y)
    except (RuntimeError, AttributeError):  # not built for this device, or no such shape
        return False
    return torch.equal(result.double().cpu(), a @ b)
