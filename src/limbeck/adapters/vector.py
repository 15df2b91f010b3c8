r"""Between a vector and a map or tokens.

.. math:: W \, mean(x) + b

A map is averaged over its places, tokens over all of them (or the class token is taken); a linear map takes the student's
dimension to the teacher's. Reference, for global average pooling: Lin, Chen, Yan, "Network In Network", ICLR 2014,
arXiv:1312.4400, section 3.2.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, final

from torch import Tensor

from .base import Adapter, Match, cast_like, layout, linear_for


@final
@dataclass(eq=False, repr=False, kw_only=True)
class Vector(Adapter):
    """One vector an example on both sides."""

    accepts: ClassVar = (("map", "vector"), ("tokens", "vector"), ("vector", "map"), ("vector", "tokens"), ("vector", "vector"))

    tokens: Literal["mean", "first"] = "mean"
    """What stands for a sequence of tokens: their mean, or the first (the class token)."""
    bias: bool = True
    """Whether the linear map has an offset."""

    @classmethod
    def suits(cls, student: Tensor, teacher: Tensor, match: Match) -> bool:
        layouts = (layout(student), layout(teacher))
        return match == "full" and layouts in cls.accepts and layouts[0] != layouts[1]

    def create(self, student: Tensor, teacher: Tensor) -> None:
        s, t = self._pooled(student), self._pooled(teacher)
        self.project = linear_for(student, s.shape[1], t.shape[1], bias=self.bias)

    def forward(self, student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
        return self.project(cast_like(self._pooled(student), self.project.weight)), self._pooled(teacher.detach())

    def _pooled(self, feature: Tensor) -> Tensor:
        """`(batch, dim)`."""
        if feature.ndim == 4:
            return feature.mean((2, 3))
        if feature.ndim == 3:
            return feature.mean(1) if self.tokens == "mean" else feature[:, 0]
        return feature
