r"""ScaleKD: features through attention, with and without their mean.

.. math:: \alpha_0 \left\| n(P_0(s)) - n(t) \right\|_F^2 + \alpha_1 \left\| n(\tilde P_1(s)) - n(\tilde t) \right\|_F^2

where :math:`P_0, P_1` are learned cross-attention projectors to the teacher's positions and channels, n scales the channels at each
position to length 1, and the tilde takes the mean of every channel away: it is the inverse cosine transform of all frequencies but the
lowest, for which no transform is needed. Sums run over positions and channels.

Of the paper's three parts these are the first two. The third, teacher parameter perception, runs the student's projected features
through the last stage of the teacher and cannot be a loss; the paper's loss on logits is `kd` beside it. The authors' code asks for
square maps; here they may have any size.

When to use: a strong transformer teaches a convolutional or smaller model on its last stages, which differ in kind from the student's.
The projectors must learn too, so give it epochs: for two models of one family `hint` or `mgd` is enough.

Cost: two projectors of about 10 C^2 + 10 c^2 parameters each, for C channels of the teacher and c of the student; attention of order
b C p_s p_t for their positions.

Reference: Fan et al., "ScaleKD: Strong Vision Transformers Could Be Excellent Teachers", NeurIPS 2024, arXiv:2411.06786, sections 3.2
and 3.3.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

from torch import Tensor

from ..ops.geometry import unit
from ..ops.layouts import as_map
from ..types import Needs, NonNegative, Positive, PositiveInt, Signals
from ._attention_projector import AttentionProjector, tokens_as_map
from .base import Loss, agree


def spatial_gap(student: Tensor, teacher: Tensor) -> Tensor:
    """Squared distance of directions, summed over the positions; two maps of one shape to `(batch,)`."""
    student, teacher = agree(student, teacher)
    return (unit(student, dim=1) - unit(teacher, dim=1)).square().sum((1, 2, 3))


def detail_gap(student: Tensor, teacher: Tensor) -> Tensor:
    """`spatial_gap` of the maps without the mean of each channel."""
    student, teacher = (x - x.mean((2, 3), keepdim=True) for x in (student, teacher))
    return spatial_gap(student, teacher)  # mutate: equivalent swapped (symmetric)


@final
@dataclass(eq=False, repr=False, kw_only=True)
class ScaleKD(Loss):
    """Matches directions at each position, once as they are and once without what all positions share; it learns two projectors."""

    exempt: ClassVar = {
        "equality": "the student's features pass through projectors that learn, the teacher's do not",
        "independence": "the projectors normalise over the batch in training",
    }

    spatial_weight: NonNegative = 0.08
    """Weight of the features as they are."""
    frequency_weight: NonNegative = 0.06
    """Weight of the features without their mean."""
    heads: PositiveInt = 8
    """Largest number of attention heads; the one that is used divides the teacher's channels."""
    softmax_scale: Positive = 5.0
    """How sharp the attention is: factor of its scores."""

    @property
    def needs(self) -> Needs:
        return Needs(features="one", match="space")

    def setup(self, student: Signals, teacher: Signals) -> None:
        """Makes the two projectors."""
        maps = as_map(student.feature), as_map(teacher.feature)
        self.whole = AttentionProjector(*maps, heads=self.heads, softmax_scale=self.softmax_scale)
        self.details = AttentionProjector(*maps, heads=self.heads, softmax_scale=self.softmax_scale)

    def forward(self, student: Signals, teacher: Signals, labels: Tensor | None = None) -> Tensor:
        ours, theirs = as_map(student.feature), as_map(teacher.feature)
        whole = spatial_gap(tokens_as_map(self.whole(ours), theirs), theirs)  # mutate: equivalent swapped (symmetric)
        details = detail_gap(tokens_as_map(self.details(ours), theirs), theirs)  # mutate: equivalent swapped (symmetric)
        return self.spatial_weight * whole + self.frequency_weight * details
