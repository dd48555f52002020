"""Pooling by sums: against torch, in all widths, and as torch calls it."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from fahw.errors import ConfigError
from fahw.learn.torch_modules.from_torch import from_torch
from fahw.rules.catalogue import RULES
from tests.reference.compare import assert_same_training
from tests.support.models import chain, float_model, layer, modes, precisions


@given(
    kernel=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    stride=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    size=st.tuples(st.integers(3, 6), st.integers(3, 6)),
)
def test_sums_of_windows_are_torch_s_means_times_their_area(kernel, stride, size):
    pooling = layer("sumpool2d", "p", (2, *size), kernel=kernel, stride=stride)
    unit = float_model(chain((3,), ("linear", {"out": 2})), RULES["bp"]).arithmetic
    x = torch.rand(4, 2, *size, dtype=torch.float64)

    sums, _ = pooling.forward(unit, None, [x])

    assert torch.allclose(sums, nn.functional.avg_pool2d(x, kernel, stride) * kernel[0] * kernel[1])


@settings(max_examples=15)
@given(precision=precisions(), rounding=modes)
def test_sums_of_windows_train_as_the_slow_reference_does_in_all_widths(precision, rounding):
    pooling = ("sumpool2d", {"kernel": (2, 2), "stride": (1, 2), "padding": (0, 1)})
    conv = ("conv2d", {"out": 3, "kernel": (2, 2)})
    network = chain((1, 5, 4), conv, ("relu", {}), pooling, ("flatten", {}), ("linear", {"out": 3}))
    assert_same_training(network, RULES["bp"], precision=precision, rounding=rounding, batch=2)


def test_a_pooling_of_first_powers_is_captured():
    def stack(power):
        return nn.Sequential(nn.Conv2d(1, 2, 3), nn.LPPool2d(power, 2), nn.Flatten(), nn.Linear(8, 3))

    assert [item.kind for item in from_torch(stack(1), (1, 6, 6)).layers] == [
        "conv2d",
        "sumpool2d",
        "flatten",
        "linear",
    ]
    with pytest.raises(ConfigError, match="norm_type=2"):
        from_torch(stack(2), (1, 6, 6))
