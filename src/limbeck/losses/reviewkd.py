r"""Knowledge review: layers of the student, fused from the deepest up, match.

.. math:: \sum_l HCL(o_l, t_l), \qquad (o_l, r_l) = ABF_l(s_l, r_{l+1})

from the deepest layer L upwards. The fusion ABF brings :math:`s_l` to a common width by a 1x1 convolution with batch norm, mixes it with
the enlarged residual :math:`r_{l+1}` by two attention maps (1x1 convolution of both, sigmoid), and maps the result by a 3x3 convolution
with batch norm to the teacher's channels; the deepest layer has nothing to mix. HCL is the hierarchical context loss (`hcl`). The
authors' weight rises from 0 over the first epochs: `weight: {schedule: linear, start: 0, end: 1, until: 0.1}`.

When to use: convolutional models with several stages, name all of them and the pooled vector (`head:input`), shallow ones first. One of the
strongest losses on features; it costs training time, not inference. The authors' weights on CIFAR-100 are 5 to 8, between thin residual
networks 0.6 to 1; on ImageNet 1 and 8.

Cost: convolutions of order positions times width times channels for every layer, with 9 width channels parameters each; they learn with the
student and are not part of it.

Reference: Chen et al., "Distilling Knowledge via Knowledge Review", CVPR 2021, arXiv:2104.09044, equation 6 and figure 3.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

import torch
from torch import Tensor, nn

from ..types import Needs, PositiveInt, Signals
from ._connectors import Review, Stage, paired_maps
from .base import Loss


class AttentionFusion(nn.Module):
    """Mixes two maps of `width` channels, each weighted at every position by an attention map."""

    def __init__(self, width: int, like: Tensor) -> None:
        super().__init__()
        self.attention = nn.Conv2d(2 * width, 2, 1, device=like.device, dtype=like.dtype)

    def forward(self, own: Tensor, deeper: Tensor) -> Tensor:
        """The weighted sum of both."""
        shares = self.attention(torch.cat([own, deeper], 1)).sigmoid()
        return own * shares[:, :1] + deeper * shares[:, 1:]


@final
@dataclass(eq=False, repr=False, kw_only=True)
class ReviewKD(Loss):
    """The layers of the student, fused from the deepest upwards by learned connectors, match those of the teacher."""

    exempt: ClassVar = {
        "independence": "the paper's connectors normalise over the batch, as convolutional students do",
        "equality": "the connectors are learned: a student that equals its teacher must first be mapped onto it",
    }

    width: PositiveInt = 512
    """Most channels inside the connectors; the channels of the student's deepest layer where they are fewer."""

    @property
    def needs(self) -> Needs:
        return Needs(features="many", match="any")

    def setup(self, student: Signals, teacher: Signals) -> None:
        maps = paired_maps(student, teacher)
        width, last = min(self.width, maps[-1][0].shape[1]), len(maps) - 1
        fusions = [AttentionFusion(width, s) if i < last else None for i, (s, _) in enumerate(maps)]
        self.review = Review([Stage(s.shape[1], width, t.shape[1], fusions[i], s) for i, (s, t) in enumerate(maps)])

    def forward(self, student: Signals, teacher: Signals, labels: Tensor | None = None) -> Tensor:
        return self.review(paired_maps(student, teacher))
