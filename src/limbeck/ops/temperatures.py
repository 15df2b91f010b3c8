"""Temperatures of single examples: higher where an example is easy, lower where it is hard, the mean of all being the base."""

from __future__ import annotations

import torch
from torch import Tensor

from .precision import widen


def disagreement(student: Tensor, teacher: Tensor, *, gamma: float) -> Tensor:
    r"""How hard an example is by how far both models' logits point apart, :math:`(1 - \cos)^\gamma`; `(..., classes)` to `(...)`."""
    ours, theirs = (x / (torch.linalg.vector_norm(x, dim=-1, keepdim=True) + 1e-4) for x in (widen(student), widen(teacher)))
    return (1 - (ours * theirs).sum(-1)).clamp_min(0) ** gamma


def uncertainty(student: Tensor) -> Tensor:
    """How hard an example is by how unsure the student is, 1 / its largest probability; `(..., classes)` to `(...)`."""
    return 1 / (widen(student).softmax(-1).amax(-1) + 1e-3)


def temperatures(hardness: Tensor, *, base: float, beta: float) -> Tensor:
    r""":math:`\tau_i = \tau + \beta (\bar w - w_i)` of how hard the examples are; without a gradient. A large beta makes some negative."""
    hardness = hardness.detach()
    return base + beta * (hardness.mean() - hardness)
