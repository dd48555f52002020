"""The weights of a network have one owner: what learns lies in flat arrays from the start, and stays there."""

import pytest
import torch

from fahw.learn.state.parameters import FlatArrays, Slice
from fahw.learn.step import step
from fahw.network.recipe import Tuning
from fahw.rules.catalogue import RULES
from tests.support.models import batch_of, convolutional, integer_model, is_flat


@pytest.mark.parametrize("optimizer", ["sgd", "momentum", "adam"])
@pytest.mark.parametrize("rule", ["bp", "last"])
def test_tensors_are_views_before_the_first_step_and_the_same_ones_after_it(rule, optimizer):
    model, _ = integer_model(convolutional(), RULES[rule], tuning=Tuning(optimizer=optimizer))
    before = {name: (p.weight, p.master, p.bias, *p.states, *p.bias_states) for name, p in model.parameters.items()}
    assert is_of_learning(model)
    pixels, labels = batch_of(model.network, 4)

    step(model, model.arithmetic.encode(pixels, 255), labels, 0.3, 0)

    for name, p in model.parameters.items():
        after = (p.weight, p.master, p.bias, *p.states, *p.bias_states)
        assert all(x is y for x, y in zip(before[name], after, strict=True)), name
    assert is_of_learning(model)


def is_of_learning(model):
    """Whether the flat arrays hold the layers that learn and no others."""
    learning = {each.layer for each in model.parameters.arrays.slices}
    return is_flat(model) and learning == model.path.roles.learns


def test_blocks_cut_tensors_where_they_end():
    """Ten elements of two tensors in blocks of four: the second tensor's start in the first block is its element 0."""
    slices = Slice("a", False, 0, 3), Slice("b", True, 3, 10)
    numbers = torch.arange(10.0)
    arrays = FlatArrays(numbers, numbers.to(torch.int8), (-numbers,), slices)

    blocks = dict(arrays.cut(4))

    assert list(blocks) == [0, 4, 8]
    assert [block.slices for block in blocks.values()] == [
        (Slice("a", False, 0, 3), Slice("b", True, 3, 4)),
        (Slice("b", True, 0, 4, first=1),),
        (Slice("b", True, 0, 2, first=5),),
    ]
    blocks[4].master.zero_()
    assert numbers.tolist() == [0, 1, 2, 3, 0, 0, 0, 0, 8, 9], "views, not copies"
