r"""Knowledge distillation: divergence between softened predictions.

.. math:: T^2 \, D\left(p, q\right), \qquad p = softmax(z^t / T), \quad q = softmax(z^s / T)

where D is Hinton's :math:`KL(p \| q)` (`divergence: forward`, whose gradient is that of the cross-entropy with soft labels), or

- `reverse`: :math:`KL(q \| p)`, which lets a small student give up modes of the teacher instead of covering them all;
- `symmetric`: :math:`\frac{1}{2} KL(p \| q) + \frac{1}{2} KL(q \| p)`;
- `js`: the generalised Jensen-Shannon divergence :math:`\pi KL(p \| m) + (1 - \pi) KL(q \| m)` with
  :math:`m = \pi p + (1 - \pi) q` and :math:`\pi` the `mixture`. It is bounded, and :math:`D / \pi` tends to forward KL as
  :math:`\pi` tends to 0, :math:`D / (1 - \pi)` to reverse KL as it tends to 1; at 0 and 1 themselves it is zero for all students;
- `tv`: the total variation :math:`\frac{1}{2} \sum_k |p_k - q_k|`, whose gradient shrinks with 1 / T instead of its square, so
  that its factor is T;
- `skew_forward`: :math:`KL(p \| \lambda p + (1 - \lambda) q)` and `skew_reverse`: :math:`KL(q \| \lambda q + (1 - \lambda) p)`
  with :math:`\lambda` the `skew`, which are at most :math:`-\log \lambda`, have smaller gradients where the two are far apart, and are
  the forward and the reverse divergence where :math:`\lambda` is 0.

A class that both rule out (a logit of minus infinity, as of a masked vocabulary) counts 0.

When to use: there is a teacher and the task is a classification. The first thing to try; a temperature of 2 to 8. A bounded
divergence (`js`, `tv`) where some of the teacher's answers are badly wrong; for language models `skew_reverse` or `skew_forward`.

Cost: of order b C for b examples and C classes; no parameters.

Reference: Hinton, Vinyals, Dean, "Distilling the Knowledge in a Neural Network", 2015, arXiv:1503.02531, section 2. The others: Wen et
al., "f-Divergence Minimization for Sequence-Level Knowledge Distillation", ACL 2023, arXiv:2307.15190; `js` with a weight: Agarwal et
al., "On-Policy Distillation of Language Models", ICLR 2024, arXiv:2306.13649, equation 1; `skew`: Ko et al., "DistiLLM: Towards
Streamlined Distillation for Large Language Models", ICML 2024, arXiv:2402.03898, equations 3 and 5.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal, final

from annotated_types import Ge, Gt, Lt
from torch import Tensor

from ..ops import divergence as engine
from ..ops.divergence import kl, log_softmax
from ..ops.precision import softened
from ..types import Needs, Positive, Signals
from .base import Loss, logit_pair
from .fused.measure import Measure

Divergence = Literal["forward", "reverse", "symmetric", "js", "tv", "skew_forward", "skew_reverse"]


def softened_kl(student: Tensor, teacher: Tensor, *, temperature: float) -> Tensor:
    """KL of the student from the teacher at `temperature`; `(..., classes)` to `(...)`."""
    return kl(softened(teacher, temperature), softened(student, temperature))


def softened_divergence(
    student: Tensor, teacher: Tensor, *, temperature: float, divergence: Divergence, mixture: float, skew: float
) -> Tensor:
    """One of the divergences at `temperature`, without its factor; `(..., classes)` to `(...)`."""
    p, q = (log_softmax(softened(logits, temperature)) for logits in (teacher, student))
    return engine.divergence(p, q, kind=divergence, weight=mixture if divergence == "js" else skew)


@final
@dataclass(eq=False, repr=False, kw_only=True)
class KD(Loss):
    """Hinton's distillation, with a factor that keeps the size of its gradient when the temperature changes."""

    accepts: ClassVar = ("dense", "hidden", "topk", "sampled")

    temperature: Positive = 4.0
    """Softmax temperature T of both models."""
    divergence: Divergence = "forward"
    """What is measured between the teacher's and the student's probabilities."""
    mixture: Annotated[float, Gt(0), Lt(1)] = 0.5
    """Weight of the teacher in the mixture of `js`; the other divergences do not read it."""

    skew: Annotated[float, Ge(0), Lt(1)] = 0.1
    """The part that a distribution itself has in the mixture of `skew_forward` and `skew_reverse`; the others do not read it."""

    @property
    def measure(self) -> Measure:
        return Measure(divergence=self.divergence, temperature=self.temperature, mixture=self.mixture, skew=self.skew)

    @property
    def needs(self) -> Needs:
        return Needs(logits=True, label_kinds=("class",))

    def forward(self, student: Signals, teacher: Signals, labels: Tensor | None = None) -> Tensor:
        factor = self.temperature if self.divergence == "tv" else self.temperature**2
        how = {"temperature": self.temperature, "mixture": self.mixture, "skew": self.skew}
        return factor * softened_divergence(*logit_pair(student, teacher), divergence=self.divergence, **how)
