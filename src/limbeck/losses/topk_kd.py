r"""Distillation from the teacher's likeliest classes, as far as it is stored.

.. math:: T^2 \, D(p, q) \qquad \text{over the } k \text{ classes with the largest } p

with :math:`p = softmax(z^t / T)` and :math:`q = softmax(z^s / T)`, and D one of the divergences of `kd` (of `tv` the factor is T).
Libraries for language models store those classes of the teacher and do not agree on what they make of all others (`rest`):

- `tail`: one more class of both, a divergence that bounds the one over all classes from below (TRL, Megatron-LM, DistillKit);
- `teacher`: the teacher's k probabilities are normalised to 1 and the student's are not, so that it unlearns the others (DistillKit);
- `renormalised`: both are normalised, so that half of what the student says may leak to other classes unnoticed (NeMo-RL, ModelOpt);
- `zero`: as `teacher`, but the k probabilities stay as they are;
- `partial`: the other classes are left out of the sum, which may be negative and is least for a wrong student (verl, axolotl).

When to use: to know, before a teacher is stored, what of it will be missed; instead of `kd` where most of its classes are noise.

Cost: of order b C for b examples and C classes; no parameters.

Reference: Anshumann et al., "Sparse Logit Sampling: Accelerating Knowledge Distillation in LLMs", ACL 2025, arXiv:2503.16870, section 3,
on what the others bias; `tail` is the divergence of the coarser distributions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, final

from annotated_types import Ge, Gt, Lt
from torch import Tensor

from ..ops.divergence import log_softmax
from ..ops.precision import softened
from ..ops.topk import Rest, topk_divergence
from ..types import Needs, Positive, PositiveInt, Signals
from .base import Loss, logit_pair
from .kd import Divergence


@final
@dataclass(eq=False, repr=False, kw_only=True)
class TopkKD(Loss):
    """Compares the student with the few classes that a stored teacher holds."""

    accepts: ClassVar = ("dense", "hidden", "topk")

    temperature: Positive = 1.0
    """Softmax temperature T of both models."""
    top: PositiveInt = 64
    """Number k of the teacher's likeliest classes; all where there are fewer."""
    rest: Rest = "tail"
    """What is made of the other classes."""
    divergence: Divergence = "forward"
    """What is measured between the teacher's and the student's probabilities."""
    mixture: Annotated[float, Gt(0), Lt(1)] = 0.5
    """Weight of the teacher in the mixture of `js`."""
    skew: Annotated[float, Ge(0), Lt(1)] = 0.1
    """The part that a distribution itself has in the mixture of `skew_forward` and `skew_reverse`."""

    @property
    def needs(self) -> Needs:
        return Needs(logits=True, label_kinds=("class",))

    def forward(self, student: Signals, teacher: Signals, labels: Tensor | None = None) -> Tensor:
        ours, theirs = (softened(logits, self.temperature) for logits in logit_pair(student, teacher))
        log_p, index = log_softmax(theirs).topk(min(self.top, theirs.shape[-1]), sorted=False)  # mutate: equivalent constant (in any order)
        weight = self.mixture if self.divergence == "js" else self.skew
        factor = self.temperature if self.divergence == "tv" else self.temperature**2
        return factor * topk_divergence(log_p, index, ours, rest=self.rest, kind=self.divergence, weight=weight)
