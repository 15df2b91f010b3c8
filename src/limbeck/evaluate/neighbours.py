"""What the nearest examples say: a probe of features that trains nothing, such as for the choice of a teacher or of a source task.

Reference: Yadav and Bansal, "Exclusive Supermask Subnetwork Training for Continual Learning", 2022, arXiv:2210.10209, section 3.3.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..errors import ShapeMismatch

AT_ONCE = 2**24
"""Distances that are held at once; it changes no value."""


def nearest_vote(known: Tensor, labels: Tensor, asked: Tensor, *, k: int = 5, p: float = 2.0) -> Tensor:
    """The commonest label among the nearest known examples, `(asked,)`.

    Of labels that are equally common the smallest wins, of examples that are equally near the first.

    Args:
        known: features, `(examples, channels)`.
        labels: their classes, `(examples,)`.
        asked: features of the examples that are asked about, `(asked, channels)`.
        k: how many vote; all where there are fewer.
        p: order of the distance, above 0; 2 is Euclidean.

    Raises:
        ShapeMismatch: where the shapes do not belong together, or nothing is known.
    """
    fits = known.ndim == asked.ndim == 2 and labels.shape == known.shape[:1] and known.shape[1] == asked.shape[1]
    if not fits or len(known) == 0:
        found = f"{tuple(known.shape)}, {tuple(labels.shape)} and {tuple(asked.shape)}"
        raise ShapeMismatch(f"nearest neighbours take (examples, channels), (examples,) and (asked, channels), found {found}.")
    classes, numbers = labels.unique(return_inverse=True)
    found = [_voted(known, numbers, part, k, p) for part in asked.split(max(1, AT_ONCE // len(known)))]
    return classes[torch.cat(found)] if found else classes[:0]


def _voted(known: Tensor, numbers: Tensor, asked: Tensor, k: int, p: float) -> Tensor:
    far = torch.cdist(asked.double(), known.double(), p=p, compute_mode="donot_use_mm_for_euclid_dist")
    votes = numbers[far.argsort(dim=1, stable=True)[:, :k]]
    return (
        torch.zeros(len(asked), int(numbers.max()) + 1, device=asked.device).scatter_add(1, votes, torch.ones_like(votes).float()).argmax(1)
    )


def nearest_accuracy(features: Tensor, labels: Tensor, *, k: int = 5, share: float = 0.66, seed: int = 0) -> float:
    """How often the neighbours of held-out examples are right: how good features are without training anything on them.

    Args:
        features: `(examples, ...)`, flattened.
        labels: classes, `(examples,)`.
        k: neighbours that vote.
        share: of the examples that are known, drawn by chance; the others are asked about.
        seed: of the draw.

    Raises:
        ShapeMismatch: where there are fewer than two examples, or not as many labels.
    """
    if len(features) < 2 or len(features) != len(labels):
        raise ShapeMismatch(f"a probe of neighbours needs two or more examples with labels, found {len(features)} and {len(labels)}.")
    order = torch.randperm(len(features), generator=torch.Generator().manual_seed(seed)).to(features.device)
    cut = min(max(round(share * len(features)), 1), len(features) - 1)
    flat = features.flatten(1)
    said = nearest_vote(flat[order[:cut]], labels[order[:cut]], flat[order[cut:]], k=k)
    return (said == labels[order[cut:]]).double().mean().item()
