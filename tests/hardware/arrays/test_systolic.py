"""Cycles and accesses of a systolic array: against SCALE-Sim, and against an array simulated value by value."""

import csv

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fahw.errors import ConfigError
from fahw.hardware.array import Array
from fahw.hardware.arrays.systolic import systolic_cycles
from fahw.hardware.memories.sram import Sram
from fahw.work.counts.accesses import Accesses
from fahw.work.counts.gemm import Gemm, Operand, Stream, gemm_traffic
from tests.support.arrays import mapping_of
from tests.support.strategies import REFERENCE, chip_of, dataflows, small
from tests.validation import cycles
from tests.validation.chips import plain_accesses

# m, n, k, rows, cols, dataflow, SCALE-Sim 3's "Total Cycles" (the index of the last cycle)
GOLDEN = [
    (64, 120, 400, 8, 8, "is", 56799), (64, 120, 400, 8, 8, "os", 49679), (64, 120, 400, 8, 8, "ws", 64499),
    (64, 120, 400, 16, 16, "is", 16599),
    (100, 16, 150, 8, 8, "os", 4263), (100, 16, 150, 8, 32, "is", 4711), (100, 16, 150, 12, 14, "is", 5407),
    (100, 16, 150, 12, 14, "ws", 3535), (100, 16, 150, 32, 8, "os", 1503), (1, 1, 1, 8, 8, "os", 14),
    (33, 129, 17, 8, 8, "os", 2634), (7, 3, 5, 8, 8, "is", 24), (7, 3, 5, 8, 8, "ws", 28),
]  # fmt: skip


def matrix(rows, cols, start):
    return [[(start + 7 * i + 3 * j) % 11 - 5 for j in range(cols)] for i in range(rows)]


def times(a, b):
    return [[sum(x * y for x, y in zip(row, col, strict=True)) for col in zip(*b, strict=True)] for row in a]


def at(values, i, j):
    """An element, 0 outside: folds are padded to the size of the array."""
    return values[i][j] if 0 <= i < len(values) and 0 <= j < len(values[0]) else 0


def output_stationary(a, b, rows, cols):
    """One fold of `os`, cycle by cycle: operands enter skewed at the left and top edge and move one element a cycle.

    Returns the results and the number of cycles until the last element has seen its last operands.
    """
    k = len(b)
    sums = [[0] * cols for _ in range(rows)]
    seen = [[0] * cols for _ in range(rows)]
    right = [[None] * cols for _ in range(rows)]
    down = [[None] * cols for _ in range(rows)]
    cycle = 0
    while any(count < k for row in seen for count in row):
        entering = [at(a, i, cycle - i) if 0 <= cycle - i < k else None for i in range(rows)]
        falling = [at(b, cycle - j, j) if 0 <= cycle - j < k else None for j in range(cols)]
        right = [[entering[i], *right[i][:-1]] for i in range(rows)]
        down = [falling, *down[:-1]]
        for i in range(rows):
            for j in range(cols):
                assert (right[i][j] is None) == (down[i][j] is None)  # operands of one k meet
                if right[i][j] is not None:
                    sums[i][j] += right[i][j] * down[i][j]
                    seen[i][j] += 1
        cycle += 1
    return sums, cycle


def weight_stationary(a, b, rows, cols):
    """One fold of `ws`: the (K x N) tile is shifted in from the top row by row, then A streams, sums move down."""
    m = len(a)
    held = [[0] * cols for _ in range(rows)]
    cycle = 0
    for step in range(rows):
        held = [[at(b, rows - 1 - step, j) for j in range(cols)], *held[:-1]]
        cycle += 1
    right = [[None] * cols for _ in range(rows)]
    sums = [[None] * cols for _ in range(rows)]
    results = [[] for _ in range(cols)]
    start = cycle
    while any(len(column) < m for column in results):
        time = cycle - start
        entering = [at(a, time - i, i) if 0 <= time - i < m else None for i in range(rows)]
        right = [[entering[i], *right[i][:-1]] for i in range(rows)]
        above = [[0] * cols, *sums[:-1]]
        sums = [
            [None if right[i][j] is None else above[i][j] + right[i][j] * held[i][j] for j in range(cols)]
            for i in range(rows)
        ]
        for j in range(cols):
            if sums[-1][j] is not None:
                results[j].append(sums[-1][j])
        cycle += 1
    return [list(row) for row in zip(*results, strict=True)], cycle


