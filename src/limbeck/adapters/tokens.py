r"""Between maps and tokens, or between tokens of different grids.

.. math:: W \, pool(grid(x)) + b

Tokens are read as a map of their grid, without class token and registers; both sides are brought to one height and width; a linear
map takes the student's channels to the teacher's. Reference: Hao et al., "One-for-All: Bridge the Gap Between Heterogeneous
Architectures in Knowledge Distillation", NeurIPS 2023, arXiv:2310.19444, where features of unlike architectures are projected
into one space.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

from torch import Tensor

from ..types import NonNegativeInt
from ._space import Resize, aligned_maps
from .base import Adapter, Match, cast_like, layout, linear_for


@final
@dataclass(eq=False, repr=False, kw_only=True)
class Tokens(Adapter):
    """A map and tokens, or tokens and another number of tokens; the result has the teacher's layout."""

    accepts: ClassVar = (("map", "tokens"), ("tokens", "map"), ("tokens", "tokens"))

    bias: bool = True
    """Whether the linear map has an offset."""
    resize: Resize = "smaller"
    """Whose grid the result has: the smaller of both, the student's or the teacher's."""
    student_prefix: NonNegativeInt | None = None
    """Tokens of the student before its grid (class token, registers); found from their number where absent."""
    teacher_prefix: NonNegativeInt | None = None
    """Tokens of the teacher before its grid; found from their number where absent."""

    @classmethod
    def suits(cls, student: Tensor, teacher: Tensor, match: Match) -> bool:
        layouts = (layout(student), layout(teacher))
        return match == "full" and layouts in cls.accepts and not (layouts[0] == layouts[1] and student.shape[1] == teacher.shape[1])

    def create(self, student: Tensor, teacher: Tensor) -> None:
        s, t = aligned_maps(student, teacher, self.resize, self.student_prefix, self.teacher_prefix)
        self.project = linear_for(student, s.shape[1], t.shape[1], bias=self.bias)

    def forward(self, student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
        s, t = aligned_maps(student, teacher, self.resize, self.student_prefix, self.teacher_prefix)
        grid = s.shape[2:]
        s = self.project(cast_like(s.flatten(2).transpose(1, 2), self.project.weight))
        if teacher.ndim == 3:
            return s, t.flatten(2).transpose(1, 2)
        return s.transpose(1, 2).unflatten(2, grid), t
