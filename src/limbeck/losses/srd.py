r"""Simple recipe distillation: normalised embeddings, compared by a log-sum.

.. math:: \log \sum_{i,d} \left| \mathrm{BN}(W s_i + c)_d - \mathrm{BN}(t_i)_d \right|^\alpha

where :math:`s_i` and :math:`t_i` are the embeddings of example i (maps and tokens are averaged over their positions), W a linear projector
that learns with the student, and BN batch normalisation without scale and offset. The logarithm makes the gradient independent of the
size of the sum, and a large :math:`\alpha` spends it on the largest differences. Where both embeddings are equal the sum is 0; its
logarithm is bounded below there. The authors' code for convolutional models has twice this value (`variant: official`) and adds a
divergence of the logits, which is a term of its own: `kd` with `temperature: 1`. Their code for transformers takes another quantity, the
logarithm of the sum of :math:`|1 - \rho_d|^\alpha` over the correlations :math:`\rho_d` of each channel, which is not here.

When to use: the last embedding before the classifier (`head:input`), models of any two kinds; wants batches that are not tiny. A single
example cannot be normalised, the running statistics stand in.

Cost: of order b d D for b examples of d and D channels; d D parameters in the projector.

Reference: Miles, Mikolajczyk, "Understanding the Role of the Projector in Knowledge Distillation", AAAI 2024, arXiv:2303.11098, section 3.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal, final

import torch
from annotated_types import Ge
from torch import Tensor, nn

from ..ops.closed_form import closed_form
from ..ops.layouts import pooled
from ..ops.precision import widen, without_autocast
from ..types import Needs, Signals
from ._connectors import VectorNorm
from .base import Loss, agree


def log_sum_gap(student: Tensor, teacher: Tensor, *, alpha: float) -> Tensor:
    """Logarithm of the sum of all absolute differences to the power `alpha`, two tensors of one shape to a scalar."""
    ours, theirs = agree(student, teacher)
    return closed_form(_log_sum, widen(ours), theirs, alpha)


def _log_sum(student: Tensor, teacher: Tensor, alpha: float) -> tuple[Tensor, Tensor]:
    gap = student - teacher
    # The largest difference is taken out of the sum, which so neither overflows nor vanishes; as a factor it has no gradient.
    largest = gap.detach().abs().amax()  # mutate: equivalent unwrapped (its gradient cancels, and costs time)
    largest = largest.clamp_min(torch.finfo(gap.dtype).tiny)
    gap = gap / largest
    # Torch has no short way for powers but that of 2.
    quick = alpha == 4  # mutate: equivalent constant, comparison (both ways agree)
    powers = gap.square() * gap if quick else gap.abs().pow(alpha - 1) * gap.sign()
    total = (powers * gap).sum().clamp_min(1)
    return total.log() + alpha * largest.log(), powers / (total * largest) * alpha


@final
@dataclass(eq=False, repr=False, kw_only=True)
class SRD(Loss):
    """Projects the student's embedding, normalises both over the batch, and weighs large differences most."""

    exempt: ClassVar = {"equality": "the projector is learned, and a logarithm has no least value 0"}

    alpha: Annotated[float, Ge(1)] = 4.0
    """Exponent of the differences; the paper finds larger ones better where the student is much smaller."""
    variant: Literal["paper", "official"] = "paper"
    """The paper's formula, or twice its value as in the authors' code."""

    @property
    def needs(self) -> Needs:
        return Needs(features="one", match="any", global_batch=True)

    def setup(self, student: Signals, teacher: Signals) -> None:
        ours, theirs = pooled(student.feature), pooled(teacher.feature)
        self.project = nn.Linear(ours.shape[1], theirs.shape[1], device=ours.device, dtype=ours.dtype)
        self.norms = nn.ModuleList(VectorNorm(theirs.shape[1], 1e-4, affine=False, device=ours.device, dtype=ours.dtype) for _ in range(2))

    def forward(self, student: Signals, teacher: Signals, labels: Tensor | None = None) -> Tensor:
        dtype = self.project.weight.dtype
        ours, theirs = pooled(student.feature).to(dtype), pooled(teacher.feature).to(dtype)
        with without_autocast(ours):
            ours = self.project(ours)
        ours, theirs = self.norms[0](ours), self.norms[1](theirs)
        value = log_sum_gap(ours, theirs, alpha=self.alpha)  # mutate: equivalent swapped (symmetric)
        return 2 * value if self.variant == "official" else value
