r"""Which of two sets of attributes two sets of target words stand nearer to: the word-embedding association test.

.. math:: d = \frac{mean_{x \in X} s(x) - mean_{y \in Y} s(y)}{std_{w \in X \cup Y} s(w)}, \qquad
          s(w) = mean_{a \in A} \cos(w, a) - mean_{b \in B} \cos(w, b)

with the standard deviation of a sample. The p-value is the share of all ways to divide the targets into two sets of the sizes of X and Y
whose :math:`\sum_X s - \sum_Y s` is at least that of X and Y themselves: one-sided, 1 / (number of ways) at least.

Reference: Caliskan et al., "Semantics derived automatically from language corpora contain human-like biases", Science 2017,
arXiv:1608.07187; for sentences: May et al., "On Measuring Social Biases in Sentence Encoders", NAACL 2019, arXiv:1903.10561.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import ShapeMismatch
from ..ops.geometry import unit


@dataclass(frozen=True)
class Association:
    """How strongly X goes with A and Y with B."""

    effect: float
    """The effect size d, from -2 to 2; 0 where all targets are alike."""
    p_value: float
    """Share of the divisions that are at least as one-sided."""
    exact: bool
    """Whether all divisions were counted, not a sample of them."""


def associations(targets: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """s of every target, `(targets,)` in float64: mean cosine with the attributes A minus that with B.

    Args:
        targets: `(targets, channels)`.
        first: the attributes A, `(attributes, channels)`.
        second: the attributes B, likewise.
    """
    targets, first, second = (unit(x.double()) for x in (targets, first, second))
    return (targets @ first.T).mean(1) - (targets @ second.T).mean(1)


def association_test(x: Tensor, y: Tensor, a: Tensor, b: Tensor, *, divisions: int = 100_000, seed: int = 0) -> Association:
    """Effect size and p-value of embeddings, all `(words, channels)`.

    Args:
        x: the targets X.
        y: the targets Y.
        a: the attributes A.
        b: the attributes B.
        divisions: where there are more ways to divide the targets, so many are drawn, beside the one that is tested.
        seed: of the draws.

    Raises:
        ShapeMismatch: where a set is empty or the channels differ.
    """
    sets = {"X": x, "Y": y, "A": a, "B": b}
    for name, words in sets.items():
        if words.ndim != 2 or len(words) == 0 or words.shape[1] != x.shape[-1]:
            shapes = ", ".join(f"{name} {tuple(words.shape)}" for name, words in sets.items())
            raise ShapeMismatch(f"an association test takes four sets (words, channels) of the same channels, {name} is not: {shapes}.")
    scores = torch.cat([associations(x, a, b), associations(y, a, b)])
    spread = scores.std().item() if len(scores) > 1 else 0.0
    gap = scores[: len(x)].mean().item() - scores[len(x) :].mean().item()
    exact = math.comb(len(scores), len(x)) <= divisions
    sums = _every(scores, len(x)) if exact else _drawn(scores, len(x), divisions, seed)
    # The sum over X says all: that over Y is the total less it. Equal divisions may differ in rounding.
    p_value = (sums >= scores[: len(x)].sum() - 1e-12).double().mean().item()
    return Association(gap / spread if spread > 0 else 0.0, p_value, exact)


def _every(scores: Tensor, size: int) -> Tensor:
    chosen = torch.tensor(list(itertools.combinations(range(len(scores)), size)))
    return scores[chosen].sum(1)


def _drawn(scores: Tensor, size: int, count: int, seed: int) -> Tensor:
    """Sums of so many random halves, and of the one that is tested."""
    generator = torch.Generator().manual_seed(seed)
    order = torch.rand(count, len(scores), generator=generator).argsort(1)[:, :size]
    return torch.cat([scores[order].sum(1), scores[:size].sum().reshape(1)])
