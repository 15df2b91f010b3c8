r"""Semantic calibration: each layer learns from all layers of the teacher.

.. math:: \frac{1}{b\,|S|} \sum_i \sum_s \sum_t \alpha^i_{st} \, \frac{1}{D_t} \left\| P_{st}(f^i_s) - f^i_t \right\|_2^2, \qquad
          \alpha^i_{s \cdot} = softmax_t\; q_s(A_s[i])^T k_t(A_t[i])

where :math:`A = F F^T` holds the inner products of the b flattened examples, :math:`q_s` and :math:`k_t` are networks of two linear layers
with outputs of length 1, and :math:`P_{st}` a projector of three convolutions (1x1, 3x3, 1x1); the larger map of a pair is average-pooled
to the size of the smaller.

The networks read a row of A, so they are made for one size of batch (`batch`): of a larger batch they read the first so many columns, of
a smaller one the missing columns are 0.

When to use: convolutional pairs whose layers do not correspond by depth, when the cost of a projector for each pair of layers is
acceptable during training.

Cost: convolutions with :math:`2 c_t (c_s + 18 c_t + c_t)` parameters for every pair of layers, and matrices of b x b.

Reference: Chen et al., "Cross-Layer Distillation with Semantic Calibration", AAAI 2021, arXiv:2012.03236, equations 3 to 7.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import SignalMissing
from ..ops.geometry import gram, unit
from ..ops.layouts import as_map
from ..ops.precision import without_autocast
from ..types import Needs, PositiveInt, Signals
from ._connectors import conv_norm
from .base import Loss
from .simkd import same_size


class Direction(nn.Module):
    """Two linear layers whose outputs have length 1."""

    def __init__(self, inputs: int, outputs: int, like: Tensor) -> None:
        super().__init__()
        where = {"device": like.device, "dtype": like.dtype}
        self.inputs, self.first, self.second = inputs, nn.Linear(inputs, 2 * outputs, **where), nn.Linear(2 * outputs, outputs, **where)

    def forward(self, features: Tensor) -> Tensor:
        """`(batch, outputs)` from the similarity of every example to the first examples of the batch."""
        rows = F.pad(gram(features), (0, self.inputs - len(features)))  # a negative number cuts columns off
        return unit(self.second(unit(self.first(rows)).relu()))


def projector(student: Tensor, teacher: Tensor) -> nn.Module:
    """Convolutions that map the student's channels to the teacher's."""
    channels = teacher.shape[1]
    last = nn.Conv2d(2 * channels, channels, 1, bias=False, device=student.device, dtype=student.dtype)
    layers = [
        conv_norm(student.shape[1], 2 * channels, 1, student),
        nn.ReLU(),
        conv_norm(2 * channels, 2 * channels, 3, student),
        nn.ReLU(),
    ]
    return nn.Sequential(*layers, last)


@final
@dataclass(eq=False, repr=False, kw_only=True)
class SemCKD(Loss):
    """Squared errors between all pairs of layers, weighted by an attention that is learned from similarities in the batch."""

    exempt: ClassVar = {
        "equality": "the projectors are learned: a student that equals its teacher must first be mapped onto it",
        "permutation": "the paper's attention reads similarities in the order of the batch",
        "chunk": "the paper's attention reads an example's similarities with the whole batch at once",
    }

    batch: PositiveInt = 64
    """Size of batch that the attention is made for; over all processes."""
    factor: PositiveInt = 4
    """Queries and keys have `batch / factor` numbers."""

    @property
    def needs(self) -> Needs:
        return Needs(features="many", match="any", global_batch=True)

    def setup(self, student: Signals, teacher: Signals) -> None:
        ours, theirs = _maps(student, teacher)
        outputs = max(self.batch // self.factor, 1)
        self.queries = nn.ModuleList([Direction(self.batch, outputs, s) for s in ours])
        self.keys = nn.ModuleList([Direction(self.batch, outputs, ours[0]) for _ in theirs])
        self.projectors = nn.ModuleList([nn.ModuleList([projector(s, t) for t in theirs]) for s in ours])

    def attention(self, ours: list[Tensor], theirs: list[Tensor]) -> Tensor:
        """`(batch, student layers, teacher layers)`; rows sum to 1."""
        with without_autocast(ours[0]):
            query = torch.stack([layer(s) for layer, s in zip(self.queries, ours, strict=True)], 1)
            key = torch.stack([layer(t.to(ours[0].dtype)) for layer, t in zip(self.keys, theirs, strict=True)], 1)
            return (query @ key.mT).softmax(-1)

    def forward(self, student: Signals, teacher: Signals, labels: Tensor | None = None) -> Tensor:
        ours, theirs = _maps(student, teacher)
        gaps = [torch.stack([self._gap(i, j, s, t) for j, t in enumerate(theirs)], 1) for i, s in enumerate(ours)]
        return (self.attention(ours, theirs) * torch.stack(gaps, 1)).sum((1, 2)).mean() / len(ours)

    def _gap(self, i: int, j: int, student: Tensor, teacher: Tensor) -> Tensor:
        student, teacher = same_size(student, teacher)
        with without_autocast(student):
            return (self.projectors[i][j](student) - teacher).square().flatten(1).mean(1)  # pyright: ignore[reportIndexIssue]


def _maps(student: Signals, teacher: Signals) -> tuple[list[Tensor], list[Tensor]]:
    ours, theirs = ([as_map(x) for x in signals.features.values()] for signals in (student, teacher))
    if not ours or not theirs:
        raise SignalMissing(
            f"semckd links layers, found {len(ours)} of the student and {len(theirs)} of the teacher; name some on both sides."
        )
    return ours, theirs
