r"""DIST: correlations of predictions instead of their values.

.. math:: T^2 \left[ \beta \, \frac{1}{b} \sum_i \left(1 - \rho(P^s_{i:}, P^t_{i:})\right)
          + \gamma \, \frac{1}{C} \sum_k \left(1 - \rho(P^s_{:k}, P^t_{:k})\right) \right]

where row i of P (b examples, C classes) is :math:`softmax(z_i / T)` and :math:`\rho` is Pearson's correlation: over the classes of each
example (the inter-class relation), and over the examples of each class (the intra-class relation). Dense predictions
`(batch, classes, height, width)` and those of tokens count each position as an example.

The authors' code adds 1e-8 to the product of the lengths that divides the correlation (`variant: official`). With many classes or
small batches probabilities deviate by little, and that number is no longer small: equal predictions have a loss above 0. Here the
correlation is exact; what does not vary at all (a batch of one, for the classes) has a gap of 0 from what does not either.

When to use: the teacher is much stronger than the student, so that its probabilities cannot be matched; batches of 32 or more. The paper
has T = 1 on ImageNet and 4 on CIFAR-100, and weights of 1 on segmentation.

Cost: of order b C for b examples and C classes; no parameters.

Reference: Huang et al., "Knowledge Distillation from A Stronger Teacher", NeurIPS 2022, arXiv:2205.10536, equations 8 to 11.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, final

from torch import Tensor

from ..ops.correlation import correlation_gap, guarded_correlation
from ..ops.precision import widen
from ..types import Needs, NonNegative, Positive, Signals
from .base import Loss, logit_pair

Gap = Callable[..., Tensor]
"""1 less the mean correlation of two tensors along `dim`."""


def guarded_gap(x: Tensor, y: Tensor, *, dim: int) -> Tensor:
    """1 less the mean correlation along `dim`, as the authors' code guards it."""
    return 1 - guarded_correlation(x, y, dim=dim, epsilon=1e-8).mean()  # mutate: equivalent swapped (symmetric)


def relations(student: Tensor, teacher: Tensor, *, temperature: float, gap: Gap) -> tuple[Tensor, Tensor]:
    """Inter-class and intra-class term, two tensors of logits to two scalars."""
    ours, theirs = ((_rows(widen(logits)) / temperature).softmax(1) for logits in (student, teacher))
    return gap(ours, theirs, dim=1), gap(ours, theirs, dim=0)  # mutate: equivalent swapped (symmetric)


def _rows(logits: Tensor) -> Tensor:
    """`(batch, classes)`, `(batch, tokens, classes)` or `(batch, classes, height, width)` to `(examples, classes)`."""
    return logits.movedim(1, -1).flatten(0, 2) if logits.ndim > 3 else logits.flatten(0, -2)


@final
@dataclass(eq=False, repr=False, kw_only=True)
class DIST(Loss):
    """The student keeps which class is preferred to which, and which example to which, and is free in how much."""

    beta: NonNegative = 2.0
    """Weight of the relation between the classes of an example."""
    gamma: NonNegative = 2.0
    """Weight of the relation between the examples of a class."""
    temperature: Positive = 1.0
    """Softmax temperature T of both models."""
    variant: Literal["paper", "official"] = "paper"
    """The exact correlation, or the one that the authors' code guards by 1e-8."""

    @property
    def needs(self) -> Needs:
        return Needs(logits=True, label_kinds=("class",), global_batch=True)

    def forward(self, student: Signals, teacher: Signals, labels: Tensor | None = None) -> Tensor:
        gap = guarded_gap if self.variant == "official" else correlation_gap
        inter, intra = relations(*logit_pair(student, teacher), temperature=self.temperature, gap=gap)
        return self.temperature**2 * (self.beta * inter + self.gamma * intra)
