"""One traced operation as a layer: which kind it is, with which options, and why it cannot be taken."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from dataclasses import replace
from math import prod
from typing import Any

import torch
from torch import fx, nn
from torch.nn import functional

from fahw.layers.layer import IMAGES, NORMS, ROWS, Kind, Layer, Pair, output_size

SUPPORTED = (
    "Linear, Conv2d, BatchNorm1d, BatchNorm2d, MaxPool2d, AvgPool2d, AdaptiveAvgPool2d, Flatten, ReLU, Tanh, Sigmoid,"
    " Hardtanh, Dropout and Identity; as functions or methods max_pool2d, avg_pool2d, adaptive_avg_pool2d, mean over"
    " the image, flatten, relu, tanh, sigmoid, hardtanh, dropout, view and reshape to one row per sample; the sum of"
    " two tensors of one shape; x[:, :, ::s, ::s] and pad with channels of zeros"
)

_MODULES: dict[type[nn.Module], Kind] = {
    nn.Linear: "linear",
    nn.Conv2d: "conv2d",
    nn.BatchNorm1d: "batchnorm1d",
    nn.BatchNorm2d: "batchnorm2d",
    nn.MaxPool2d: "maxpool2d",
    nn.AvgPool2d: "avgpool2d",
    nn.AdaptiveAvgPool2d: "avgpool2d",
    nn.Flatten: "flatten",
    nn.ReLU: "relu",
    nn.Tanh: "tanh",
    nn.Sigmoid: "sigmoid",
    nn.Hardtanh: "hardtanh",
    nn.Dropout: "dropout",
}
_FUNCTIONS: dict[Callable[..., Any], Kind] = {
    functional.max_pool2d: "maxpool2d",
    torch.max_pool2d: "maxpool2d",
    functional.avg_pool2d: "avgpool2d",
    functional.adaptive_avg_pool2d: "avgpool2d",
    torch.mean: "avgpool2d",
    torch.flatten: "flatten",
    functional.relu: "relu",
    functional.relu_: "relu",
    torch.relu: "relu",
    torch.relu_: "relu",
    functional.tanh: "tanh",
    torch.tanh: "tanh",
    functional.sigmoid: "sigmoid",
    torch.sigmoid: "sigmoid",
    functional.hardtanh: "hardtanh",
    functional.dropout: "dropout",
    operator.add: "add",
    operator.iadd: "add",
    torch.add: "add",
    operator.getitem: "shortcut",
    functional.pad: "shortcut",
}
_METHODS: dict[str, Kind] = {
    "flatten": "flatten",
    "view": "flatten",
    "reshape": "flatten",
    "relu": "relu",
    "relu_": "relu",
    "tanh": "tanh",
    "tanh_": "tanh",
    "sigmoid": "sigmoid",
    "sigmoid_": "sigmoid",
    "mean": "avgpool2d",
    "add": "add",
    "add_": "add",
}
_OPTIONS: dict[str, tuple[str, ...]] = {
    "maxpool2d": ("kernel_size", "stride", "padding", "dilation", "ceil_mode", "return_indices"),
    "avgpool2d": ("kernel_size", "stride", "padding", "ceil_mode", "count_include_pad", "divisor_override"),
    "hardtanh": ("min_val", "max_val", "inplace"),
    "dropout": ("p", "training", "inplace"),
    "relu": ("inplace",),
    "adaptive": ("output_size",),
    "mean": ("dim", "keepdim"),
    "pad": ("pad", "mode", "value"),
    "getitem": ("index",),
    "add": ("other", "alpha"),
}
"""The options of a function after its input, in order; the modules' attributes are named the same."""
_ADAPTIVE = (functional.adaptive_avg_pool2d, nn.AdaptiveAvgPool2d)


class Refused(Exception):  # noqa: N818
    """The reason why one operation cannot be taken; its place is added where it is known."""


def kind_of(node: fx.Node, root: nn.Module) -> Kind | None:
    """The kind of layer that an operation is, or None if it is none."""
    if node.op == "call_module":
        module = root.get_submodule(str(node.target))
        return next((kind for module_class, kind in _MODULES.items() if _is_plain(module, module_class)), None)
    if node.op == "call_function" and callable(node.target):
        return _FUNCTIONS.get(node.target)
    return _METHODS.get(str(node.target)) if node.op == "call_method" else None


def is_known(module: nn.Module) -> bool:
    """Whether a module is a layer by itself, not something that holds layers."""
    return type(module) in _MODULES


def _is_plain(module: nn.Module, module_class: type[nn.Module]) -> bool:
    """Whether a module is of the known kind and does what that does; a layer that carries a rule computes the same."""
    own_class = type(module)
    return isinstance(module, module_class) and (
        own_class.forward is module_class.forward or own_class.__module__.startswith("fahw.")
    )


