r"""The convolutional regressor of hints, whose kernel makes the student's map as large as the teacher's.

.. math:: ReLU(BN(W * x + b))

Where the student's map is twice as high, W is a 3x3 convolution of stride 2; where it is half as high, a transposed 4x4 convolution of
stride 2; else a convolution without padding of height :math:`1 + H_s - H_t` and likewise for the width. After the ReLU, as in the public
code, negative values of the teacher cannot be matched: tap what is itself behind a ReLU, or set `relu: false`.

Reference: Romero et al., "FitNets: Hints for Thin Deep Nets", ICLR 2015, arXiv:1412.6550, section 2.2 (there without batch norm).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, final

import torch
from torch import Tensor, nn

from ..errors import ShapeMismatch
from .base import Adapter, Match, cast_like, describe_shape


@final
@dataclass(eq=False, repr=False, kw_only=True)
class ConvRegressor(Adapter):
    """Maps to maps of the teacher's channels, height and width; never picked on its own, named by the term."""

    accepts: ClassVar = (("map", "map"),)

    bias: bool = True
    """Whether the convolution has an offset."""
    batch_norm: bool = True
    """Batch norm after the convolution."""
    relu: bool = True
    """Whether negative results are cut off."""

    @classmethod
    def suits(cls, student: Tensor, teacher: Tensor, match: Match) -> bool:
        return False

    def create(self, student: Tensor, teacher: Tensor) -> None:
        like: dict[str, Any] = {"device": student.device, "dtype": torch.promote_types(student.dtype, torch.float32)}
        before, after = student.shape[1], teacher.shape[1]
        (sh, sw), (th, tw) = student.shape[2:], teacher.shape[2:]
        if (sh, (sw + 1) // 2) == (2 * th, tw):
            self.project = nn.Conv2d(before, after, 3, stride=2, padding=1, bias=self.bias, **like)
        elif (2 * sh, 2 * sw) == (th, tw):
            self.project = nn.ConvTranspose2d(before, after, 4, stride=2, padding=1, bias=self.bias, **like)
        elif sh >= th and sw >= tw:
            self.project = nn.Conv2d(before, after, (1 + sh - th, 1 + sw - tw), bias=self.bias, **like)
        else:
            raise ShapeMismatch(
                f"adapter 'conv_regressor' makes maps smaller, or twice as large; the student's feature is {describe_shape(student)}, "
                f"the teacher's {describe_shape(teacher)}. Use adapter: {{kind: conv1x1}}, which resizes."
            )
        self.norm = nn.BatchNorm2d(after, **like) if self.batch_norm else nn.Identity()

    def forward(self, student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
        mapped = self.norm(self.project(cast_like(student, self.project.weight)))
        return mapped.relu() if self.relu else mapped, teacher.detach()
