"""Construction of layers from a model file's specifications: output shapes, and why a layer does not fit its inputs."""

from __future__ import annotations

from math import prod

from fahw.errors import ConfigError, Problem
from fahw.layers.layer import IMAGES, ROWS, Kind, Layer, Pair, Shape, output_size
from fahw.layers.schema import Conv2dSpec, DropoutSpec, LayerSpec, LinearSpec, PoolSpec, ShortcutSpec


def make_layer(spec: LayerSpec, name: str, *shapes: Shape, sources: tuple[str, ...] = ()) -> Layer:
    """The layer that `spec` describes, on inputs of `shapes`, one per source (one layer, save for `add`).

    Raises ConfigError with what is wrong where the inputs do not fit.
    """
    try:
        return _make(spec, name, shapes, sources)
    except _Misfit as misfit:
        raise ConfigError(Problem(name, str(misfit))) from None


class _Misfit(Exception):  # noqa: N818
    """A layer does not fit its inputs; the text says why."""


def _make(spec: LayerSpec, name: str, shapes: tuple[Shape, ...], sources: tuple[str, ...]) -> Layer:
    """The layer of `make_layer`. Raises _Misfit where the inputs do not fit."""
    kind, shape = spec.kind, shapes[0]
    _check_inputs(kind, shapes)
    if isinstance(spec, LinearSpec):
        return Layer(name, kind, shape, (spec.out,), bias=spec.bias, sources=sources)
    if isinstance(spec, Conv2dSpec):
        return _convolution(spec, name, shape, sources)
    if isinstance(spec, PoolSpec):
        return _pooling(spec, name, shape, sources)
    if isinstance(spec, ShortcutSpec):
        return _shortcut(spec, name, shape, sources)
    out = (prod(shape),) if kind == "flatten" else shape
    return Layer(name, kind, shape, out, sources=sources, dropout=spec.p if isinstance(spec, DropoutSpec) else 0.0)


def _check_inputs(kind: Kind, shapes: tuple[Shape, ...]) -> None:
    """Raise _Misfit unless a layer of this kind takes inputs of this number and these shapes."""
    if kind == "add" and len(shapes) < 2:
        raise _Misfit("add needs two layers or more: from: [a, b]")
    if kind != "add" and len(shapes) > 1:
        raise _Misfit(f"{kind} reads one layer, not {len(shapes)}; an add joins several")
    if len(set(shapes)) > 1:
        raise _Misfit(f"add needs inputs of one shape, gets {' and '.join(str(list(shape)) for shape in shapes)}")
    shape = shapes[0]
    if kind in ROWS and len(shape) != 1:
        advice = "put a flatten before it" if kind == "linear" else "use batchnorm2d"
        raise _Misfit(f"{kind} needs a flat input, gets {list(shape)}: {advice}")
    if kind in IMAGES and len(shape) != 3:
        raise _Misfit(f"{kind} needs an input of [channels, height, width], gets {list(shape)}")


def _convolution(spec: Conv2dSpec, name: str, shape: Shape, sources: tuple[str, ...]) -> Layer:
    """The convolution on images of `shape`. Raises _Misfit for groups, padding or a kernel that do not fit them."""
    kernel, stride, dilation = _as_pair(spec.kernel), _as_pair(spec.stride), _as_pair(spec.dilation)
    padding = _same_padding(kernel, stride, dilation) if spec.padding == "same" else _as_pair(spec.padding)
    for what, channels in (("input", shape[0]), ("output", spec.out)):
        if channels % spec.groups:
            raise _Misfit(f"groups of {spec.groups} do not divide its {channels} {what} channels")
    # Padding can repeat only pixels that the image has: these are torch's own limits.
    limits = {"reflect": [size - 1 for size in shape[1:]], "circular": list(shape[1:])}.get(spec.padding_mode)
    if limits and any(pad > limit for pad, limit in zip(padding, limits, strict=True)):
        raise _Misfit(f"padding {list(padding)} is too large for {spec.padding_mode} on an input of {list(shape)}")
    sizes = _sizes("conv2d", shape, kernel, stride, padding, dilation)
    return Layer(
        name, "conv2d", shape, (spec.out, *sizes), kernel, stride, padding, spec.bias, spec.groups, dilation,
        spec.padding_mode, sources=sources,
    )  # fmt: skip


def _same_padding(kernel: Pair, stride: Pair, dilation: Pair) -> Pair:
    """The padding on each side that keeps the image size."""
    total = [size * (taps - 1) for size, taps in zip(dilation, kernel, strict=True)]
    if stride != (1, 1):
        raise _Misfit(f"padding 'same' goes with stride 1 only (stride is {list(stride)})")
    if any(size % 2 for size in total):
        raise _Misfit(f"pads unevenly (padding 'same' with kernel {kernel}); supported: the same on both sides")
    return total[0] // 2, total[1] // 2


def _pooling(spec: PoolSpec, name: str, shape: Shape, sources: tuple[str, ...]) -> Layer:
    """The pooling of images of `shape`. Raises _Misfit for a padding or a kernel that does not fit them."""
    covers_image = spec.kernel == "all"
    kernel = (shape[1], shape[2]) if spec.kernel == "all" else _as_pair(spec.kernel)
    stride, padding = _as_pair(spec.stride or kernel), _as_pair(spec.padding)
    if covers_image and (spec.stride is not None or padding != (0, 0)):
        raise _Misfit("kernel 'all' takes neither stride nor padding: one window covers the image")
    if any(2 * pad > size for pad, size in zip(padding, kernel, strict=True)):
        raise _Misfit(f"padding {list(padding)} is more than half the kernel {list(kernel)}")
    sizes = _sizes(spec.kind, shape, kernel, stride, padding)
    return Layer(name, spec.kind, shape, (shape[0], *sizes), kernel, stride, padding, bias=False, sources=sources)


def _shortcut(spec: ShortcutSpec, name: str, shape: Shape, sources: tuple[str, ...]) -> Layer:
    """The residual shortcut from images of `shape`. Raises _Misfit for fewer output channels than they have."""
    if spec.out < shape[0]:
        raise _Misfit(f"a shortcut adds channels, it cannot turn {shape[0]} into {spec.out}")
    stride = _as_pair(spec.stride)
    sizes = _sizes("shortcut", shape, (1, 1), stride, (0, 0))
    return Layer(name, "shortcut", shape, (spec.out, *sizes), stride=stride, bias=False, sources=sources)


def _sizes(kind: str, shape: Shape, kernel: Pair, stride: Pair, padding: Pair, dilation: Pair = (1, 1)) -> Shape:
    """Height and width of the output. Raises _Misfit where the kernel is larger than the padded input."""
    axes = zip(shape[1:], kernel, stride, padding, dilation, strict=True)
    sizes = tuple(output_size(*axis) for axis in axes)
    if min(sizes) < 1:
        and_dilation = f" and dilation {list(dilation)}" if dilation != (1, 1) else ""
        raise _Misfit(f"{kind} with kernel {list(kernel)}{and_dilation} does not fit its input of {list(shape)}")
    return sizes


def _as_pair(value: int | tuple[int, int]) -> Pair:
    """The value for both axes, where a single number stands for both."""
    return (value, value) if isinstance(value, int) else value
