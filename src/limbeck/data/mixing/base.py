"""What every kind of mixing is: two examples become one input, and a number says how much of it is the first."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from ...types import Fraction
from ..transforms.base import Draws


@dataclass(frozen=True, kw_only=True)
class Mixing(ABC):
    """Base of all kinds. Every draw is a function of seed, epoch and example (or update), whatever fetches the batch."""

    kinds: ClassVar[tuple[str, ...]] = ("image",)
    """Kinds of data that can be mixed so."""
    own_views: ClassVar[bool] = False
    """Whether the two are two augmentations of one example."""

    share: Fraction = 1.0
    """Share of the examples of an update that are mixed; the others stay as they are."""
    with_replacement: bool = False
    """Draw the examples that stay with replacement, as the code of MIX-KD does: some are drawn twice, so more are mixed than `share`."""
    per: Literal["example", "update"] = "example"
    """Whether every example draws its own coefficient (and rectangle), or all of an update share one."""

    @abstractmethod
    def apply(self, own: Tensor, other: Tensor, draws: Draws) -> tuple[Tensor, Tensor]:
        """Mixes every example with its partner.

        Args:
            own: `(batch, ...)`.
            other: the partners, of the same shape.
            draws: the random numbers.

        Returns:
            The mixed inputs, and the share of each that is its own, `(batch,)`, float32.
        """


def symmetric_beta(draws: Draws, number: int, alpha: float) -> Tensor:
    r"""A variable of the distribution :math:`Beta(\alpha, \alpha)` for every example, from its uniform variables `number` and `number + 1`.

    With :math:`c = (u^{-1/\alpha} - 1) \cos^2 2 \pi v` it is :math:`\frac{1}{2} \pm \frac{1}{2} \sqrt{c / (1 + c)}`, the sign that of the
    cosine: a variable of Student's distribution by Bailey's method (Mathematics of Computation 62, 1994), brought to the unit interval.
    No draw is ever rejected, so the number of uniform variables is the same for all.

    Returns:
        `(batch,)`, float64.
    """
    u, v = (draws.uniform(number + i).numpy() for i in range(2))
    with np.errstate(over="ignore", divide="ignore"):
        cosine = np.cos(2 * np.pi * v)
        inverse = 1 / (np.expm1(-np.log(np.maximum(u, 2.0**-54)) / alpha) * cosine**2)
    return torch.from_numpy(0.5 + 0.5 * np.sign(cosine) / np.sqrt(1 + inverse))
