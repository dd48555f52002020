"""Adversarial images: how much accuracy a trained network keeps when every pixel may move by epsilon.

Gradients are taken through a plain float copy of the trained weights under backpropagation: an attack that follows the
feedback weights instead would follow no gradient, and find a robustness that is not there. The images are judged by the
network in its own arithmetic. Images that fool an independently trained network (`transfer`) are the check: where they
do more harm than the white-box attacks, those were blind. Sources: FGSM, Goodfellow et al. 2015; PGD, Madry et al.
2018.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as tf
from torch import Tensor

from fahw.learn.arithmetic.arithmetic import Arithmetic
from fahw.learn.model import Model
from fahw.learn.samples.batches import Probe
from fahw.learn.step import forward
from fahw.learn.watch.alignment import plain_copy
from fahw.prng import derive

PGD_STEPS = 20
_PGD_REACH = 2.5
"""The length of all steps of PGD together, over epsilon: it can get from any start to any place within epsilon."""
_BATCH = 500
_MOST_LEVELS = 65535


@dataclass(frozen=True)
class RobustnessRow:
    """Accuracy on images changed by at most `epsilon` per pixel (1: from black to white)."""

    attack: str
    epsilon: float
    accuracy_pct: float


def input_gradient(plain_model: Model, x: Tensor, labels: Tensor) -> Tensor:
    """The gradient d(summed cross-entropy) / dx of a float model, shaped as `x`: `(n, *input_shape)`."""
    x = x.detach().clone().requires_grad_()
    logits = forward(plain_model.network, plain_model.arithmetic, plain_model.parameters, x).logits
    (gradient,) = torch.autograd.grad(tf.cross_entropy(logits, labels, reduction="sum"), x)
    return gradient


def fgsm(plain_model: Model, x: Tensor, labels: Tensor, epsilon: float, generator: torch.Generator) -> Tensor:
    """The images after one step of `epsilon` along the gradient's signs, within [0, 1]; the generator is not used."""
    return (x + epsilon * input_gradient(plain_model, x, labels).sign()).clamp(0, 1)


def pgd(
    plain_model: Model, x: Tensor, labels: Tensor, epsilon: float, generator: torch.Generator, steps: int = PGD_STEPS
) -> Tensor:
    """The images after `steps` steps of 2.5 epsilon / `steps` along the gradient's signs, from a random start, kept
    within `epsilon` of `x` and within [0, 1]."""
    low, high = (x - epsilon).clamp(min=0), (x + epsilon).clamp(max=1)
    attacked = x + epsilon * (2 * torch.rand(x.shape, generator=generator).to(x.device) - 1)
    attacked = torch.minimum(torch.maximum(attacked, low), high)
    for _ in range(steps):
        attacked = attacked + _PGD_REACH * epsilon / steps * input_gradient(plain_model, attacked, labels).sign()
        attacked = torch.minimum(torch.maximum(attacked, low), high)
    return attacked


Attack = Callable[[Model, Tensor, Tensor, float, torch.Generator], Tensor]


def robustness(
    model: Model, surrogate: Model, images: Probe, epsilons: Sequence[float], seed: int, evaluation_seed: int
) -> tuple[RobustnessRow, ...]:
    """The accuracy of `model` under FGSM and PGD on itself, and under PGD on `surrogate`, a float model trained apart.

    `evaluation_seed`: of the random bits of its forward passes (`Arithmetic.evaluator`). Epsilon 0 is clean accuracy.
    """
    plain_model = plain_copy(model)
    x = plain_model.arithmetic.encode(images.pixels, images.maximum).to(images.labels.device)
    attacks: list[tuple[str, Model, Attack]] = [
        ("fgsm", plain_model, fgsm), ("pgd", plain_model, pgd), ("transfer", plain_copy(surrogate), pgd)
    ]  # fmt: skip
    rows = []
    for name, source, attack in attacks:
        for epsilon in epsilons:
            generator = torch.Generator().manual_seed(derive(seed, "attack", name))
            evaluator, correct = model.arithmetic.evaluator(evaluation_seed), 0
            for batch, labels in zip(torch.split(x, _BATCH), torch.split(images.labels, _BATCH), strict=True):
                changed = attack(source, batch, labels, epsilon, generator)
                correct += _count_correct(model, evaluator, changed, labels, images.maximum)
            rows.append(RobustnessRow(name, epsilon, 100 * correct / len(x)))
    return tuple(rows)


def _count_correct(model: Model, evaluator: Arithmetic, x: Tensor, labels: Tensor, maximum: int) -> int:
    """How many of the images in [0, 1] the model classifies correctly. They are finer than its pixels, as if from the
    same camera with more levels; unchanged ones are encoded to the very same words."""
    levels = maximum * (_MOST_LEVELS // maximum)
    pixels = np.rint(x.double().cpu().numpy() * levels).astype(np.uint16)
    words = evaluator.encode(pixels, levels).to(x.device)
    logits = forward(model.network, evaluator, model.parameters, words).logits
    return int((logits.argmax(1) == labels).sum())
