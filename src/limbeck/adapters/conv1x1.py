r"""A 1x1 convolution, with the two maps brought to one height and width.

.. math:: W * pool(x) + b

The convolutional regressor of hints, with kernels of one pixel. Reference: Romero et al., "FitNets: Hints for Thin Deep Nets", ICLR
2015, arXiv:1412.6550, section 2.2.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

from torch import Tensor, nn

from ._space import Resize, aligned_maps
from .base import Adapter, Match, cast_like, layout


@final
@dataclass(eq=False, repr=False, kw_only=True)
class Conv1x1(Adapter):
    """Maps to maps of another number of channels and perhaps another size."""

    accepts: ClassVar = (("map", "map"),)

    bias: bool = True
    """Whether the convolution has an offset."""
    batch_norm: bool = False
    """Batch norm after the convolution."""
    resize: Resize = "smaller"
    """Whose height and width the result has: the smaller of both, the student's or the teacher's."""

    @classmethod
    def suits(cls, student: Tensor, teacher: Tensor, match: Match) -> bool:
        return match == "full" and layout(student) == layout(teacher) == "map" and student.shape[1] != teacher.shape[1]

    def create(self, student: Tensor, teacher: Tensor) -> None:
        dtype = student.dtype if student.element_size() >= 4 else None
        self.project = nn.Conv2d(student.shape[1], teacher.shape[1], 1, bias=self.bias, device=student.device, dtype=dtype)
        norm = nn.BatchNorm2d(teacher.shape[1], device=student.device, dtype=dtype)
        self.norm = norm if self.batch_norm else nn.Identity()

    def forward(self, student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
        s, t = aligned_maps(student, teacher, self.resize)
        return self.norm(self.project(cast_like(s, self.project.weight))), t
