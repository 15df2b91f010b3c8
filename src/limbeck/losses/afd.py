r"""Attention-based feature distillation: learned links between all layers.

.. math:: \sum_t \sum_s \alpha_{ts} \, \frac{1}{N_t} \left\| \phi(h_t) - \phi(h_s) \right\|_2^2, \qquad
          \alpha_{t \cdot} = softmax_s \frac{q_t^T W_t k_s + p_t^T p_s}{\sqrt d}

where :math:`\phi(h)` is the mean of the squared channels at each of the :math:`N_t` positions, scaled to length 1, the student's map
brought to the teacher's size; the query :math:`q_t` and the key :math:`k_s` are linear maps of the pooled features with batch norm (the key
with ReLU), :math:`W_t` and the places :math:`p_t, p_s` are learned, and d is `width`. Every teacher's layer divides its attention among the
student's layers, example by example.

When to use: convolutional pairs whose layers do not correspond by depth; name several layers on each side (their numbers may differ) and
let the loss find the links.

Cost: of order (channels times d + T d^2) an example for T teacher layers, and as many parameters; every pair of layers is compared.

Reference: Ji, Heo, Park, "Show, Attend and Distill: Knowledge Distillation via Attention-based Feature Matching", AAAI 2021,
arXiv:2102.02973, equations 2 to 6.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import SignalMissing
from ..ops.geometry import unit
from ..ops.layouts import as_map
from ..ops.precision import without_autocast
from ..types import Needs, PositiveInt, Signals
from ._connectors import conv_norm
from .base import Loss


def energy(feature: Tensor, size: torch.Size | None = None) -> Tensor:
    """Mean of the squared channels at every position of height and width `size`, scaled to length 1: `(batch, positions)`."""
    if size is not None and feature.shape[2:] != size:  # mutate: equivalent constant (a map that is resized to its own size stays)
        smaller = feature.shape[2] >= size[0] and feature.shape[3] >= size[1]
        feature = (
            F.adaptive_avg_pool2d(feature, (size[0], size[1]))
            if smaller
            else F.interpolate(feature, size, mode="bilinear", align_corners=False)
        )
    return unit(feature.square().mean(1).flatten(1))  # mutate: equivalent function (what is a constant factor is taken away)


class LayerAttention(nn.Module):
    """How much each layer of the teacher attends to each layer of the student.

    Args:
        student: maps of the student.
        teacher: maps of the teacher.
        width: size d of queries and keys.
    """

    def __init__(self, student: list[Tensor], teacher: list[Tensor], width: int) -> None:
        super().__init__()
        like, self.width = student[0], width
        self.queries = nn.ModuleList([conv_norm(t.shape[1], width, 1, like) for t in teacher])
        self.keys = nn.ModuleList([conv_norm(s.shape[1], width, 1, like) for s in student])
        self.bilinear = conv_norm(width, width * len(teacher), 1, like)
        places = {"device": like.device, "dtype": like.dtype}
        self.student_places = nn.Parameter(nn.init.xavier_normal_(torch.empty(len(student), width, **places)))
        self.teacher_places = nn.Parameter(nn.init.xavier_normal_(torch.empty(len(teacher), width, **places)))

    def forward(self, student: list[Tensor], teacher: list[Tensor]) -> Tensor:
        """`(batch, teacher layers, student layers)`; rows sum to 1."""
        with without_autocast(student[0]):
            query = torch.stack([layer(t.mean((2, 3), keepdim=True)).flatten(1) for layer, t in zip(self.queries, teacher, strict=True)], 1)
            keys = [layer(s.mean((2, 3), keepdim=True)).relu() for layer, s in zip(self.keys, student, strict=True)]
            mapped = self.bilinear(torch.cat(keys)).unflatten(0, (len(keys), -1)).flatten(2).unflatten(2, (len(teacher), self.width))
            logits = torch.einsum("sbtd,btd->bts", mapped, query) + self.teacher_places @ self.student_places.mT
        return (logits / math.sqrt(self.width)).softmax(-1)


@final
@dataclass(eq=False, repr=False, kw_only=True)
class AFD(Loss):
    """Compares where every layer is active, for all pairs of layers, weighted by a learned attention."""

    exempt: ClassVar = {
        "independence": "the paper's queries and keys are normalised over the batch",
        "equality": "layers of different depth are compared too, and they differ in a student that equals its teacher",
    }

    width: PositiveInt = 128
    """Size d of queries and keys."""

    @property
    def needs(self) -> Needs:
        return Needs(features="many", match="space")

    def setup(self, student: Signals, teacher: Signals) -> None:
        self.attention = LayerAttention(*_maps(student, teacher), self.width)

    def forward(self, student: Signals, teacher: Signals, labels: Tensor | None = None) -> Tensor:
        ours, theirs = _maps(student, teacher)
        attention = self.attention(ours, theirs)
        gaps = [torch.stack([(energy(s, t.shape[2:]) - energy(t)).square().mean(1) for s in ours], 1) for t in theirs]
        return (attention * torch.stack(gaps, 1)).sum((1, 2))


def _maps(student: Signals, teacher: Signals) -> tuple[list[Tensor], list[Tensor]]:
    ours, theirs = ([as_map(x) for x in signals.features.values()] for signals in (student, teacher))
    if not ours or not theirs:
        raise SignalMissing(
            f"afd links layers, found {len(ours)} of the student and {len(theirs)} of the teacher; name some on both sides."
        )
    return ours, theirs
