"""The mapper against what others count: fahw's own closed forms (SCALE-Sim's counts), and ZigZag's optimum."""

from dataclasses import replace

import numpy as np
import pytest

from fahw.hardware.arrays.mapping import LEFT, RIGHT
from fahw.hardware.arrays.systolic import SYSTOLIC
from fahw.layers.window_axes import WindowAxis, Windows
from fahw.mapping.mapper import best_mapping
from fahw.mapping.problem import DATAFLOWS, MappedArray, OperandPlace, Prices, ResultPlace, TiledProduct


@pytest.mark.parametrize("seed", range(300))
def test_a_resident_product_without_accumulators_has_the_counts_of_the_closed_forms(seed):
    """Everything there, D = 0: cycles, reads and partial sums are those of `Folded`, whatever the objective."""
    rng = np.random.default_rng(seed)
    m, n, k = (int(size) for size in rng.integers(1, 300, 3))
    rows, cols = (int(size) for size in rng.integers(1, 20, 2))
    flow, trimmed, double = str(rng.choice(["os", "ws", "is"])), bool(rng.random() < 0.3), bool(rng.random() < 0.3)
    form = SYSTOLIC[flow](m, n, k, rows, cols, trimmed, double)
    array = MappedArray(rows, cols, (replace(DATAFLOWS[flow], idle_pj=0.1),), trimmed=trimmed, double_buffered=double)
    there = OperandPlace(8, "buffer", resident=1.0)
    objective = ("energy", "latency", "edp")[seed % 3]
    product = TiledProduct(m, n, k, array, there, there, ResultPlace(32, "buffer"), objective=objective)
    mapped = best_mapping(product)
    reads = dict(form.operand_bursts)
    assert mapped.array_cycles == mapped.latency == form.cycles
    assert mapped.reads == tuple(sum(count * values for count, values in reads[side]) for side in (LEFT, RIGHT))
    assert mapped.partial_sums == sum(count * values for count, values in form.partial_sum_bursts)
    assert (mapped.fetched, mapped.spilled_sums, mapped.dram_bits) == ((0, 0), 0, 0)


SRAM_READ, SRAM_WRITE, DRAM_READ, DRAM_WRITE = 416.16 / 2048, 378.4 / 2048, 700 / 64, 750 / 64
"""pJ per bit of ZigZag's tpu_like."""
WEIGHTS_PER_ELEMENT = 128
ZIGZAG = [
    # layer, channels and image of a 3 x 3 convolution (None: fully connected), M, N, K, uJ, million cycles
    ("conv256_14", (256, 14), 196, 256, 2304, 88.73, 0.1259),
    ("conv64_56", (64, 56), 3136, 64, 576, 68.29, 0.1399),
    ("conv512_7", (512, 7), 49, 512, 4608, 239.65, 0.3005),
    ("fc784_512", None, 128, 512, 784, 62.26, 0.0703),
]
"""Optima of ZigZag 3.9.1 on the tpu_like of its package, each for energy and for latency by itself."""


def on_tpu_like(image, m, n, k, objective):
    """A layer on ZigZag's tpu_like: 32 x 32 elements with 128 weights and one sum each; inputs and results in an SRAM
    of 2 MB that loads while the array rests, weights from DRAM into the elements; images with their padding."""
    multiply = replace(DATAFLOWS["ws"], skewed=False, mac_pj=0.04 + 2 * 0.021 + 0.095)
    array = MappedArray(
        32, 32, (multiply,), accumulators=1, held_folds=WEIGHTS_PER_ELEMENT, double_buffered=True
    )  # fmt: skip
    sum_access = 16 * (SRAM_READ + SRAM_WRITE)
    prices = Prices(
        read=(8 * SRAM_READ, 0.095), fetch=(8 * (DRAM_READ + SRAM_WRITE), 8 * DRAM_READ), partial_sum=sum_access,
        spilled_sum=sum_access + 16 * (DRAM_READ + DRAM_WRITE), result=8 * (SRAM_WRITE + SRAM_READ + DRAM_WRITE),
    )  # fmt: skip
    axis = WindowAxis(image[1], 3, image[1] + 2) if image else None
    return TiledProduct(
        m, n, k, array,
        OperandPlace(8, "sram", buffers=1, overlaps=False), OperandPlace(8, "elements", buffers=1),
        ResultPlace(16, "sram", 8, resident=0.0), prices,
        (("sram", 2 * 2**23), ("elements", 32 * 32 * WEIGHTS_PER_ELEMENT * 8)),
        windows=Windows(1, image[0], axis, axis) if image else None, unfolded="left" if image else None,
        dram_bits_per_cycle=64, objective=objective,
    )  # fmt: skip


@pytest.mark.parametrize("layer", ZIGZAG, ids=lambda layer: layer[0])
def test_zigzags_optimum_at_its_prices_and_registers(layer):
    """Energy within 1 %, cycles within 10 % (they are within 3 %: all but the first weights load behind folds here)."""
    _, image, m, n, k, energy, cycles = layer
    least_energy = best_mapping(on_tpu_like(image, m, n, k, "energy")).energy_pj / 1e6
    least_cycles = best_mapping(on_tpu_like(image, m, n, k, "latency")).latency / 1e6
    assert least_energy == pytest.approx(energy, rel=0.01)
    assert least_cycles == pytest.approx(cycles, rel=0.1)
