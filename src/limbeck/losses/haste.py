r"""Attention alignment: each query of the student attends where the teacher's does.

.. math:: - \frac{1}{L H Q} \sum_{l,h,q} \sum_k p^t_{l,h,q,k} \log p^s_{l,h,q,k}, \qquad p = softmax_k(a_{l,h,q,k})

where a is the attention of layer l before its softmax, as `(batch, heads, queries, keys)`; of one row of attention for each head the layout
is `(batch, keys, heads)`. Where the numbers of heads differ, the first heads that both have are compared. It is the cross-entropy of the
paper, whose least value is the entropy of the teacher.

The paper's further terms are losses of their own: the alignment of projected tokens is `cosine` with an adapter, and what makes it work,
that both stop at a time, is a weight `{schedule: step, start: 0.5, end: 0}`.

When to use: transformers that read the same tokens, above all a diffusion transformer that learns from a recognition model: early in
training only.

Cost: of order b H Q K for each pair of layers; no parameters. Layers must give their attention before the softmax, which fused kernels do
not.

Reference: Wang et al., "REPA Works Until It Doesn't: Early-Stopped, Holistic Alignment Supercharges Diffusion Training", 2025,
arXiv:2505.16792, section 3.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

import torch
from torch import Tensor

from ..errors import ShapeMismatch
from ..ops.precision import widen
from ..ops.reduce import example_mean
from ..types import Needs, Signals
from .base import Loss, agree, pairs


def attention_cross_entropy(student: Tensor, teacher: Tensor, *, stable: bool = True) -> Tensor:
    """Mean over heads and queries of the cross-entropy of attention.

    Args:
        student: attention before its softmax, `(batch, heads, queries, keys)` or `(batch, keys, heads)`.
        teacher: likewise; only the number of heads may differ.
        stable: whether logarithms are taken before the exponentials cancel; without it as in the authors' code, infinite where a
            probability is too small for its type.

    Returns:
        `(batch,)`.

    Raises:
        ShapeMismatch: where there are no keys.
    """
    ours, theirs = _rows(student), _rows(teacher)
    heads = min(ours.shape[1], theirs.shape[1])
    ours, theirs = agree(ours[:, :heads], theirs[:, :heads])
    log_ours = ours.log_softmax(-1) if stable else ours.softmax(-1).log()
    return example_mean(-(theirs.softmax(-1) * log_ours).sum(-1))


def _rows(attention: Tensor) -> Tensor:
    if attention.ndim < 3:
        raise ShapeMismatch(f"attention has heads and keys, found a feature of shape {list(attention.shape)}; tap an attention layer.")
    return widen(attention) if attention.ndim > 3 else widen(attention).mT


@final
@dataclass(eq=False, repr=False, kw_only=True)
class HASTE(Loss):
    """Matches the attention of one or more layers, named in pairs."""

    exempt: ClassVar = {"equality": "the paper's cross-entropy is not 0 but the teacher's entropy where both are equal"}

    @property
    def needs(self) -> Needs:
        return Needs(features="many", match="space")

    def forward(self, student: Signals, teacher: Signals, labels: Tensor | None = None) -> Tensor:
        return torch.stack([attention_cross_entropy(*pair) for pair in pairs(student, teacher)]).mean(0)
