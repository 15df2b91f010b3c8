r"""Keeps the examples whose mean feature stays closest to that of all.

Greedy: with the mean :math:`\mu` of all features and the sum :math:`s` of the chosen ones, the k-th is
:math:`\arg\min_i \lVert \mu - (s + h_i) / k \rVert`, the first of equals; needs no labels.

Reference: Welling, "Herding Dynamical Weights to Learn", ICML 2009; in this form in Rebuffi et al., "iCaRL", CVPR 2017, arXiv:1611.07725,
algorithm 4 (there class by class: `balanced: true`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

import torch
from torch import Tensor

from .base import Evidence, Selection, known


def herd(features: Tensor) -> Tensor:
    """All examples in the order in which they are chosen, `(examples,)`, int64."""
    mean, total = features.mean(0), torch.zeros_like(features[0])
    left = torch.ones(len(features), dtype=torch.bool)
    order: list[int] = []
    for count in range(1, len(features) + 1):
        distance = (mean - (total + features) / count).square().sum(1)
        chosen = int(distance.masked_fill(~left, torch.inf).argmin())
        order.append(chosen)
        left[chosen] = False
        total = total + features[chosen]
    return torch.tensor(order, dtype=torch.int64)


@final
@dataclass(frozen=True, kw_only=True)
class Herding(Selection):
    """The number of examples minus the place in the greedy order."""

    reads: ClassVar = ("features",)

    def scores(self, evidence: Evidence) -> Tensor:
        """As the class says, `(examples,)`, float64."""
        order = herd(known(evidence.features, "the features"))
        return torch.empty(len(order), dtype=torch.float64).index_copy(0, order, torch.arange(len(order), 0, -1, dtype=torch.float64))
