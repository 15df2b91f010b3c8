"""What every adapter is: a dataclass that is also an `nn.Module`, bringing two features to agreeing shapes."""

from __future__ import annotations

import dataclasses
from abc import abstractmethod
from typing import Any, ClassVar, Literal

from torch import Tensor, nn

from ..errors import ShapeMismatch
from ..parts import Part

Match = Literal["any", "space", "full"]
"""What must agree: nothing; the spatial size (or the number of tokens); every dimension."""

LAYOUTS = {2: "vector", 3: "tokens", 4: "map"}


def layout(feature: Tensor) -> str:
    """`vector` (batch, dim), `tokens` (batch, tokens, dim), `map` (batch, channels, height, width); or `5-dimensional`."""
    return LAYOUTS.get(feature.ndim, f"{feature.ndim}-dimensional")


def describe_shape(feature: Tensor) -> str:
    """Layout and shape, for messages."""
    return f"{layout(feature)} {tuple(feature.shape)}"


class Adapter(Part):
    """Base of all adapters.

    Made in two steps: the fields (hyper-parameters) at construction, the parameters by `setup` from two example
    features. Only the student's side has parameters; the teacher's side may be aligned by operations without any.
    Gradients never reach the teacher.
    """

    accepts: ClassVar[tuple[tuple[str, str], ...]]
    """Pairs of layouts (student, teacher) that the adapter can bring together."""

    @classmethod
    @abstractmethod
    def suits(cls, student: Tensor, teacher: Tensor, match: Match) -> bool:
        """Whether this adapter is the one to pick for two features that do not agree as `match` asks."""

    def setup(self, student: Tensor, teacher: Tensor) -> None:
        """Creates the parameters on the student's device, in float32 or wider. Only shapes matter; values are not read.

        Raises:
            ShapeMismatch: where the adapter cannot bring the two together.
        """
        if (layout(student), layout(teacher)) not in self.accepts:
            pairs = "; ".join(f"{s} -> {t}" for s, t in self.accepts)
            raise ShapeMismatch(
                f"adapter {self.kind!r} joins {pairs}; the student's feature is {describe_shape(student)}, the teacher's "
                f"{describe_shape(teacher)}. Leave adapter out to have one picked."
            )
        self._shapes = {"student": list(student.shape[1:]), "teacher": list(teacher.shape[1:])}
        self.create(student, teacher)

    @abstractmethod
    def create(self, student: Tensor, teacher: Tensor) -> None:
        """Creates the parameters; called by `setup` once the layouts are known to fit."""

    @abstractmethod
    def forward(self, student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
        """Both features in agreeing shapes, the student's first."""

    @property
    def kind(self) -> str:
        """The adapter's name in a recipe."""
        module = type(self).__module__
        return module.rpartition(".")[2] if module.startswith("limbeck.adapters.") else f"{module}:{type(self).__name__}"

    def describe(self) -> dict[str, Any]:
        """Kind, example shapes without the batch, and options that differ from their defaults; for the resolved recipe."""
        fields = [f for f in dataclasses.fields(self) if f.init]  # pyright: ignore[reportArgumentType]
        options = {f.name: getattr(self, f.name) for f in fields if getattr(self, f.name) != f.default}
        return {"kind": self.kind, **self._shapes, **options}


def linear_for(student: Tensor, before: int, after: int, *, bias: bool) -> nn.Linear:
    """A linear layer on the student's device, at least float32."""
    dtype = student.dtype if student.element_size() >= 4 else None
    return nn.Linear(before, after, bias=bias, device=student.device, dtype=dtype)


def cast_like(x: Tensor, parameter: Tensor) -> Tensor:
    """`x` in the parameters' precision, so that half-precision features can be used outside autocast."""
    return x if x.dtype == parameter.dtype else x.to(parameter.dtype)