def simulated(m, n, k, rows, cols, dataflow):
    """Cycles of the whole product, fold after fold; the product itself is checked against plain sums."""
    a, b = matrix(m, k, 1), matrix(k, n, 2)
    expected = times(a, b)
    total, cycles = [[0] * n for _ in range(m)], 0
    if dataflow == "is":  # the same array, A^T held and B^T streamed
        a, b = [list(row) for row in zip(*b, strict=True)], [list(row) for row in zip(*a, strict=True)]
        m, n = n, m
        total = [[0] * n for _ in range(m)]
        expected = [list(row) for row in zip(*expected, strict=True)]
    for i in range(0, m if dataflow == "os" else k, rows):
        for j in range(0, n, cols):
            if dataflow == "os":
                tile, spent = output_stationary(a[i : i + rows], [row[j : j + cols] for row in b], rows, cols)
                place = i
            else:
                left = [row[i : i + rows] for row in a]
                tile, spent = weight_stationary(left, [row[j : j + cols] for row in b[i : i + rows]], rows, cols)
                place = 0
            cycles += spent
            for x, row in enumerate(tile):
                for y, value in enumerate(row):
                    if place + x < m and j + y < n:
                        total[place + x][j + y] += value
    assert total == expected
    return cycles


@given(small, small, small, st.integers(1, 5), st.integers(1, 5), dataflows)
def test_cycles_are_those_of_an_array_simulated_value_by_value(m, n, k, rows, cols, dataflow):
    """The closed form counts the cycles that a real array needs to compute the product."""
    assert systolic_cycles(m, n, k, rows, cols, dataflow) == simulated(m, n, k, rows, cols, dataflow)


def test_cycles_of_one_by_one():
    """One multiply-accumulate on one element: one cycle; `ws` and `is` first load the operand that stays."""
    assert [systolic_cycles(1, 1, 1, 1, 1, flow) for flow in ("os", "ws", "is")] == [1, 2, 2]


@pytest.mark.parametrize(("m", "n", "k", "rows", "cols", "dataflow", "last"), GOLDEN)
def test_golden_scalesim_cycles(m, n, k, rows, cols, dataflow, last):
    """Counts that SCALE-Sim gave; its "Total Cycles" is the index of the last cycle, one less than their number."""
    assert systolic_cycles(m, n, k, rows, cols, dataflow) == last + 1


def reference_rows():
    path = REFERENCE / "scalesim_cycles.csv"
    if not path.exists():
        pytest.skip("no reference folder beside this checkout")
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def geometry(row):
    names = ("M", "N", "K", "array_rows", "array_cols")
    return (*(int(row[name]) for name in names), row["dataflow"])


def test_every_cycle_count_of_scalesim():
    """All rows of the reference, 442 points with convolutions, odd sizes and arrays that are not square, are exact."""
    rows = reference_rows()
    wrong = [row["row_id"] for row in rows if systolic_cycles(*geometry(row)) != int(row["total_cycles"]) + 1]
    assert len(rows) == 442
    assert not wrong
    assert all(mapping_of(*geometry(row)).folds == int(row["folds"]) for row in rows)


def test_layers_that_are_not_in_the_reference():
    """Random products on arrays of odd sizes, counted by SCALE-Sim: cycles, operand reads and writes are exact."""
    found = cycles.more_cases()
    assert len(found) == 48
    assert [case.name for case in found if any(cycles.gaps_of(case, plain_accesses()))] == []


def memory(name, tensors):
    return Sram(
        name=name, holds=tensors, size_kib=1, bank_kib=1, width_bits=8, read_bits_per_cycle=8, write_bits_per_cycle=8
    )


LEFT, RIGHT, SUMS = memory("a", ("activation",)), memory("b", ("weight",)), memory("c", ("psum",))
ARRAY = Array.model_validate(
    {"name": "x", "rows": 1, "cols": 1, "lanes": 1, "phases": {"forward": "os"}, "memories": ("a", "b", "c")}
)


@pytest.fixture(scope="module")
def accesses(tmp_path_factory):
    """Accesses with nothing spilled; memories one value wide, so that words are values."""
    return Accesses(chip_of(tmp_path_factory.mktemp("chip")), ())


