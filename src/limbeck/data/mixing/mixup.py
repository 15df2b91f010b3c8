r"""Mixup: the weighted mean of two inputs.

.. math:: \tilde x = \lambda x_i + (1 - \lambda) x_j, \qquad \lambda \sim Beta(\alpha, \alpha)

Reference: Zhang, Cisse, Dauphin, Lopez-Paz, "mixup: Beyond Empirical Risk Minimization", ICLR 2018, arXiv:1710.09412; with teachers, and
for a share of the examples only: Choi et al., "Understanding the Role of Mixup in Knowledge Distillation", WACV 2023, arXiv:2211.03946.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

from torch import Tensor

from ...types import Positive
from ..transforms.base import Draws, per_example
from .base import Mixing, symmetric_beta


def blend(own: Tensor, other: Tensor, share: Tensor) -> Tensor:
    """`share * own + (1 - share) * other` with one share an example; exactly `own` where it is 1."""
    share = per_example(share, own)
    return own * share + other * (1 - share)


@final
@dataclass(frozen=True, kw_only=True)
class Mixup(Mixing):
    """Every input is a weighted mean of two."""

    kinds: ClassVar[tuple[str, ...]] = ("image", "tabular")

    alpha: Positive = 1.0
    """Of the distribution of the coefficient: 1 is uniform, smaller values mix less."""

    def apply(self, own: Tensor, other: Tensor, draws: Draws) -> tuple[Tensor, Tensor]:
        """The mean and the coefficient."""
        share = symmetric_beta(draws, 0, self.alpha).float()
        return blend(own, other, share), share
