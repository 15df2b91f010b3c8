r"""CutMix: a rectangle of one image is pasted into the other.

.. math:: r_h = H \sqrt{1 - \lambda}, \quad r_w = W \sqrt{1 - \lambda}, \qquad \lambda \sim Beta(\alpha, \alpha)

around a point that is drawn evenly from the image. The rectangle is clipped at the edges and rounded to whole pixels; the share of the
image that is its own is counted from what is left of it.

Reference: Yun et al., "CutMix: Regularization Strategy to Train Strong Classifiers with Localizable Features", ICCV 2019,
arXiv:1905.04899, equations 1 and 2.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from ...types import Positive
from ..transforms.base import Draws
from .base import Mixing, symmetric_beta


def rectangles(draws: Draws, number: int, alpha: float, height: int, width: int) -> Tensor:
    """Top, bottom, left and right of a rectangle for every example, `(batch, 4)`, int64; bottom and right are just outside.

    Reads the uniform variables from `number` to `number + 3`.
    """
    side = (1 - symmetric_beta(draws, number, alpha)).clamp_min(0).sqrt()
    edges: list[Tensor] = []
    for i, size in enumerate((height, width)):
        half = (side * size).long() // 2
        centre = draws.integers(number + 2 + i, size)
        edges += [(centre - half).clamp_(min=0), (centre + half).clamp_(max=size)]
    return torch.stack(edges, 1)


def paste(own: Tensor, other: Tensor, where: Tensor) -> tuple[Tensor, Tensor]:
    """Each image with its rectangle (`rectangles`) taken from the other one, and the share of pixels that are its own."""
    height, width = own.shape[-2:]
    row, column = torch.arange(height)[None, :, None], torch.arange(width)[None, None, :]
    top, bottom, left, right = (edge[:, None, None] for edge in where.unbind(1))
    inside = (row >= top) & (row < bottom) & (column >= left) & (column < right)
    area = (where[:, 1] - where[:, 0]) * (where[:, 3] - where[:, 2])
    return torch.where(inside[:, None], other, own), (1 - area.double() / (height * width)).float()


@final
@dataclass(frozen=True, kw_only=True)
class CutMix(Mixing):
    """Every image has a rectangle of another one."""

    alpha: Positive = 1.0
    """Of the distribution of the share that stays: 1 is uniform, smaller values cut little or nearly all."""

    def apply(self, own: Tensor, other: Tensor, draws: Draws) -> tuple[Tensor, Tensor]:
        """The patched images and the shares that are their own."""
        return paste(own, other, rectangles(draws, 0, self.alpha, *own.shape[-2:]))
