"""How much of each domain is trained on next."""

from __future__ import annotations

from torch import Tensor


def gap_shares(student: Tensor, teacher: Tensor, before: Tensor, *, alpha: float) -> Tensor:
    r"""Shares of domains, by how far the student's loss is above the teacher's.

    .. math:: r_i = \alpha \frac{r_i^{old} e^{l^s_i / l^t_i}}{\sum_j r_j^{old} e^{l^s_j / l^t_j}} + \frac{1 - \alpha}{N}

    Args:
        student: mean loss of a token of each domain, `(domains,)`.
        teacher: likewise, above 0.
        before: the shares until now, `(domains,)`.
        alpha: how much follows the gap; the rest is even, and so the least share of a domain is `(1 - alpha) / domains`.

    Returns:
        `(domains,)`, of sum 1.
    """
    ratio = (student / teacher.clamp_min(1e-12)).double()
    weight = before * (ratio - ratio.max()).exp()
    return alpha * weight / weight.sum() + (1 - alpha) / len(before)
