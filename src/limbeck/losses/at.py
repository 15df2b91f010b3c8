r"""Attention transfer: the student looks where the teacher looks.

.. math:: \sum_l \left\| \frac{Q^s_l}{\|Q^s_l\|_2} - \frac{Q^t_l}{\|Q^t_l\|_2} \right\|_2, \qquad Q_l = \sum_c |A_{l,c}|^p

where :math:`A_{l,c}` is channel c of layer l and :math:`Q_l` its attention map as a vector over the positions. The paper's factor
1/2 is left to the weight.

The authors' code computes another quantity, :math:`\sum_l \frac{1}{N_l} \|\cdot\|_2^2` with :math:`N_l` positions
(`variant: official`); weights of about 1000 that are quoted for this loss belong to it. The collections of methods for CIFAR do the
same with :math:`Q_l = \sum_c A_{l,c}^p` (`variant: zoo`): an odd p keeps the sign of activations, p is a whole number, and of maps of
unlike height the larger is averaged down to a square of the smaller height.

When to use: both are convolutional; where they look is compared, so the number of channels is free and no adapter learns.

Cost: of order b examples times channels times positions, of which only the positions are kept; no parameters.

Reference: Zagoruyko, Komodakis, "Paying More Attention to Attention", ICLR 2017, arXiv:1612.03928, equation 2.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal, final

import torch
from annotated_types import Ge
from torch import Tensor

from ..errors import ShapeMismatch
from ..ops.geometry import unit
from ..ops.maps import square_pool
from ..ops.precision import widen
from ..types import Needs, Signals
from .base import Loss, agree, pairs


def attention(features: Tensor, *, power: float, signed: bool) -> Tensor:
    """Normalised attention map, `(batch, channels, height, width)` or `(batch, tokens, channels)` to `(batch, positions)`.

    Args:
        features: the activations.
        power: their exponent.
        signed: whether they keep their sign under an odd power.

    Raises:
        ShapeMismatch: where there are no positions.
    """
    if features.ndim < 3:
        raise ShapeMismatch(f"attention needs maps or tokens, found a feature of shape {list(features.shape)}; pick an earlier layer.")
    channels = 1 if features.ndim > 3 else -1
    values = widen(features)
    # An even power needs no absolute value, which would be a pass more.
    values = values if signed or power % 2 == 0 else values.abs()  # mutate: equivalent operator (the pass more changes no value)
    return unit(values.pow(power).sum(channels).flatten(1))  # mutate: equivalent function (the length is divided out)


@final
@dataclass(eq=False, repr=False, kw_only=True)
class AT(Loss):
    """Matches where activation is large, over one or more layers; channels may differ, positions must agree."""

    power: Annotated[float, Ge(1)] = 2.0
    """Exponent p of the activations; a larger one stresses the strongest positions."""
    variant: Literal["paper", "official", "zoo"] = "paper"
    """The paper's formula, the one of the authors' code, or that of the collections for CIFAR."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.variant == "zoo" and self.power % 1:
            raise ValueError(f"AT.power must be a whole number where variant is 'zoo', got {self.power!r}")

    @property
    def needs(self) -> Needs:
        return Needs(features="many", match="space")

    def forward(self, student: Signals, teacher: Signals, labels: Tensor | None = None) -> Tensor:
        values = [self._layer(*pair) for pair in pairs(student, teacher)]
        return torch.stack(values).sum(0)

    def _layer(self, student: Tensor, teacher: Tensor) -> Tensor:
        zoo = self.variant == "zoo"
        if zoo:
            student, teacher = square_pool(student, teacher)  # mutate: equivalent swapped (symmetric)
        ours, theirs = agree(*(attention(x, power=self.power, signed=zoo) for x in (student, teacher)))
        if self.variant == "paper":
            return torch.linalg.vector_norm(ours - theirs, dim=1)
        return (ours - theirs).square().mean(1)
