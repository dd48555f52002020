"""The error of a convolution by its products, gathered and scattered, against torch; the counts of both forms."""

import random
from dataclasses import replace
from functools import partial
from math import prod

import numpy as np
import pytest
import torch
from torch.nn import functional

from fahw.errors import ConfigError
from fahw.network.feedback_matrices import layer_stages
from fahw.network.load import load_model
from fahw.rules.catalogue import RULES
from fahw.work.error_forms import error_forms
from fahw.work.layer_gemms import layer_gemm_sizes
from tests.reference.convolution_errors import MODES, forward_macs, gathered, scattered
from tests.support.models import graph, layer
from tests.support.strategies import ROOT

conv = partial(layer, "conv2d", "a")


def random_convolution(draw, modes=("zeros",)):
    """A convolution that fits its image: kernels 1-5, strides and dilations 1-3, groups 1-4."""
    while True:
        groups, mode = draw.choice((1, 1, 2, 4)), draw.choice(modes)
        pair = {name: (draw.randint(low, high), draw.randint(low, high)) for name, low, high in (
            ("kernel", 1, 5), ("stride", 1, 3), ("dilation", 1, 3), ("padding", 0, 3),
        )}  # fmt: skip
        shape = groups * draw.randint(1, 3), draw.randint(1, 14), draw.randint(1, 14)
        try:
            return conv(shape, out=groups * draw.randint(1, 3), groups=groups, padding_mode=mode, **pair)
        except ConfigError:  # does not fit its image
            continue


def operands(convolution, samples, seed):
    """Small whole weights and errors, exact in float64."""
    draw = np.random.default_rng(seed)
    weight = draw.integers(-9, 10, convolution.weight_shape)
    return weight, draw.integers(-9, 10, (samples, *convolution.out_shape))


def torch_error(convolution, weight, error):
    """torch's gradient of the input; with a border of copies through the padding, too."""
    shape, given = (len(error), *convolution.in_shape), (torch.tensor(weight).double(), torch.tensor(error).double())
    options = {"stride": convolution.stride, "dilation": convolution.dilation, "groups": convolution.groups}
    if convolution.padding_mode == "zeros":
        return torch.nn.grad.conv2d_input(shape, *given, padding=convolution.padding, **options).numpy()
    image = torch.zeros(shape, dtype=torch.float64, requires_grad=True)
    rows, columns = convolution.padding
    padded = functional.pad(image, (columns, columns, rows, rows), mode=convolution.padding_mode)
    functional.conv2d(padded, given[0], **options).backward(given[1])
    return image.grad.numpy()


def check(convolution, samples, seed):
    """Both forms give torch's values, and their counts are those of the forward pass seen from the other side."""
    weight, error = operands(convolution, samples, seed)
    forms, right = error_forms(convolution, samples), torch_error(convolution, weight, error)
    assert np.array_equal(gathered(convolution, forms.gather, weight, error), right)
    assert np.array_equal(scattered(convolution, forms.scatter, weight, error), right)
    macs, padding = forward_macs(convolution, samples)
    for form in forms:
        assert form.macs - form.border_macs == macs - padding
        assert form.border_macs >= 0
    assert forms.scatter.macs == macs
    assert [product.sizes for product in forms.scatter.products] == [layer_gemm_sizes(convolution, samples)["error"]]
    held = sum(product.sizes[1] * product.sizes[2] * product.sizes[3] for product in forms.gather.products)
    assert held == convolution.weights or min(convolution.in_shape[1:]) < max(convolution.stride)


def check_all(number, seed, modes=("zeros",)):
    draw = random.Random(seed)
    for case in range(number):
        convolution = random_convolution(draw, modes)
        check(convolution, draw.randint(1, 2), case)


def test_a_sample_of_random_convolutions_gives_torchs_error():
    check_all(25, 1)


def test_convolutions_with_a_border_of_copies_give_torchs_error():
    check_all(25, 2, tuple(MODES)[1:])


@pytest.mark.long
def test_300_random_convolutions_give_torchs_error():
    check_all(300, 3)
    check_all(300, 4, tuple(MODES)[1:])


