"""Activations by table: values and slopes in integers against their own formulas, and what torch calls them."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from torch import nn

from fahw.formats.lookup_tables import function_table
from fahw.layers.activation import Silu
from fahw.learn.torch_modules.from_torch import from_torch
from fahw.rules.catalogue import RULES
from tests.reference.compare import assert_same_training
from tests.support.models import mlp, modes, precisions


@pytest.mark.parametrize("frac_bits", [0, 4, 6])
@pytest.mark.parametrize("bits", [4, 8, 10])
def test_tables_of_silu_are_within_half_a_step_of_torch_s(bits, frac_bits):
    """The function in the input's own fraction bits, and its derivative in words with two bits before the point."""
    words = np.arange(-(2 ** (bits - 1)), 2 ** (bits - 1))
    x = torch.tensor(words * 2.0**-frac_bits, requires_grad=True)
    y = nn.functional.silu(x)
    y.sum().backward()

    value = function_table(Silu.value, bits, frac_bits, frac_bits) * 2.0**-frac_bits
    slope = function_table(Silu.derivative, bits, frac_bits, bits - 2) * 2.0 ** (2 - bits)

    assert np.abs(value - y.detach().numpy()).max() <= 2.0 ** -(frac_bits + 1) + 1e-9
    assert np.abs(slope - x.grad.numpy()).max() <= 2.0 ** (1 - bits) + 1e-9


@settings(max_examples=15)
@given(precision=precisions(), rounding=modes)
def test_silu_trains_as_the_slow_reference_does_in_all_widths(precision, rounding):
    network = mlp(6, 5, 5, 3, act="silu")
    assert_same_training(network, RULES["bp"], precision=precision, rounding=rounding, batch=2)


def test_silu_is_captured():
    network = from_torch(nn.Sequential(nn.Linear(4, 5), nn.SiLU(), nn.Linear(5, 2)), (4,))

    assert [layer.kind for layer in network.layers] == ["linear", "silu", "linear"]