def access_counts(mapping, accesses):
    """Values read of the left and right operand, and partial sums (read, written), as fahw counts them."""
    left, right = (Operand(8, (Stream(m, t, 8),)) for m, t in ((LEFT, "activation"), (RIGHT, "weight")))
    product = Gemm(mapping, left, right, "activation", 8)
    psum = SUMS if mapping.partial_sum_bursts else None
    counts = {(c.component, c.action): c.count for c in gemm_traffic(product, ARRAY, accesses, psum).counts}
    return counts["a", "read"], counts["b", "read"], counts.get(("c", "read"), 0), counts.get(("c", "write"), 0)


def test_every_access_count_of_scalesim(accesses):
    """Operand reads and result writes are SCALE-Sim's, less its over-count of F (R + C) writes under `os`."""
    for row in reference_rows():
        mapping = mapping_of(*geometry(row))
        left, right, psum_reads, psum_writes = access_counts(mapping, accesses)
        assert left == int(row["sram_ifmap_reads"]), row
        assert right == int(row["sram_filter_reads"]), row
        excess = mapping.folds * (mapping.rows + mapping.cols) if mapping.name == "os" else 0
        results = mapping.m * mapping.n  # the last fold of K hands its results on; the others write partial sums
        assert psum_writes + results == int(row["sram_ofmap_writes"]) - excess, row
        assert psum_reads == psum_writes


@given(small, small, small, st.integers(1, 5), st.integers(1, 5), dataflows)
def test_access_counts_fold_by_fold(accesses, m, n, k, rows, cols, dataflow):
    """Reads of operands and partial sums are what a loop over all folds counts."""
    spans = {"os": (m, n, k), "ws": (k, n, m), "is": (k, m, n)}[dataflow]
    counted = [0, 0, 0]
    for top in range(0, spans[0], rows):
        for edge in range(0, spans[1], cols):
            r, c, stream = min(rows, spans[0] - top), min(cols, spans[1] - edge), spans[2]
            reads = {"os": (r * stream, stream * c), "ws": (stream * r, r * c), "is": (r * c, r * stream)}[dataflow]
            counted[0] += reads[0]
            counted[1] += reads[1]
            counted[2] += stream * c if dataflow != "os" and top else 0
    assert access_counts(mapping_of(m, n, k, rows, cols, dataflow), accesses) == (*counted, counted[2])


@given(small, small, small, st.integers(1, 5), st.integers(1, 5), dataflows)
def test_folds_tile_the_product(m, n, k, rows, cols, dataflow):
    """Full and edge folds together cover the spatial plane once, and their number is the number of folds."""
    mapping = mapping_of(m, n, k, rows, cols, dataflow)
    assert sum(s.count for s in mapping.fold_shapes) == mapping.folds
    assert sum(s.count * s.rows * s.cols for s in mapping.fold_shapes) == mapping.spans[0] * mapping.spans[1]
    assert mapping.cycles * rows * cols >= m * n * k
    assert sum(mapping.spans) == m + n + k


@given(small, small, small, st.integers(1, 5), st.integers(1, 5))
def test_ws_and_is_mirror_each_other(m, n, k, rows, cols):
    """`is` on a product is `ws` on its transpose."""
    assert systolic_cycles(m, n, k, rows, cols, "is") == systolic_cycles(n, m, k, rows, cols, "ws")


@pytest.mark.parametrize("position", range(5))
@pytest.mark.parametrize("size", [0, -1])
def test_sizes_below_one_are_refused(position, size):
    """No size may be zero or negative."""
    sizes = [2, 3, 4, 5, 6]
    sizes[position] = size
    with pytest.raises(ConfigError, match="at least 1"):
        systolic_cycles(*sizes, "os")


def test_unknown_dataflow_is_refused():
    """The dataflows are os, ws and is."""
    with pytest.raises(ConfigError, match=r"dataflow: must be one of os, ws, is \(got 'oss'\) \(did you mean 'os'"):
        systolic_cycles(1, 1, 1, 1, 1, "oss")
    with pytest.raises(ConfigError, match=r"k: must be a whole number.*\(got 1.5\)\ndataflow: must be one of"):
        systolic_cycles(1, 1, 1.5, 1, 1, "xx")