@pytest.mark.parametrize("dilation", [1, 2])
@pytest.mark.parametrize("kernel", [(1, 1), (3, 3), (5, 3), (7, 1)], ids=str)
@pytest.mark.parametrize("groups", [1, 4])
def test_the_error_of_a_same_convolution_takes_the_macs_of_its_forward_pass(kernel, dilation, groups):
    """With stride 1: one product of the size of the forward pass, its border as many zeros as the padding's."""
    convolution = conv((4, 13, 9), out=8, kernel=kernel, dilation=dilation, padding="same", groups=groups)
    form = error_forms(convolution, 3).gather
    m, n, k, _ = layer_gemm_sizes(convolution, 3)["forward"]
    assert [product.sizes for product in form.products] == [(m, 4 // groups, k * 8 // 4, groups)]
    assert form.macs == 3 * convolution.macs == m * n * k * groups
    assert form.border_macs == error_forms(convolution, 3).scatter.border_macs
    assert form.added == form.zeros == 0


FIGURES = {
    "LeNet's second": ((6, 14, 14), {"out": 16, "kernel": 5}, 1.96),
    "a kernel as large as its image": ((16, 5, 5), {"out": 120, "kernel": 5}, 25.0),
    "AlexNet's first": ((3, 224, 224), {"out": 64, "kernel": 11, "stride": 4, "padding": 2}, 1.037),
    "ResNet's 3 x 3": ((64, 56, 56), {"out": 64, "kernel": 3, "padding": 1}, 1.0),
    "ResNet's 3 x 3 with stride": ((64, 56, 56), {"out": 128, "kernel": 3, "stride": 2, "padding": 1}, 1.0),
    "ResNet's shortcut": ((64, 56, 56), {"out": 128, "kernel": 1, "stride": 2}, 1.0),
    "ResNet's first": ((3, 224, 224), {"out": 64, "kernel": 7, "stride": 2, "padding": 3}, 1.0),
}


@pytest.mark.parametrize(("shape", "options", "ratio"), FIGURES.values(), ids=FIGURES)
def test_macs_of_known_layers_against_their_forward_pass(shape, options, ratio):
    convolution = conv(shape, **options)
    forms = error_forms(convolution, 2)
    assert forms.gather.macs / (2 * convolution.macs) == pytest.approx(ratio, abs=0.0005)
    assert forms.scatter.macs == 2 * convolution.macs


def test_inputs_in_no_window_get_zeros_without_a_product():
    """1 x 1 with stride 2 on 8 x 8: three quarters of the inputs; with groups, dilation and a rest of the division."""
    assert error_forms(conv((3, 8, 8), out=5, kernel=1, stride=2), 2).gather.zeros == 2 * 3 * 48
    form = error_forms(conv((4, 9, 9), out=6, kernel=2, stride=2, dilation=2, groups=2), 1).gather
    assert [product.sizes for product in form.products] == [(25, 2, 12, 2)]
    assert form.zeros == 4 * (81 - 25)


def test_a_linear_layer_is_the_same_in_both_forms():
    gather, scatter = error_forms(layer("linear", "a", (7,), out=5), 3)
    assert [product.sizes for product in gather.products] == [product.sizes for product in scatter.products]
    assert (gather.macs, gather.border_macs, gather.added, scatter.added) == (105, 0, 0, 0)


def test_a_narrowed_matrix_has_its_entries_for_the_outputs():
    """Two entries in a column instead of eight: K and the MACs of both forms shrink alike."""
    convolution = conv((4, 6, 6), out=8, kernel=3, padding=1)
    whole, narrowed = error_forms(convolution, 2), error_forms(convolution, 2, 2)
    assert [product.sizes[2] for product in narrowed.gather.products] == [18]
    for full, few in zip(whole, narrowed, strict=True):
        assert (full.macs, full.border_macs, full.added) == (4 * few.macs, 4 * few.border_macs, few.added)


def test_low_rank_and_a_share_of_the_outputs_are_given_by_their_entries():
    """The second of two matrices, and a core's part of a layer: the forms of the layer that stands for them."""
    network = graph((2, 6, 6), *({"kind": "conv2d", "name": name, "out": 6, "kernel": 3} for name in "ab"))
    convolution = network.layer("b")
    _, wide = layer_stages(network, convolution, replace(RULES["fa"], rank=2))
    assert error_forms(wide, 3) == error_forms(convolution, 3, 2)
    share = replace(convolution, out_shape=(2, 2, 2))
    assert error_forms(share, 3) == error_forms(convolution, 3, 2)


@pytest.mark.parametrize("model", ["alexnet", "lenet5", "mdnet", "resnet18_imagenet", "resnet20", "vgg8"])
def test_both_forms_do_the_forward_pass_of_shipped_networks(model):
    """But for border and padding they take the MACs of the forward pass, and every weight is in one product."""
    for each in load_model(model).weighted:
        if each.convolutional:
            macs, padding = forward_macs(each, 2)
            forms = error_forms(each, 2)
            assert [form.useful_macs for form in forms] == [macs - padding] * 2
            assert sum(prod(product.sizes[1:]) for product in forms.gather.products) == each.weights


def test_a_stride_of_two_as_docs_work_it_out():
    """Every number of the example in docs/model.md section 11."""
    text = (ROOT / "docs" / "model.md").read_text(encoding="utf-8").split("## 11. ")[1].split("**By hand.**")[1]
    forms = error_forms(conv((2, 5, 4), out=3, kernel=3, stride=2, padding=1), 1)
    table = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("| ")
    ]
    assert table[1:] == [row(product) for product in forms.gather.products]
    assert (
        f"Together {forms.gather.macs} MACs, {forms.gather.border_macs} of them by zero: {forms[0].useful_macs}."
        in text
    )
    (scatter,) = forms.scatter.products
    m, n, k, _ = scatter.sizes
    said = " ".join(text.split())
    assert f"M, N, K = {m}, {n}, {k}: {scatter.macs} MACs" in said
    assert f"= {scatter.windows.rows.pairs * scatter.windows.columns.pairs} places of 54" in said
    assert f"35 x 3 x 2 = {scatter.useful_macs} MACs are no padding's" in said
    assert f"It adds up {scatter.added} results." in said
    one, two = (scatter.windows.held(2, rows) for rows in (1, 2))
    assert f"3 x 4 x 2 = {one} sums, of two rows for {two} " in said
    assert f"a halo of 2 x 4 x 2 = {scatter.windows.halo(1)} sums" in said
    assert f"a halo of {scatter.windows.halo(2)}." in said


def row(product):
    """A gathered product as docs/model.md shows it."""
    places = [
        ", ".join(str(residue.first + 2 * number) for number in range(residue.places)) for residue in product.places
    ]
    rows, columns = product.places
    taps, starts = f"{len(rows.taps)} x {len(columns.taps)}", f"{rows.outputs.start}, {columns.outputs.start}"
    counts = (*product.sizes[:3], product.macs, product.macs - product.useful_macs)
    return [*places, taps, starts, *map(str, counts)]
