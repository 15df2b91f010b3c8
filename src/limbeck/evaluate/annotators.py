r"""How far annotators agree beyond chance: Krippendorff's alpha for categories.

.. math:: \alpha = 1 - \frac{D_o}{D_e}, \qquad D_o = \frac{1}{n} \sum_u \frac{1}{m_u - 1} \sum_{i \neq j \in u} [c_i \neq c_j], \qquad
          D_e = \frac{1}{n (n - 1)} \sum_{c \neq k} n_c n_k

over the examples u that two or more annotators have labelled, :math:`m_u` labels each, n labels together, :math:`n_c` of them of class c.
1 is full agreement, 0 what chance would give, below 0 is less than that. Labels may be missing.

Reference: Krippendorff, "Computing Krippendorff's Alpha-Reliability", 2011, section on nominal data.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..errors import DataError, ShapeMismatch
from ..types import IGNORE


def krippendorff_alpha(labels: Tensor) -> float:
    """Alpha of nominal labels.

    Args:
        labels: class indices, `(annotators, examples)`; `IGNORE` (-100) where an annotator gave none.

    Returns:
        alpha; 1 where only one class occurs, as nothing disagrees.

    Raises:
        ShapeMismatch: another shape, or labels that are no integers.
        DataError: no example has two labels.
    """
    if labels.ndim != 2 or labels.dtype.is_floating_point:
        raise ShapeMismatch(f"alpha takes class indices (annotators, examples), found {labels.dtype} {tuple(labels.shape)}.")
    known = labels != IGNORE
    paired = known.sum(0) > 1
    if not paired.any():
        raise DataError("alpha compares annotators, and no example has labels of two of them.")
    classes, numbers = labels[known & paired].unique(return_inverse=True)
    columns = torch.where(known & paired)[1]
    counts = torch.zeros(labels.shape[1], len(classes), dtype=torch.float64)
    counts.index_put_((columns, numbers), torch.ones(len(numbers), dtype=torch.float64), accumulate=True)
    counts = counts[paired]
    per_example = counts.sum(1)
    total = per_example.sum()
    observed = ((per_example.square() - counts.square().sum(1)) / (per_example - 1)).sum() / total
    each = counts.sum(0)
    expected = (total.square() - each.square().sum()) / (total * (total - 1))
    return 1.0 if expected == 0 else (1 - observed / expected).item()
