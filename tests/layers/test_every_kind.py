"""What holds for every kind of layer, a new one included: gradients, integers, the way back, inputs left alone."""

import pytest
import torch

from fahw.formats.precision import Precision
from fahw.layers.catalogue import KINDS
from fahw.learn.step import forward, gradients
from fahw.rules.catalogue import RULES
from tests.reference.compare import assert_same_training
from tests.support.emulation import assert_emulation_is_integers
from tests.support.models import batch_of, float_model, graph

OPTIONS = {
    "linear": {"out": 4},
    "conv2d": {"out": 4, "kernel": 2},
    "shortcut": {"out": 5, "stride": 2},
    "dropout": {"p": 0.0},
}
"""What a layer of a kind is given in these networks; poolings have windows that overlap."""
LINEAR = {"kind": "linear", "out": 3}
FLOAT_UNITS = ("batchnorm1d", "batchnorm2d")
"""Kinds that compute in floating point, of which every arithmetic has its own order of operations."""
UNWEIGHTED = sorted(name for name, kind in KINDS.items() if not kind.weighted)


def around(kind):
    """A network with a layer of the kind between layers with weights, one for each that it reads."""
    below = ("a", "b") if KINDS[kind].most_sources > 1 else ("a",)
    options = OPTIONS.get(kind, {"kernel": (2, 4), "stride": 2} if "kernel" in KINDS[kind].spec.model_fields else {})
    entry = {"kind": kind, "name": "it", **options}
    entry |= {"from": below} if len(below) > 1 else {}
    if KINDS[kind].axes == 1:
        first = [{"kind": "linear", "name": name, "out": 5, "from": "input"} for name in below]
        return graph((6,), *first, entry, LINEAR)
    conv = {"kind": "conv2d", "out": 3, "kernel": 3, "padding": 1, "from": "input"}
    last = [] if kind == "flatten" else [{"kind": "flatten"}]
    return graph((2, 5, 6), *({**conv, "name": name} for name in below), entry, *last, LINEAR)


def loss(model, x, labels):
    """The summed cross-entropy, in float64, with the batch's statistics."""
    trace = forward(model.network, model.arithmetic, model.parameters, x)
    return torch.nn.functional.cross_entropy(trace.logits, labels, reduction="sum")


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_gradients_are_the_slopes_of_the_loss(kind):
    """Central differences of the loss by every parameter."""
    network = around(kind)
    model = float_model(network, RULES["bp"], batch=3)
    pixels, labels = batch_of(network, 3)
    x, width = model.arithmetic.encode(pixels, 255), 1e-6

    found = gradients(model, x, labels)

    for name, gradient in found.items():
        for tensor, slopes in (
            (model.parameters[name].weight, gradient.weight),
            (model.parameters[name].bias, gradient.bias),
        ):
            for place, slope in zip(range(tensor.numel()), slopes.flatten(), strict=True):
                values = tensor.view(-1)
                here, sides = values[place].item(), []
                for side in (-width, width):
                    values[place] = here + side
                    sides.append(loss(model, x, labels).item())
                values[place] = here
                assert (sides[1] - sides[0]) / (2 * width) == pytest.approx(slope.item(), rel=1e-4, abs=1e-6), name


@pytest.mark.parametrize("rule", ["bp", "dfa"])
@pytest.mark.parametrize("kind", sorted(KINDS))
def test_integers_are_those_of_the_slow_reference(kind, rule):
    assert_same_training(around(kind), RULES[rule], batch=3, steps=3)


@pytest.mark.parametrize("error", [1, 2, 9])
@pytest.mark.parametrize("activation", [1, 2, 3, 9])
@pytest.mark.parametrize("kind", sorted(KINDS))
def test_integers_are_those_of_the_slow_reference_in_narrow_widths(kind, activation, error):
    """One bit is the sign of the exact result, and not of what would be rounded."""
    precision = Precision(activation=activation, error=error)
    assert_same_training(around(kind), RULES["bp"], precision=precision, batch=4, steps=3)


@pytest.mark.parametrize("kind", sorted(set(KINDS) - set(FLOAT_UNITS)))
def test_integers_in_emulation_are_the_integers(kind):
    """Every operation rounds where a format ends."""
    assert_emulation_is_integers(around(kind), steps=4)


@pytest.mark.parametrize("kind", UNWEIGHTED)
def test_the_way_back_has_an_error_for_every_input_in_its_shape(kind):
    network = around(kind)
    layer, model = network.layer("it"), float_model(network, RULES["bp"], batch=3)
    inputs = [torch.rand(3, *shape, dtype=torch.float64) for shape in layer.in_shapes]
    copies = [x.clone() for x in inputs]

    output, saved = layer.forward(model.arithmetic, model.parameters.get("it"), inputs)
    below, gradient = layer.backward(model.arithmetic, model.parameters.get("it"), saved, torch.rand_like(output))

    assert tuple(output.shape[1:]) == layer.out_shape
    assert [tuple(error.shape[1:]) for error in below] == list(layer.in_shapes)
    assert (gradient is not None) == (layer.params > 0)
    assert all(map(torch.equal, inputs, copies)), "other layers read the inputs too"
