r"""Whether a classifier knows when it is wrong: the area under the risk-coverage curve.

With the examples in the order of falling confidence, the risk at coverage k / n is the error rate among the first k. AURC is the mean of
the risks over all k, and E-AURC what it exceeds that of the best order by, in which every right answer comes before every wrong one. Both
are small numbers and are given times 1000.

Reference: Geifman, Uziel, El-Yaniv, "Bias-Reduced Uncertainty Estimation for Deep Neural Classifiers", ICLR 2019, arXiv:1805.08206.
"""

from __future__ import annotations

import torch
from torch import Tensor


def risk_coverage(confidence: Tensor, right: Tensor) -> dict[str, float]:
    """`aurc` and `eaurc`, times 1000; equally confident examples come in their order.

    Args:
        confidence: of each answer, any increasing scale, `(examples,)`.
        right: which answers are right, bool, `(examples,)`.
    """
    wrong = (~right[confidence.argsort(descending=True, stable=True)]).double()
    best = wrong.sort().values
    coverage = torch.arange(1, len(wrong) + 1, dtype=torch.float64, device=wrong.device)
    area, least = (1000 * (errors.cumsum(0) / coverage).mean().item() for errors in (wrong, best))
    return {"aurc": area, "eaurc": area - least}
