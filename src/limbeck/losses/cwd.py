r"""Channel-wise distillation: each channel is active where the teacher's is.

.. math:: \frac{T^2}{C} \sum_c KL\left( \phi(t_c) \,\|\, \phi(s_c) \right), \qquad
          \phi(x_c)_i = \frac{\exp(x_{c,i} / T)}{\sum_j \exp(x_{c,j} / T)}

where i and j run over the positions of a map, so that each channel becomes a distribution over places, whatever its level. With
`norm: spatial` it is the usual softmax over the channels at each position, averaged over the positions. `divergence: mse` is the sum of
squared differences of the distributions at T = 1. A vector without positions is taken as one channel, which makes it `kd`.

When to use: dense prediction (segmentation, detection), on the maps of logits (no layers named) or on a late layer; the channels must
mean the same, an adapter learns them where they do not. The paper's weights are 3 on logits and 50 on features.

Cost: of order of the number of elements; no parameters of its own.

Reference: Shu et al., "Channel-wise Knowledge Distillation for Dense Prediction", ICCV 2021, arXiv:2011.13256, equations 3 and 4.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, final

import torch.nn.functional as F
from torch import Tensor

from ..ops.divergence import kl
from ..ops.layouts import as_positions
from ..ops.precision import widen
from ..types import Needs, Positive, Signals
from .base import Loss, agree, pairs


def channel_divergence(
    student: Tensor,
    teacher: Tensor,
    *,
    norm: Literal["channel", "spatial"],
    divergence: Literal["kl", "mse"],
    temperature: float,
    stable: bool = True,
) -> Tensor:
    """Mean over the channels (or positions) of the divergence of distributions over positions (or channels).

    Args:
        student: map `(batch, channels, height, width)`, tokens `(batch, tokens, channels)` or vectors.
        teacher: of the same shape.
        norm: what each distribution is over: `channel`, the positions of a channel; `spatial`, the channels of a position.
        divergence: `kl`, of the student from the teacher at `temperature`, times its square; or `mse`, summed, at temperature 1.
        temperature: of both.
        stable: whether logarithms are taken before the exponentials cancel; without it as in the authors' code, infinite where a
            probability is too small for its type.

    Returns:
        `(batch,)`.
    """
    ours, theirs = (_rows(x, norm) for x in agree(student, teacher))
    if divergence == "mse":
        return (ours.softmax(-1) - theirs.softmax(-1)).square().sum(-1).mean(1)
    ours, theirs = ours / temperature, theirs / temperature
    if stable:
        return temperature**2 * kl(theirs, ours).mean(1)
    return temperature**2 * F.kl_div(ours.softmax(-1).log(), theirs.softmax(-1), reduction="none").sum(-1).mean(1)


def _rows(feature: Tensor, norm: str) -> Tensor:
    """`(batch, distributions, entries)`."""
    if feature.ndim == 2:
        return widen(feature).unsqueeze(1)
    positions = as_positions(feature)
    return positions if norm == "channel" else positions.mT


@final
@dataclass(eq=False, repr=False, kw_only=True)
class CWD(Loss):
    """Compares where channels are active, on maps of logits, or on features where the term names layers."""

    temperature: Positive = 4.0
    """Softmax temperature T; a larger one takes more of the places into account."""
    norm: Literal["channel", "spatial"] = "channel"
    """Distributions over the positions of each channel, or over the channels of each position."""
    divergence: Literal["kl", "mse"] = "kl"
    """How distributions are compared."""

    @property
    def needs(self) -> Needs:
        return Needs(logits=True, features="optional")

    def forward(self, student: Signals, teacher: Signals, labels: Tensor | None = None) -> Tensor:
        pair = pairs(student, teacher)[0]
        return channel_divergence(*pair, norm=self.norm, divergence=self.divergence, temperature=self.temperature)
