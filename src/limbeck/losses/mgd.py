r"""Masked generative distillation: the teacher's map from a part of the student's.

.. math:: \sum_{c,i,j} \left( t - G(M \cdot (A s)) \right)_{c,i,j}^2

where A is a 1x1 convolution to the teacher's channels (left out where they agree), M sets a random share `ratio` of the positions to 0,
anew in every step, and G is a 3x3 convolution, a ReLU and another 3x3 convolution. A and G learn with the student. With `mask: channels`
whole channels are dropped instead, as the authors do for classification, whose last maps are small. The paper sums over the map, so that
its weights are small: 2e-5 for detection, 7e-5 for classification.

When to use: dense tasks (detection, segmentation) and strong teachers; what the student must be able to say is not each pixel but
enough to generate the rest. The masks come from torch's random numbers, which are part of every checkpoint.

Cost: two 3x3 convolutions of the teacher's channels squared at every position, 18 times the channels squared in parameters; they learn
with the student and are not part of it.

Reference: Yang et al., "Masked Generative Distillation", ECCV 2022, arXiv:2205.01529, equations 2 to 5.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal, final

import torch
from torch import Tensor, nn

from ..ops.layouts import as_map
from ..ops.precision import without_autocast
from ..types import Fraction, Needs, Signals
from .base import Loss
from .mse import mean_squared_error


def keep_mask(maps: Tensor, *, ratio: float, mask: Literal["positions", "channels"]) -> Tensor:
    """1 where a position (or channel) is kept, 0 where it is dropped with probability `ratio`; broadcasts to `maps`."""
    batch, channels, height, width = maps.shape
    shape = (batch, 1, height, width) if mask == "positions" else (batch, channels, 1, 1)
    return (torch.rand(shape, device=maps.device) >= ratio).to(maps.dtype)


@final
@dataclass(eq=False, repr=False, kw_only=True)
class MGD(Loss):
    """The student's map, randomly masked, must generate the teacher's."""

    exempt: ClassVar = dict.fromkeys(
        ("purity", "permutation", "independence", "copies", "gradcheck", "precision", "compile"),
        "every call draws another mask, which is the method",
    ) | {"equality": "the generator is learned: even an equal student must first generate the rest"}

    ratio: Fraction = 0.65
    """Share that is dropped; in the paper 0.65 or 0.45 for detection, 0.75 for segmentation, 0.5 for classification."""
    mask: Literal["positions", "channels"] = "positions"
    """What is dropped."""

    @property
    def needs(self) -> Needs:
        return Needs(features="one", match="space")

    def setup(self, student: Signals, teacher: Signals) -> None:
        ours, theirs = as_map(student.feature), as_map(teacher.feature)
        before, after = ours.shape[1], theirs.shape[1]
        where: dict[str, Any] = {"device": ours.device, "dtype": ours.dtype}
        self.align = nn.Identity() if before == after else nn.Conv2d(before, after, 1, **where)
        first, second = (nn.Conv2d(after, after, 3, padding=1, **where) for _ in range(2))
        self.generation = nn.Sequential(first, nn.ReLU(), second)

    def forward(self, student: Signals, teacher: Signals, labels: Tensor | None = None) -> Tensor:
        ours, theirs = as_map(student.feature), as_map(teacher.feature)
        keep = keep_mask(ours if self.mask == "positions" else theirs, ratio=self.ratio, mask=self.mask)
        return mean_squared_error(self.generate(ours, keep), theirs) * theirs[0].numel()

    def generate(self, student: Tensor, keep: Tensor) -> Tensor:
        """The teacher's map as the student's tells it, where it is kept (1, else 0)."""
        with without_autocast(student):
            return self.generation(self.align(student) * keep)
