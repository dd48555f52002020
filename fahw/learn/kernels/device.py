"""Where trainings compute: the processor, or a CUDA device. Formats, draws and roundings are the same on either.

What is random is made on the processor, by the very generators of a training there, and copied. Integer formats thus
train to the same bits on any device; floats add up in another order, and are another result.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch

from fahw.config.device import check_device
from fahw.errors import ConfigError, Problem

CPU = torch.device("cpu")


def device_of(name: str) -> torch.device:
    """The torch device named `cpu`, `cuda` or `cuda:N`. Raises ConfigError for other names, and for a device that this
    machine does not have."""
    check_device(name)
    device = torch.device(name)
    if device.type == "cpu":
        return device
    if torch.version.cuda is None and torch.version.hip is None:
        advice = "install a build of PyTorch with CUDA (pytorch.org), or leave the device out: it is then the processor"
        raise ConfigError(Problem("device", f"this PyTorch ({torch.__version__}) knows no '{name}': {advice}"))
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if not count:
        advice = "see that nvidia-smi lists one and CUDA_VISIBLE_DEVICES does not hide it, or take cpu"
        raise ConfigError(Problem("device", f"no '{name}' here, PyTorch finds no CUDA device: {advice}"))
    if (device.index or 0) >= count:
        available = ", ".join(f"cuda:{number}" for number in range(count))
        raise ConfigError(Problem("device", f"no '{name}' here; there is {available}"))
    return torch.device("cuda", device.index or 0)


@contextmanager
def torch_settings(device: torch.device) -> Iterator[None]:
    """A context with PyTorch's settings for a training: one thread of the processor, as small networks are many times
    slower on more; on CUDA float32 products that are of float32 (no TF32), and sums in a fixed order where there is
    one."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with _plain_cuda() if device.type == "cuda" else nullcontext():
            yield
    finally:
        torch.set_num_threads(threads)


@contextmanager
def _plain_cuda() -> Iterator[None]:
    saved = [(place, name, getattr(place, name)) for place, name, _ in _wanted_of_cuda()]
    try:
        for place, name, value in _wanted_of_cuda():
            setattr(place, name, value)
        yield
    finally:
        for place, name, value in saved:
            setattr(place, name, value)


def _wanted_of_cuda() -> list[tuple[Any, str, Any]]:
    """The settings of PyTorch that make CUDA compute plainly: the object that has them, their name, and their value."""
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    conv = getattr(cudnn, "conv", None)  # since torch 2.9, which raises where both ways of setting are mixed
    if conv is not None:
        exact: list[tuple[Any, str, Any]] = [(conv, "fp32_precision", "ieee"), (matmul, "fp32_precision", "ieee")]
    else:
        exact = [(cudnn, "allow_tf32", False), (matmul, "allow_tf32", False)]
    return [*exact, (cudnn, "deterministic", True), (cudnn, "benchmark", False)]
