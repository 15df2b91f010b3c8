r"""Class attention transfer: both models see each class in the same places.

.. math:: \frac{1}{C} \sum_c \left\| \frac{\phi(A^s_c)}{\|\phi(A^s_c)\|_2} - \frac{\phi(A^t_c)}{\|\phi(A^t_c)\|_2} \right\|_2^2,
          \qquad A_c = \sum_k w_{ck} F_k

where F is the last map before the pooling, w the weights of the classifier, so that :math:`A_c` tells where class c is seen, and
:math:`\phi` the average over a grid of `resolution` x `resolution` regions. The authors' code also divides by the number of regions
(`variant: official`); the weights of some hundred that are quoted for this loss belong to it.

When to use: convolutional classifiers that average a last map and apply one linear layer (name that map); the channels of both may differ,
the classes must be the same. It makes the student look at the right places for every class; on its own, without labels, it works as well.

Cost: of order b C k for b examples, C classes and k channels, times the regions; full maps of classes are never formed. No parameters.

Reference: Guo et al., "Class Attention Transfer Based Knowledge Distillation", CVPR 2023, arXiv:2304.12777, section 3.2.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, final

import torch.nn.functional as F
from torch import Tensor

from ..errors import ShapeMismatch
from ..ops.geometry import unit
from ..ops.layouts import as_map
from ..ops.precision import without_autocast
from ..types import Head, Needs, PositiveInt, Signals
from .base import Loss, agree, head_of


def class_attention(feature: Tensor, head: Head, *, resolution: int) -> Tensor:
    """Class activation maps of length 1, `(batch, classes, regions)`.

    Args:
        feature: map `(batch, channels, height, width)`, or tokens that form a grid.
        head: the classifier.
        resolution: rows and columns of regions.

    Raises:
        ShapeMismatch: where the classifier reads another number of channels.
    """
    regions = F.adaptive_avg_pool2d(as_map(feature), resolution).flatten(2)
    weight = head.weight.to(regions.dtype)
    if weight.shape[1] != regions.shape[1]:
        raise ShapeMismatch(
            f"the classifier reads {weight.shape[1]} channels, the feature {list(feature.shape)} has {regions.shape[1]}; "
            "name the last layer before the pooling."
        )
    # Classes and averages are both linear: the regions are averaged before there are classes.
    with without_autocast(regions):
        return unit(weight @ regions)


@final
@dataclass(eq=False, repr=False, kw_only=True)
class CATKD(Loss):
    """Where each class is seen, compared over coarse regions; how strongly does not count."""

    resolution: PositiveInt = 2
    """Rows and columns of regions."""
    variant: Literal["paper", "official"] = "paper"
    """The sum over the regions, or their mean as in the authors' code."""

    @property
    def needs(self) -> Needs:
        return Needs(features="one", match="space", head="both", label_kinds=("class",))

    def forward(self, student: Signals, teacher: Signals, labels: Tensor | None = None) -> Tensor:
        ours = class_attention(student.feature, head_of(student, "student"), resolution=self.resolution)
        theirs = class_attention(teacher.feature, head_of(teacher), resolution=self.resolution)
        ours, theirs = agree(ours, theirs)
        values = (ours - theirs).square().mean(1)
        return values.mean(1) if self.variant == "official" else values.sum(1)
