"""The gradients of every rule on a graph of layers, written out in float64 without autograd or code of fahw's learn.

Products are sums over the taps of a kernel, a batch norm's derivative is the textbook formula, errors are added where
ways meet. `Parameters` are what the layers hold; feedback matrices are given.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional as fn

from fahw.layers.layer import Layer
from fahw.network.graph import Network

EPS = 1e-5


@dataclass
class Values:
    """`weights`: weight (a batch norm's scale) and bias (shift) by layer. `kept`: a dropout's factors by layer."""

    network: Network
    weights: dict[str, tuple[Tensor, Tensor | None]]
    kept: dict[str, Tensor] = field(default_factory=dict)
    values: dict[str, Tensor] = field(default_factory=dict)

    def forward(self, x: Tensor) -> Tensor:
        """All layers; the last one's output. Batch norms use the batch's statistics."""
        self.values = {"input": x}
        for layer in self.network.layers:
            inputs = [self.values[source] for source in layer.sources]
            self.values[layer.name] = self.output(layer, *inputs)
        return self.values[self.network.layers[-1].name]

    def output(self, layer: Layer, x: Tensor, *more: Tensor) -> Tensor:
        if layer.weighted:
            weight, bias = self.weights[layer.name]
            out = product(layer, x, weight)
            return out if bias is None else out + bias.reshape(-1, *[1] * (out.ndim - 2))
        if layer.kind.startswith("batchnorm"):
            scale, shift = (p.reshape(-1, *[1] * (x.ndim - 2)) for p in self.weights[layer.name])
            return normalised(x)[0] * scale + shift
        if layer.kind == "maxpool2d":
            return fn.max_pool2d(x, layer.kernel, layer.stride, layer.padding)
        if layer.kind == "avgpool2d":
            return fn.avg_pool2d(x, layer.kernel, layer.stride, layer.padding)
        if layer.kind == "shortcut":
            added = layer.out_shape[0] - layer.in_shape[0]
            picked = x[:, :, :: layer.stride[0], :: layer.stride[1]]
            return fn.pad(picked, (0, 0, 0, 0, added // 2, added - added // 2))
        return {
            "flatten": lambda: x.reshape(len(x), -1), "relu": lambda: x * (x > 0), "tanh": x.tanh,
            "sigmoid": lambda: 1 / (1 + (-x).exp()), "hardtanh": lambda: x.clamp(-1, 1),
            "dropout": lambda: x * self.kept.get(layer.name, 1.0), "add": lambda: sum(more, x),
        }[layer.kind]()  # fmt: skip

    def backward(
        self, error: Tensor, feedback: dict[str, Tensor], *, direct: bool = False, blocked: bool = True
    ) -> dict[str, Tensor]:
        """Gradients by `layer.weight` and `layer.bias`, for a loss whose derivative by the output is `error`.

        `feedback`: the matrix of every layer that sends its error down; the others send none. A direct matrix of four
        axes is tiled.
        """
        network, gradients = self.network, {}
        errors: dict[str, Tensor] = {network.layers[-1].name: error}
        for layer in reversed(network.layers):
            if layer.name not in errors:
                continue
            g, x = errors[layer.name], self.values[layer.sources[0]]
            if layer.weighted or layer.kind.startswith("batchnorm"):
                axes = [axis for axis in range(g.ndim) if axis != 1]
                if self.weights[layer.name][1] is not None:
                    gradients[f"{layer.name}.bias"] = g.sum(axes)
                gradients[f"{layer.name}.weight"] = (
                    weight_gradient(layer, x, g) if layer.weighted else (g * normalised(x)[0]).sum(axes)
                )
            if not layer.weighted:
                for source in layer.sources:
                    readers = [user.name for user in network.layers if source in user.sources]
                    cut = direct and blocked and any(name in feedback for name in readers)
                    if source != "input" and not cut:
                        add(errors, source, self.through(layer, g, x))
            elif layer.name in feedback:
                matrix = feedback[layer.name]
                if not direct:
                    down = sent_down(layer, x.shape, g, matrix)
                elif matrix.ndim == 4:
                    tiled = error[:, :, None, None].expand(-1, -1, *layer.out_shape[1:])
                    down = sent_down(layer, x.shape, tiled, matrix, groups=1)
                else:
                    down = (error @ matrix).reshape(x.shape)
                add(errors, layer.sources[0], down)
        return gradients

    def through(self, layer: Layer, g: Tensor, x: Tensor) -> Tensor:
        """The error through a layer without weights."""
        out = self.values[layer.name]
        if layer.kind.startswith("batchnorm"):
            axes = [axis for axis in range(g.ndim) if axis != 1]
            hat, std = normalised(x)
            g = g * self.weights[layer.name][0].reshape(-1, *[1] * (x.ndim - 2))
            return (g - g.mean(axes, keepdim=True) - hat * (g * hat).mean(axes, keepdim=True)) / std
        if layer.kind in ("maxpool2d", "avgpool2d"):
            return pool_error(layer, g, x)
        if layer.kind == "shortcut":
            first = (layer.out_shape[0] - layer.in_shape[0]) // 2
            below = torch.zeros_like(x)
            below[:, :, :: layer.stride[0], :: layer.stride[1]] = g[:, first : first + layer.in_shape[0]]
            return below
        return {
            "flatten": lambda: g.reshape(x.shape), "relu": lambda: g * (x > 0), "tanh": lambda: g * (1 - out**2),
            "sigmoid": lambda: g * out * (1 - out), "hardtanh": lambda: g * (x.abs() < 1),
            "dropout": lambda: g * self.kept.get(layer.name, 1.0), "add": lambda: g,
        }[layer.kind]()  # fmt: skip


def add(errors: dict[str, Tensor], name: str, error: Tensor) -> None:
    errors[name] = errors[name] + error if name in errors else error


def normalised(x: Tensor) -> tuple[Tensor, Tensor]:
    """Zero mean and unit variance per channel over the batch, and the standard deviation."""
    axes = [axis for axis in range(x.ndim) if axis != 1]
    mean = x.mean(axes, keepdim=True)
    std = (((x - mean) ** 2).mean(axes, keepdim=True) + EPS).sqrt()
    return (x - mean) / std, std


def padded(layer: Layer, x: Tensor) -> Tensor:
    (ph, pw), mode = layer.padding, layer.padding_mode
    return fn.pad(x, (pw, pw, ph, ph), "constant" if mode == "zeros" else mode) if ph or pw else x


def unpadded(layer: Layer, g: Tensor, shape: torch.Size) -> Tensor:
    """The adjoint of `padded`: every padded pixel's error goes to the pixel that it copies."""
    height, width = shape[2:]
    number = padded(layer, 1 + torch.arange(float(height * width)).reshape(1, 1, height, width)).long().flatten()
    below = torch.zeros(*shape[:2], 1 + height * width)
    return below.index_add(2, number, g.flatten(2))[:, :, 1:].reshape(shape)


def taps(layer: Layer):
    """Every tap of the kernel, and the slices of the padded image that it reads."""
    (sh, sw), (dh, dw), (oh, ow) = layer.stride, layer.dilation, layer.out_shape[1:]
    for i in range(layer.kernel[0]):
        for j in range(layer.kernel[1]):
            rows = slice(i * dh, i * dh + sh * (oh - 1) + 1, sh)
            yield i, j, rows, slice(j * dw, j * dw + sw * (ow - 1) + 1, sw)


def grouped(x: Tensor, groups: int) -> Tensor:
    return x.reshape(len(x), groups, -1, *x.shape[2:])


def product(layer: Layer, x: Tensor, weight: Tensor) -> Tensor:
    if layer.kind == "linear":
        return x @ weight.T
    image, kernel = grouped(padded(layer, x), layer.groups), weight.reshape(layer.groups, -1, *weight.shape[1:])
    parts = [
        torch.einsum("gok,ngkyx->ngoyx", kernel[..., i, j], image[..., rows, columns])
        for i, j, rows, columns in taps(layer)
    ]
    return sum(parts).flatten(1, 2)


def sent_down(layer: Layer, shape: torch.Size, g: Tensor, matrix: Tensor, groups: int = 0) -> Tensor:
    """The transpose of the product with `matrix`."""
    if layer.kind == "linear":
        return g @ matrix
    groups = groups or layer.groups
    kernel = matrix.reshape(groups, -1, *matrix.shape[1:])
    below = padded(layer, torch.zeros(shape))
    view = grouped(below, groups)
    for i, j, rows, columns in taps(layer):
        view[..., rows, columns] += torch.einsum("gok,ngoyx->ngkyx", kernel[..., i, j], grouped(g, groups))
    return unpadded(layer, view.flatten(1, 2), shape)


def weight_gradient(layer: Layer, x: Tensor, g: Tensor) -> Tensor:
    if layer.kind == "linear":
        return g.T @ x
    image, found = grouped(padded(layer, x), layer.groups), torch.zeros(layer.weight_shape)
    for i, j, rows, columns in taps(layer):
        part = torch.einsum("ngoyx,ngkyx->gok", grouped(g, layer.groups), image[..., rows, columns])
        found[..., i, j] = part.flatten(0, 1)
    return found


def pool_error(layer: Layer, g: Tensor, x: Tensor) -> Tensor:
    """The whole error to the first maximum of a window, or its share to every pixel."""
    (ph, pw), largest = layer.padding, layer.kind == "maxpool2d"
    image = fn.pad(x, (pw, pw, ph, ph), value=-torch.inf if largest else 0.0)
    below = torch.zeros_like(image)
    cells = [(rows, columns, image[..., rows, columns]) for _, _, rows, columns in taps(layer)]
    if largest:
        place = torch.stack([cell for *_, cell in cells]).max(0)[0]
        taken = torch.zeros_like(place, dtype=torch.bool)
        for rows, columns, cell in cells:
            here = (cell == place) & ~taken
            taken |= here
            below[..., rows, columns] += g * here
    else:
        for rows, columns, _ in cells:
            below[..., rows, columns] += g / (layer.kernel[0] * layer.kernel[1])
    return below[:, :, ph : ph + x.shape[2], pw : pw + x.shape[3]]