def in_place(node: fx.Node, root: nn.Module) -> bool:
    """Whether an operation overwrites its first input."""
    if node.op == "call_module":
        return bool(getattr(root.get_submodule(str(node.target)), "inplace", False))
    name = str(getattr(node.target, "__name__", node.target))
    kind = kind_of(node, root)
    flagged = bool(kind and options(node, kind, root, {}).get("inplace", False))
    return flagged or node.target is operator.iadd or (name.endswith("_") and not name.endswith("__"))


def options(node: fx.Node, kind: str, root: nn.Module, values: dict[fx.Node, Any]) -> dict[str, Any]:
    """The options of an operation, by name; `values` holds what sizes computed in the forward pass came to."""
    names = _OPTIONS.get(kind, ())
    if node.op == "call_module":
        module = root.get_submodule(str(node.target))
        return {name: getattr(module, name) for name in names if hasattr(module, name)}
    call_options = dict(zip(names, node.args[1:], strict=False)) | {k: v for k, v in node.kwargs.items() if k in names}
    return {name: fx.node.map_arg(value, lambda n: values.get(n, n)) for name, value in call_options.items()}


def layers_of(node: fx.Node, root: nn.Module, bare: Layer, values: dict[fx.Node, Any]) -> tuple[Layer, ...]:
    """The layers of an operation: `bare` with all that its kind needs, and a flatten behind it where the operation
    drops the image's axes. Raises Refused for options that are not supported."""
    module = root.get_submodule(str(node.target)) if node.op == "call_module" else None
    name = _label(node)
    if isinstance(module, nn.Linear):
        bare = replace(bare, bias=module.bias is not None)
    elif isinstance(module, nn.Conv2d):
        bare = _conv(module, bare)
    elif isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
        refuse({"affine": module.affine, "track_running_stats": module.track_running_stats},
               {"affine": True, "track_running_stats": True})  # fmt: skip
    elif name == "mean":
        return _mean(options(node, "mean", root, values), bare)
    elif node.target in _ADAPTIVE or isinstance(module, nn.AdaptiveAvgPool2d):
        bare = _adaptive(options(node, "adaptive", root, values), bare)
    elif bare.kind in ("maxpool2d", "avgpool2d"):
        bare = _pool(options(node, bare.kind, root, values), bare)
    elif bare.kind == "hardtanh":
        limits = {"min_val": -1.0, "max_val": 1.0} | options(node, "hardtanh", root, values)
        refuse({key: float(limits[key]) for key in ("min_val", "max_val")}, {"min_val": -1.0, "max_val": 1.0})
    elif bare.kind == "dropout":
        bare = replace(bare, dropout=float(options(node, "dropout", root, values).get("p", 0.5)))
    elif bare.kind == "add":
        refuse({"alpha": options(node, "add", root, values).get("alpha", 1)}, {"alpha": 1})
    elif bare.kind == "shortcut":
        bare = _slice(options(node, "getitem", root, values)["index"], bare) if name == "getitem" else _pad(
            options(node, "pad", root, values), bare)  # fmt: skip
    return (bare,)


def _conv(module: nn.Conv2d, bare: Layer) -> Layer:
    kernel, padding = pair_of(module.kernel_size), module.padding
    if isinstance(padding, str):
        sides = module._reversed_padding_repeated_twice  # width before and after, height before and after
        if padding == "same" and (sides[0] != sides[1] or sides[2] != sides[3]):
            raise Refused(f"pads unevenly (padding 'same' with kernel {kernel}); supported: the same on both sides")
        padding = (sides[2], sides[0]) if padding == "same" else (0, 0)
    return replace(
        bare, kernel=kernel, stride=pair_of(module.stride), padding=pair_of(padding), bias=module.bias is not None,
        groups=module.groups, dilation=pair_of(module.dilation), padding_mode=module.padding_mode,
    )  # fmt: skip


def _pool(call_options: dict[str, Any], bare: Layer) -> Layer:
    kernel = pair_of(call_options["kernel_size"])
    stride, padding = pair_of(call_options.get("stride") or kernel), pair_of(call_options.get("padding", 0))
    supported = {"dilation": (1, 1), "return_indices": False, "divisor_override": None}
    if padding != (0, 0):
        supported["count_include_pad"] = True
    values = {name: call_options.get(name, default) for name, default in supported.items()}
    refuse({**values, "dilation": pair_of(values["dilation"])}, supported)
    return replace(bare, kernel=kernel, stride=stride, padding=padding, bias=False)


