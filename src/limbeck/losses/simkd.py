r"""SimKD: a feature for the teacher's own classifier.

.. math:: \frac{1}{D} \left\| P(f^s) - f^t \right\|_2^2

where :math:`f` is the last feature map before pooling, P a projector of three convolutions (1x1 to :math:`c_t / r` channels, 3x3, 1x1 to
:math:`c_t`, each with batch norm and ReLU) and D the number of values of the teacher's map; the larger map is average-pooled to the size
of the smaller.

The paper then throws the student's classifier away: it answers with :math:`g^t(P(f^s))`, the teacher's classifier on the projected and
pooled feature. `SimKD.classify` computes that; keep the loss with the student for it. A recipe exports the student with its own
classifier, which a supervised term on its logits has to train.

When to use: convolutional teacher and student for the same classes, where a projector of :math:`c_t^2 / r` parameters may stay in the
deployed model. No temperature, no weights to balance.

Cost: of order positions times :math:`c_s c_t / r + 9 c_t^2 / r^2 + c_t^2 / r` an example, and as many parameters.

Reference: Chen et al., "Knowledge Distillation with the Reused Teacher Classifier", CVPR 2022, arXiv:2203.14001, equations 2 and 3.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

import torch.nn.functional as F
from torch import Tensor, nn

from ..ops.layouts import as_map
from ..ops.precision import widen, without_autocast
from ..types import Head, Needs, PositiveInt, Signals
from ._connectors import conv_norm
from .base import Loss
from .mse import mean_squared_error


def same_size(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """Two features as maps, the larger one average-pooled to the height and width of the smaller."""
    ours, theirs = as_map(student), as_map(teacher)
    size = min(ours.shape[2], theirs.shape[2]), min(ours.shape[3], theirs.shape[3])
    # Pooling to the size that a map has already would cost a pass forward and one back.
    ours, theirs = (x if x.shape[2:] == size else F.adaptive_avg_pool2d(x, size) for x in (ours, theirs))
    return ours, theirs


@final
@dataclass(eq=False, repr=False, kw_only=True)
class SimKD(Loss):
    """Squared error between the student's last map, behind a learned projector, and the teacher's."""

    exempt: ClassVar = {
        "independence": "the paper's projector normalises over the batch, as convolutional students do",
        "equality": "the projector is learned: a student that equals its teacher must first be mapped onto it",
    }

    factor: PositiveInt = 2
    """Reduction r of the channels inside the projector."""

    @property
    def needs(self) -> Needs:
        return Needs(features="one", match="any")

    def setup(self, student: Signals, teacher: Signals) -> None:
        ours, theirs = same_size(student.feature, teacher.feature)
        channels = theirs.shape[1]
        inner = max(channels // self.factor, 1)
        layers = [conv_norm(ours.shape[1], inner, 1, ours), conv_norm(inner, inner, 3, ours), conv_norm(inner, channels, 1, ours)]
        self.projector = nn.Sequential(*(part for layer in layers for part in (layer, nn.ReLU())))

    def project(self, feature: Tensor) -> Tensor:
        """The student's map with the teacher's channels."""
        with without_autocast(feature):
            return self.projector(as_map(feature))

    def forward(self, student: Signals, teacher: Signals, labels: Tensor | None = None) -> Tensor:
        ours, theirs = same_size(student.feature, teacher.feature)
        return mean_squared_error(self.project(ours), theirs)  # mutate: equivalent swapped (symmetric)

    def classify(self, feature: Tensor, head: Head) -> Tensor:
        """Answers of the student with the teacher's classifier, `(batch, channels, height, width)` to `(batch, classes)`; after `setup`."""
        bias = None if head.bias is None else widen(head.bias)
        return F.linear(self.project(feature).mean((2, 3)), widen(head.weight), bias)
