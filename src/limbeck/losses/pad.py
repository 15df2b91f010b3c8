r"""Prime-aware adaptive distillation: a squared error, lenient where it fails.

.. math:: \frac{1}{D} \sum_d \left[ \frac{(t_d - s_d)^2}{\epsilon + \sigma_d^2} + \ln \sigma_d^2 \right]

where s is the student's feature, mapped by the term's adapter, and :math:`\ln \sigma^2` is predicted from it for every example, channel and
position by a 1x1 convolution with batch norm that learns with the student: examples that cannot be matched get a large variance and little
weight, the easy ("prime") ones lead. The Gaussian likelihood's factor 1/2 is left to the weight, the mean over the D elements and
:math:`\epsilon` are those of the authors' code. The value may fall below 0.

When to use: where `hint` suffers from examples that the student has no chance to match; for embeddings and maps alike. Public recipes start
it from a student that has learned with a plain squared error first, a stage of its own.

Cost: of order positions times channels squared for the predicted variances, which have as many parameters as channels squared.

Reference: Zhang et al., "Prime-Aware Adaptive Distillation", ECCV 2020, arXiv:2008.01458, section 3.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, final

from torch import Tensor

from ..ops.layouts import as_positions
from ..ops.precision import widen, without_autocast
from ..types import Needs, NonNegative, Signals
from ._connectors import conv_norm
from .base import Loss, agree
from .mse import squared_error


def adaptive_gap(student: Tensor, teacher: Tensor, log_variance: Tensor, *, epsilon: float) -> Tensor:
    """Error of every element relative to its variance, plus the logarithm of that; three tensors of one shape to that shape."""
    error, log_variance = agree(squared_error(student, teacher), widen(log_variance))
    # A sigmoid is the division in a form whose gradient neither a huge nor a tiny variance makes infinite.
    if epsilon > 0:
        return error * (math.log(epsilon) - log_variance).sigmoid() / epsilon + log_variance
    return error * (-log_variance).exp() + log_variance


@final
@dataclass(eq=False, repr=False, kw_only=True)
class PAD(Loss):
    """Squared error of one layer, each element weighted by a variance that is predicted from the student."""

    exempt: ClassVar = {
        "independence": "the predicted variances are normalised over the batch",
        "equality": "the logarithm of a variance has no least value 0",
    }

    epsilon: NonNegative = 1e-6
    """Added to the variances."""

    @property
    def needs(self) -> Needs:
        return Needs(features="one", match="full")

    def setup(self, student: Signals, teacher: Signals) -> None:
        ours = as_positions(student.feature)
        self.variance = conv_norm(ours.shape[1], ours.shape[1], 1, ours)

    def forward(self, student: Signals, teacher: Signals, labels: Tensor | None = None) -> Tensor:
        ours, theirs = as_positions(student.feature), as_positions(teacher.feature)
        with without_autocast(ours):
            log_variance = self.variance(ours.unsqueeze(3)).squeeze(3)
        return adaptive_gap(ours, theirs, log_variance, epsilon=self.epsilon)  # mutate: equivalent swapped (symmetric)
