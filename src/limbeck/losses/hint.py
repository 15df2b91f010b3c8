r"""FitNets: the student's guided layer imitates the teacher's hint layer.

.. math:: \frac{1}{D} \left\| r(s) - t \right\|_2^2

where :math:`r` is the regressor, which is the term's adapter here, and D the number of elements of an example; of tokens the loss gives
a value each.

When to use: one layer of the student should become able to say what a layer of the teacher says; often strong early and then faded
out.

Cost: of order of the number of elements; no parameters of its own, the regressor is the term's adapter.

Reference: Romero et al., "FitNets: Hints for Thin Deep Nets", ICLR 2015, arXiv:1412.6550, equation 3 (there half the sum over the
D elements; the mean, which all public implementations take, keeps its size independent of the layer).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from torch import Tensor

from ..types import Needs, Signals
from ._padding import kept_tokens, without_padding
from .base import Loss
from .mse import mean_squared_error


@final
@dataclass(eq=False, repr=False, kw_only=True)
class Hint(Loss):
    """Squared error between one layer of the student, mapped by an adapter, and one of the teacher."""

    @property
    def needs(self) -> Needs:
        return Needs(features="one", match="full", padding=True)

    def forward(self, student: Signals, teacher: Signals, labels: Tensor | None = None) -> Tensor:
        values = mean_squared_error(student.feature, teacher.feature)
        return without_padding(values, kept_tokens(student, student.feature))
