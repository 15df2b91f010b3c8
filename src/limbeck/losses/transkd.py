r"""Transformer knowledge review: stages, fused by channel selection, match.

.. math:: \sum_l HCL(o_l, t_l), \qquad r_l = a_l \cdot W_l s_l + (1 - a_l) \cdot r_{l+1}, \quad o_l = V_l r_l

from the deepest stage upwards. :math:`W_l` is a 1x1 convolution with batch norm to a common width, :math:`r_{l+1}` is enlarged to the
size of stage l, :math:`V_l` is a 3x3 convolution with batch norm to the teacher's channels, and the selection :math:`a_l` is a softmax,
channel by channel, over the two: their sum is averaged over the positions, squeezed by a linear layer with batch norm and ReLU, and given
to one linear layer for each. HCL is the hierarchical context loss (`hcl`). For a single example, of which nothing can be normalised, the
running statistics stand in; the authors' code has a second, otherwise untrained layer for it (`variant: official`).

The paper's other term, on patch embeddings, is a `hint` for every stage with its linear adapter, of weight 0.1, 0.1, 0.5 and 1.

When to use: hierarchical transformers for segmentation (SegFormer, PVT), name all stages, shallow ones first; tokens are read as their
grid.

Cost: convolutions of order positions times width times channels for every stage, with 9 width channels parameters each; they learn with the
student and are not part of it.

Reference: Liu et al., "TransKD: Transformer Knowledge Distillation for Efficient Semantic Segmentation", 2022, arXiv:2202.13393,
equations 2 to 7.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal, final

import torch
from torch import Tensor, nn

from ..types import Needs, PositiveInt, Signals
from ._connectors import Review, Stage, conv_norm, paired_maps
from .base import Loss


class SelectiveFusion(nn.Module):
    """Mixes two maps of `width` channels; how much of each is chosen for every channel of every example.

    Args:
        width: channels of both maps.
        like: tells device and precision.
        single: whether a single example is squeezed by a layer of its own.
    """

    def __init__(self, width: int, like: Tensor, *, single: bool) -> None:
        super().__init__()
        squeezed = max(width // 16, 32)
        where: dict[str, Any] = {"device": like.device, "dtype": like.dtype}
        self.squeeze = conv_norm(width, squeezed, 1, like)
        self.single = nn.Conv2d(width, squeezed, 1, bias=False, **where) if single else None
        self.branches = nn.ModuleList(nn.Conv2d(squeezed, width, 1, **where) for _ in range(2))

    def forward(self, own: Tensor, deeper: Tensor) -> Tensor:
        """The mixture."""
        both = (own + deeper).mean((2, 3), keepdim=True)
        squeezed = self.squeeze(both) if self.single is None or len(both) > 1 else self.single(both)
        squeezed = squeezed.relu()
        first, second = torch.stack([branch(squeezed) for branch in self.branches]).softmax(0)
        return first * own + second * deeper


@final
@dataclass(eq=False, repr=False, kw_only=True)
class TransKD(Loss):
    """The stages of the student, fused from the deepest upwards by learned connectors, match those of the teacher."""

    exempt: ClassVar = {
        "independence": "the paper's connectors normalise over the batch",
        "equality": "the connectors are learned: a student that equals its teacher must first be mapped onto it",
    }

    width: PositiveInt = 64
    """Channels inside the connectors."""
    variant: Literal["paper", "official"] = "paper"
    """What squeezes a single example: the layer of all others, or one of its own as in the authors' code."""

    @property
    def needs(self) -> Needs:
        return Needs(features="many", match="any")

    def setup(self, student: Signals, teacher: Signals) -> None:
        maps, single = paired_maps(student, teacher), self.variant == "official"
        fusions = [SelectiveFusion(self.width, s, single=single) if i < len(maps) - 1 else None for i, (s, _) in enumerate(maps)]
        self.review = Review([Stage(s.shape[1], self.width, t.shape[1], fusions[i], s) for i, (s, t) in enumerate(maps)])

    def forward(self, student: Signals, teacher: Signals, labels: Tensor | None = None) -> Tensor:
        return self.review(paired_maps(student, teacher))
