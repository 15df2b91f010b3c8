"""Linear subspaces: what a matrix does not see, and where examples spread, learned batch by batch."""

from __future__ import annotations

import torch
from torch import Tensor

from .precision import widen, without_autocast


def unseen(rows: Tensor, weight: Tensor) -> Tensor:
    """The part of every row that a linear map does not read: its projection onto the null space of `weight`.

    Args:
        rows: `(examples, channels)`.
        weight: `(outputs, channels)`, of any rank.

    Returns:
        `(examples, channels)`; `rows @ weight.T` of it is zero.
    """
    rows, weight = widen(rows), widen(weight)
    with without_autocast(rows):
        _, values, directions = torch.linalg.svd(weight, full_matrices=False)
        floor = values.amax() * max(weight.shape) * torch.finfo(values.dtype).eps
        directions = directions * (values > floor)[:, None]
        return rows - (rows @ directions.mT) @ directions


def centred_scores(rows: Tensor, means: Tensor, basis: Tensor) -> Tensor:
    """Coordinates of `(examples, channels)` in every group's subspace, measured from its mean: `(examples, groups, directions)`.

    Args:
        rows: `(examples, channels)`.
        means: `(groups, channels)`.
        basis: `(groups, channels, directions)`.
    """
    with without_autocast(rows):
        return torch.einsum("nd,gdk->ngk", rows, basis) - torch.einsum("gd,gdk->gk", means, basis)


def follow_subspaces(
    rows: Tensor, shares: Tensor, means: Tensor, basis: Tensor, spread: Tensor, rate: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """One step towards the principal directions of every group (orthogonal iteration on a running covariance).

    Args:
        rows: `(examples, channels)`.
        shares: how much each example belongs to each group, `(examples, groups)`, not negative.
        means: running means `(groups, channels)`.
        basis: running directions, orthonormal, `(groups, channels, directions)`.
        spread: running variance along each, `(groups, directions)`.
        rate: weight of this batch against what ran before, `(groups,)`, between 0 and 1.

    Returns:
        The new means, basis and spread; a direction keeps its sign.
    """
    counts = shares.sum(0).clamp_min(torch.finfo(shares.dtype).tiny)
    with without_autocast(rows):
        means = torch.lerp(means, (shares / counts).mT @ rows, rate[:, None])
        weighted = (shares / counts).unsqueeze(-1) * centred_scores(rows, means, basis)
        pulled = torch.einsum("nd,ngk->gdk", rows, weighted) - means.unsqueeze(-1) * weighted.sum(0).unsqueeze(1)
        mixed = torch.lerp(basis * spread.unsqueeze(1), pulled, rate[:, None, None])
        found, triangle = torch.linalg.qr(mixed)
    scale = triangle.diagonal(dim1=-2, dim2=-1)
    agreement = (found * basis).sum(1, keepdim=True)  # mutate: equivalent function (the mean has the sign of the sum)
    turned = torch.where(agreement < 0, -found, found)  # mutate: equivalent comparison (either sign is right at 0)
    return means, turned, scale.abs()
