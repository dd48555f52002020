"""Sparse and low-rank feedback matrices: where entries lie, and how large they are."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fahw.network.feedback_matrices import feedback_matrices, kept_rows, layer_matrices
from fahw.rules.catalogue import RULES
from tests.support.models import float_model, mlp

SPARSE, LOW = replace(RULES["dfa"], density=0.3), replace(RULES["dfa"], rank=4)


@given(
    rows=st.integers(1, 40), columns=st.integers(1, 9), groups=st.integers(1, 3), density=st.floats(0.01, 1),
    seed=st.integers(0, 99),
)  # fmt: skip
def test_every_column_has_as_many_entries_each_in_a_block_of_its_own(rows, columns, groups, density, seed):
    """And the place in a block fits the bits that are stored for it."""
    rule = replace(RULES["fa"], density=density)
    (matrix,) = feedback_matrices("a", (groups * rows, columns, 2), 1, rule, groups)
    where = kept_rows(matrix, seed)
    assert matrix.fan_in == max(1, round(density * rows))
    assert where.shape == matrix.stored_shape == (groups * matrix.fan_in, columns, 2)
    for group in range(groups):
        for block in range(matrix.fan_in):
            first = group * rows + block * rows // matrix.fan_in
            behind = group * rows + (block + 1) * rows // matrix.fan_in
            places = where[group * matrix.fan_in + block]
            assert (places >= first).all()
            assert (places < behind).all()
            assert behind - first <= 2**matrix.index_bits
    assert matrix.is_sparse == (matrix.index_bits > 0)


def test_the_rows_of_a_block_are_drawn_alike():
    """Of 30,000 columns, each of ten rows has a tenth, within five standard errors."""
    (matrix,) = feedback_matrices("a", (10, 30_000), 1, replace(RULES["dfa"], density=0.1))
    number = np.bincount(kept_rows(matrix, 0).ravel(), minlength=10)
    assert abs(number - 3000).max() < 5 * (30_000 * 0.1 * 0.9) ** 0.5
    assert not np.array_equal(kept_rows(matrix, 0), kept_rows(matrix, 1))


@pytest.mark.parametrize("rule", [SPARSE, LOW, replace(LOW, path="layerwise"), replace(SPARSE, path="layerwise")])
def test_an_error_keeps_the_size_that_the_whole_matrix_gives_it(rule):
    """The error below a layer of 400 outputs and 600 inputs has the deviation of fa's, or of dfa's from 50 outputs."""
    network, sizes = mlp(600, 600, 400, 50), []
    layer = network.weighted[1]
    for each in (rule, replace(rule, density=1.0, rank=None)):
        model = float_model(network, each)
        words = model.feedback.words(layer, model.parameters[layer.name].weight, 0).double()
        error = torch.randn(200, len(words), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        sizes.append(float((error @ words).std()))
    assert sizes[0] == pytest.approx(sizes[1], rel=0.1 if rule.rank is None else 0.35)


def test_the_product_of_two_matrices_has_their_rank_and_shape():
    network = mlp(30, 20, 15, 12)
    model, layer = float_model(network, LOW), network.weighted[1]
    words = model.feedback.words(layer, model.parameters[layer.name].weight, 0)
    narrow, wide = layer_matrices(network, layer, LOW)
    assert (narrow.shape, wide.shape) == ((12, 4), (4, 20))
    assert words.shape == (12, 20)
    assert int(torch.linalg.matrix_rank(words)) == 4


def test_density_one_is_the_whole_matrix():
    network = mlp(30, 20, 15, 12)
    assert layer_matrices(network, network.weighted[1], RULES["dfa"]) == layer_matrices(
        network, network.weighted[1], replace(RULES["dfa"], density=0.999)
    )
