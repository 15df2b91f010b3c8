r"""Dual-head optimisation: a second head of the student listens to the teacher.

.. math:: T^2 \, KL\left(softmax(z^t / T) \,\|\, softmax(W h / T)\right)

where h is the student's tapped feature (averaged over positions or tokens) and W a linear head that is learned with the loss. The
student's own head, which learns from the labels by a `cross_entropy` beside this term, never hears the teacher, so the two signals meet
in the shared layers only. Both heads are used together,

.. math:: p = \alpha \, softmax(z) + (1 - \alpha) \, softmax(W h / \beta)

which is `fuse`; `search_fusion` finds :math:`\alpha` and :math:`\beta` on held-out examples. The exported student has its own head only:
keep `loss.head` to fuse. The authors' script adds half the mean over labelled and half that over unlabelled examples to half the
cross-entropy; here the mean over both kinds is one mean, so weights of 0.5 for the labels and 1 for this term come near it.

When to use: few labels and a teacher that was not trained on them, such as a zero-shot model, whose answers contradict the labels. Tap
what the head reads: `student: "head:input"`.

Cost: of order b c C for b examples, c channels and C classes; C (c + 1) parameters.

Reference: Kang et al., "Simple Semi-supervised Knowledge Distillation from Vision-Language Models via Dual-Head Optimization", 2025,
arXiv:2505.07675, section 3.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, final

from torch import Tensor, nn

from ..ops.layouts import as_positions, pooled
from ..ops.precision import widen, without_autocast
from ..types import Needs, Positive, Signals
from .base import Loss, agree, logits_of
from .kd import softened_kl

ALPHAS = tuple(0.05 * i for i in range(21))
BETAS = (0.5, 0.75, 1.0, 1.25, 1.5, 2.0, 4.0)


def second_head_loss(student: Tensor, teacher: Tensor, *, temperature: float) -> Tensor:
    """Divergence of the second head's logits from the teacher's, `(batch, classes)` to `(batch,)`, with the factor T^2."""
    return temperature**2 * softened_kl(*agree(student, teacher), temperature=temperature)


def fuse(logits: Tensor, second: Tensor, *, alpha: float, beta: float) -> Tensor:
    """Probabilities of both heads together, `(batch, classes)`: `alpha` of the first, the rest of the second at temperature `beta`."""
    logits, second = agree(widen(logits), widen(second))
    return alpha * logits.softmax(1) + (1 - alpha) * (second / beta).softmax(1)


def search_fusion(
    logits: Tensor, second: Tensor, labels: Tensor, *, alphas: Sequence[float] = ALPHAS, betas: Sequence[float] = BETAS
) -> tuple[float, float, float]:
    """The best way to fuse two heads on labelled examples that neither has learned from.

    Args:
        logits: of the first head, `(examples, classes)`.
        second: of the second head.
        labels: class indices `(examples,)`.
        alphas: shares of the first head to try.
        betas: temperatures of the second head to try, all alphas for each.

    Returns:
        The highest accuracy, and the first alpha and beta that reach it; 0, 0 and 1 where none is above 0.
    """
    best = (0.0, 0.0, 1.0)
    for beta in betas:
        for alpha in alphas:
            hits = int((fuse(logits, second, alpha=alpha, beta=beta).max(1).indices == labels).sum())
            if hits / len(labels) > best[0]:
                best = (hits / len(labels), alpha, beta)
    return best


@final
@dataclass(eq=False, repr=False, kw_only=True)
class DHO(Loss):
    """A head of its own for what the teacher says, so that labels and teacher do not fight over one."""

    exempt: ClassVar[Mapping[str, str]] = {
        **dict.fromkeys(("gradient", "precision", "compile"), "the logits are the other head's, which this loss gives no gradient"),
        "equality": "a head that is learned stands between the student's feature and the teacher's logits",
    }

    temperature: Positive = 2.0
    """Softmax temperature T of the second head and the teacher."""

    @property
    def needs(self) -> Needs:
        return Needs(logits=True, features="one", match="any", label_kinds=("class",))

    def setup(self, student: Signals, teacher: Signals) -> None:
        feature = as_positions(student.feature)
        self.head = nn.Linear(feature.shape[1], logits_of(teacher, "teacher").shape[1], device=feature.device)

    def answers(self, feature: Tensor) -> Tensor:
        """Logits of the second head for a feature of the student, `(batch, classes)`."""
        vectors = pooled(feature)
        with without_autocast(vectors):
            return self.head(vectors.to(self.head.weight.dtype))

    def forward(self, student: Signals, teacher: Signals, labels: Tensor | None = None) -> Tensor:
        return second_head_loss(self.answers(student.feature), logits_of(teacher, "teacher"), temperature=self.temperature)
