r"""Equal height and width, without parameters.

.. math:: pool(x)

The larger map is averaged down to the smaller. Reference: Zagoruyko and Komodakis, "Paying More Attention to Attention", ICLR
2017, arXiv:1612.03928, section 3.1, which lets maps be resized to match.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

from torch import Tensor

from ..types import NonNegativeInt
from ._space import Resize, aligned_maps
from .base import Adapter, Match, layout


@final
@dataclass(eq=False, repr=False, kw_only=True)
class Pool(Adapter):
    """Maps of one height and width; tokens are read as a map of their grid. Channels stay as they are."""

    accepts: ClassVar = (("map", "map"), ("map", "tokens"), ("tokens", "map"), ("tokens", "tokens"))

    resize: Resize = "smaller"
    """Whose height and width the result has: the smaller of both, the student's or the teacher's."""
    student_prefix: NonNegativeInt | None = None
    """Tokens of the student before its grid (class token, registers); found from their number where absent."""
    teacher_prefix: NonNegativeInt | None = None
    """Tokens of the teacher before its grid; found from their number where absent."""

    @classmethod
    def suits(cls, student: Tensor, teacher: Tensor, match: Match) -> bool:
        layouts = (layout(student), layout(teacher))
        if match == "space":
            return layouts in cls.accepts
        return match == "full" and layouts == ("map", "map") and student.shape[1] == teacher.shape[1]

    def create(self, student: Tensor, teacher: Tensor) -> None:
        self(student, teacher)  # no parameters; a grid that does not fit is found now

    def forward(self, student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
        return aligned_maps(student, teacher, self.resize, self.student_prefix, self.teacher_prefix)
