r"""Attention-guided and non-local distillation, for dense prediction.

.. math:: \sum_l \alpha \, (\|G^s_l - G^t_l\|_2 + \|C^s_l - C^t_l\|_2)
          + \beta \left( \sum_{cp} M_{lp} N_{lc} (s_{lcp} - t_{lcp})^2 \right)^{1/2} + \gamma \left\| r(s_l) - r'(t_l) \right\|_2

where G is the mean absolute activation of the channels at each position p, C that of the positions in each channel c,
:math:`M = P \, softmax((G^s + G^t) / T)` over the P positions and :math:`N` likewise over the channels: the error counts where either model
looks. :math:`r(x)_p = \frac{1}{P} \sum_q \langle \theta_p, \phi_q \rangle g_q` is a non-local module with learned linear maps
:math:`\theta, \phi, g` of half the channels, one for each model; :math:`\gamma = 0` leaves it out.

M and N are constants of each step, as in the authors' code. The norms are those of each image, there of the whole batch. The authors adapt
channel attention, spatial attention and relations with learned layers each; here the term's adapter brings the student to the teacher's
shape once. The product of :math:`\theta, \phi, g` is taken from the right, so that no matrix of positions by positions is formed.

When to use: detection and segmentation, on the maps of the neck; the weights are those for two-stage detectors (for one-stage ones:
4e-4, 2e-2, 4e-4 and temperature 0.5). In classification raise them.

Cost: of order of the number of elements, and b c^2 p for the relations; 3 c^2 parameters a layer for c channels.

Reference: Zhang, Ma, "Improve Object Detection with Feature-based Knowledge Distillation: Towards Accurate and Efficient Detectors", ICLR
2021, https://openreview.net/forum?id=uKhGRvM8QNH, equations 1 to 6.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

import torch
from torch import Tensor, nn

from ..ops.layouts import as_positions
from ..ops.precision import without_autocast
from ..types import Needs, NonNegative, Positive, Signals
from .base import Loss, agree, pairs


def attention_gap(student: Tensor, teacher: Tensor) -> Tensor:
    """Distance of where both look and in which channels, `(batch, channels, positions)` to `(batch,)`."""
    ours, theirs = student.abs(), teacher.abs()
    return sum((torch.linalg.vector_norm(ours.mean(dim) - theirs.mean(dim), dim=1) for dim in (1, 2)), start=ours.new_zeros(len(ours)))


def guided_gap(student: Tensor, teacher: Tensor, *, temperature: float) -> Tensor:
    """Distance of features, weighted by the attention of both, `(batch, channels, positions)` to `(batch,)`."""
    strength = student.detach().abs() + teacher.abs()
    masks = [(strength.mean(dim, keepdim=True) / temperature).softmax(3 - dim) * strength.shape[3 - dim] for dim in (1, 2)]
    return torch.linalg.vector_norm((student - teacher) * masks[0].sqrt() * masks[1].sqrt(), dim=(1, 2))


class Relations(nn.Module):
    """Non-local module: what each position gathers from all, `(batch, channels, positions)` to `(batch, positions, channels / 2)`."""

    def __init__(self, example: Tensor) -> None:
        super().__init__()
        channels = example.shape[1]
        self.width = max(channels // 2, 1)
        self.project = nn.Linear(channels, 3 * self.width, device=example.device, dtype=example.dtype)

    def forward(self, x: Tensor) -> Tensor:
        """The relations."""
        query, key, value = self.project(x.mT).split(self.width, -1)
        return query @ (key.mT @ value) / x.shape[2]


@final
@dataclass(eq=False, repr=False, kw_only=True)
class AttentionGuided(Loss):
    """Matches where both models look, features where they look, and how positions relate, over one or more layers."""

    exempt: ClassVar = {
        "equality": "how positions relate is read by a module of its own for each model",
        "gradcheck": "the masks are made of the student's attention, which is held constant",
    }

    alpha: NonNegative = 7e-5
    """Weight of the attention."""
    beta: NonNegative = 4e-3
    """Weight of the features under the masks."""
    gamma: NonNegative = 7e-5
    """Weight of the relations between positions; 0 leaves them out, and nothing is learned."""
    temperature: Positive = 0.1
    """Softmax temperature T of the masks."""

    @property
    def needs(self) -> Needs:
        return Needs(features="many", match="full")

    def setup(self, student: Signals, teacher: Signals) -> None:
        """Makes the non-local modules."""
        layers = pairs(student, teacher) if self.gamma > 0 else []  # mutate: equivalent swapped (only their shape is read, and is one)
        examples = [(as_positions(s), as_positions(t)) for s, t in layers]
        self.relations = nn.ModuleList(nn.ModuleList(map(Relations, pair)) for pair in examples)

    def forward(self, student: Signals, teacher: Signals, labels: Tensor | None = None) -> Tensor:
        layers = [agree(as_positions(s), as_positions(t)) for s, t in pairs(student, teacher)]
        gaps = [self.alpha * attention_gap(*x) + self.beta * guided_gap(*x, temperature=self.temperature) for x in layers]
        if self.gamma > 0:
            with without_autocast(gaps[0]):
                both = [(read_s(s), read_t(t)) for (read_s, read_t), (s, t) in zip(self.relations, layers, strict=True)]  # pyright: ignore[reportGeneralTypeIssues]
            gaps += [self.gamma * torch.linalg.vector_norm(s - t, dim=(1, 2)) for s, t in both]
        return torch.stack(gaps).sum(0)