def _adaptive(call_options: dict[str, Any], bare: Layer) -> Layer:
    _check_axes(bare)
    output_size = call_options["output_size"]
    sizes: list[int | None] = (
        [output_size] * 2 if isinstance(output_size, int) or output_size is None else list(output_size)
    )
    counts = [size or whole for size, whole in zip(sizes, bare.in_shape[1:], strict=True)]
    if any(whole % count for whole, count in zip(bare.in_shape[1:], counts, strict=True)):
        raise Refused(f"pools {bare.in_shape[1:]} pixels to {tuple(counts)}; supported: sizes that divide")
    kernel = (bare.in_shape[1] // counts[0], bare.in_shape[2] // counts[1])
    return replace(bare, kernel=kernel, stride=kernel, bias=False)


def _mean(call_options: dict[str, Any], bare: Layer) -> tuple[Layer, ...]:
    """The layers of a mean over the image: average pooling, and without `keepdim` a flatten to a row."""
    dims = call_options.get("dim")
    axes = sorted(axis % 4 for axis in dims) if isinstance(dims, Sequence) else dims
    if len(bare.in_shape) != 3 or axes != [2, 3]:
        raise Refused(f"averages over {dims}; supported: both axes of the image, (2, 3)")
    channels, *kernel = bare.in_shape
    window = (kernel[0], kernel[1])
    image = replace(bare, out_shape=(channels, 1, 1), kernel=window, stride=window, bias=False)
    if call_options.get("keepdim", False):
        return (image,)
    return image, Layer("", "flatten", image.out_shape, (channels,))


def _slice(index: Any, bare: Layer) -> Layer:
    axis_indices = list(index) if isinstance(index, tuple) else [index]
    if axis_indices.count(...) == 1:
        ellipsis_at = axis_indices.index(...)
        axis_indices[ellipsis_at : ellipsis_at + 1] = [slice(None)] * (len(bare.in_shape) + 2 - len(axis_indices))
    axis_indices += [slice(None)] * (4 - len(axis_indices))
    from_start = all(isinstance(part, slice) and part.start in (None, 0) and part.stop is None for part in axis_indices)
    steps = [part.step or 1 for part in axis_indices] if from_start else []
    if len(bare.in_shape) != 3 or len(steps) != 4 or steps[:2] != [1, 1]:
        raise Refused("is an index other than [:, :, ::s, ::s], every s-th pixel")
    return replace(bare, stride=(steps[2], steps[3]), bias=False)


def _pad(call_options: dict[str, Any], bare: Layer) -> Layer:
    pad = list(call_options["pad"])
    added = sum(pad[4:6])
    even = len(bare.in_shape) == 3 and len(pad) == 6 and not any(pad[:4]) and pad[4] == added // 2
    if not even or call_options.get("mode", "constant") != "constant" or call_options.get("value"):
        raise Refused("pads otherwise than with channels of zeros, half before and half behind")
    return replace(bare, bias=False)


def refuse(values: dict[str, Any], supported: dict[str, Any]) -> None:
    """Raise Refused with every option that is not the supported one."""
    unsupported = [
        f"{key}={values[key]} (supported: {supported_value})"
        for key, supported_value in supported.items()
        if values[key] != supported_value
    ]
    if unsupported:
        raise Refused(f"has {', '.join(unsupported)}")


def check_geometry(layer: Layer) -> None:
    """Raise Refused unless the shape that torch computed is the one that the layer's geometry gives: `ceil_mode` and
    odd ranks show here."""
    _check_axes(layer)
    if layer.kind == "flatten" and layer.out_shape != (prod(layer.in_shape),):
        raise Refused(f"turns {layer.in_shape} into {layer.out_shape}; supported: one row of {layer.inputs} values")
    if layer.kind in IMAGES - NORMS:
        axes = zip(layer.in_shape[1:], layer.kernel, layer.stride, layer.padding, layer.dilation, strict=True)
        expected = tuple(output_size(*axis) for axis in axes)
        if layer.out_shape[1:] != expected:
            raise Refused(f"yields {layer.out_shape[1:]} pixels, not {expected}; ceil_mode is not supported")


def _check_axes(layer: Layer) -> None:
    axes = 1 if layer.kind in ROWS else 3 if layer.kind in IMAGES else len(layer.in_shape)
    if len(layer.in_shape) != axes:
        raise Refused(f"a {layer.kind} layer takes {axes} axes per sample, here it gets {layer.in_shape}")


def pair_of(value: Any) -> Pair:
    """A size option of torch, one number or two, as two numbers (height, width)."""
    if isinstance(value, int):
        return value, value
    first, *others = value
    return int(first), int(others[0] if others else first)


def _label(node: fx.Node) -> str:
    return str(getattr(node.target, "__name__", node.target)) if node.op != "call_module" else ""


def only_subsamples(layer: Layer) -> bool:
    """Whether a layer is a shortcut that adds no channels."""
    return layer.kind == "shortcut" and layer.in_shape[0] == layer.out_shape[0]
