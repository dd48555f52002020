"""Activations: values and slopes in integers against their own formulas or torch's, and what torch calls them."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from fahw.formats.lookup_tables import function_table
from fahw.layers.activation import Silu
from fahw.learn.torch_modules.from_torch import from_torch
from fahw.network.recipe import Ranges, Tuning
from fahw.rules.catalogue import RULES
from tests.reference.compare import assert_same_training
from tests.support.models import float_model, integer_model, mlp, modes, precisions


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


RELU6 = mlp(6, 5, 5, 3, act="relu6")


def there_and_back(arithmetic, x):
    """The outputs of the first ReLU6, and the errors of 1 that pass it."""
    relu6 = RELU6.layers[1]
    output, saved = relu6.forward(arithmetic, None, [x.clone()])
    (below,), _ = relu6.backward(arithmetic, None, saved, torch.ones_like(x))
    return output, below


def test_relu6_is_torch_s():
    x = torch.tensor([[-1.0, 0.5, 3.0, 5.5, 6.5, 100.0]], dtype=torch.float64, requires_grad=True)
    nn.functional.relu6(x).sum().backward()

    output, below = there_and_back(float_model(RELU6, RULES["bp"]).arithmetic, x.detach())

    assert torch.equal(output, nn.functional.relu6(x.detach()))
    assert torch.equal(below, x.grad)


@pytest.mark.parametrize(("activation", "unit", "limit"), [(4, 1 / 32, 127), (8, 1 / 16, 96), (256, 2, 3)])
def test_relu6_ends_at_the_word_of_6_or_the_top_word(activation, unit, limit):
    """8-bit words: those of a range of 4 end before 6, in those of 256 a unit is 2. The last lets no error through."""
    model, _ = integer_model(RELU6, RULES["bp"], tuning=Tuning(ranges=Ranges(activation=activation)))
    words = torch.arange(-128, 128, dtype=torch.int8)

    output, below = there_and_back(model.arithmetic, words)

    assert output.max() == limit == min(127, 6 / unit)
    assert torch.equal(output, words.clamp(0, limit))
    assert torch.equal(below, ((words > 0) & (words < limit)).to(torch.int8))


@settings(max_examples=25)
@given(precision=precisions(), rounding=modes, activation=st.sampled_from((0.5, 4.0, 8.0, 64.0, 1024.0)))
def test_relu6_trains_as_the_slow_reference_does_in_all_widths(precision, rounding, activation):
    tuning = Tuning(ranges=Ranges(activation=activation))
    assert_same_training(RELU6, RULES["bp"], tuning=tuning, precision=precision, rounding=rounding, batch=2)


def test_relu6_is_captured():
    """As a module and as a function."""

    class Functional(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.last = nn.Linear(4, 5), nn.Linear(5, 2)

        def forward(self, x):
            return self.last(nn.functional.relu6(self.first(x), inplace=True))

    for module in (nn.Sequential(nn.Linear(4, 5), nn.ReLU6(), nn.Linear(5, 2)), Functional()):
        assert [layer.kind for layer in from_torch(module, (4,)).layers] == ["linear", "relu6", "linear"]
