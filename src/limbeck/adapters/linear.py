r"""A linear map of the last dimension.

.. math:: x W^T + b

The regressor of hints for vectors and for tokens. Reference: Romero et al., "FitNets: Hints for Thin Deep Nets",
ICLR 2015, arXiv:1412.6550, section 2.2; for tokens, Jiao et al., "TinyBERT", EMNLP 2020, arXiv:1909.10351.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

from torch import Tensor

from ..errors import ShapeMismatch
from .base import Adapter, Match, cast_like, describe_shape, layout, linear_for


@final
@dataclass(eq=False, repr=False, kw_only=True)
class Linear(Adapter):
    """Vectors to vectors, or tokens to as many tokens, of another dimension."""

    accepts: ClassVar = (("vector", "vector"), ("tokens", "tokens"))

    bias: bool = True
    """Whether the map has an offset."""

    @classmethod
    def suits(cls, student: Tensor, teacher: Tensor, match: Match) -> bool:
        same_places = student.shape[1:-1] == teacher.shape[1:-1]
        return match == "full" and layout(student) == layout(teacher) != "map" and same_places

    def create(self, student: Tensor, teacher: Tensor) -> None:
        if student.shape[1:-1] != teacher.shape[1:-1]:
            raise ShapeMismatch(
                f"adapter 'linear' needs equal numbers of tokens; the student's feature is {describe_shape(student)}, the teacher's "
                f"{describe_shape(teacher)}. Use adapter: {{kind: tokens}}, which resizes the grid."
            )
        self.project = linear_for(student, student.shape[-1], teacher.shape[-1], bias=self.bias)

    def forward(self, student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
        return self.project(cast_like(student, self.project.weight)), teacher.detach()
