"""What every loss is: a dataclass that is also an `nn.Module`, returning unreduced values."""

from __future__ import annotations

from abc import abstractmethod

from torch import Tensor

from ..parts import Part
from ..types import Needs, Signals


class Loss(Part):
    """Base of all losses.

    `forward` returns one value an example, `(batch,)`, or one a token or pixel, `(batch, ...)`;
    a batch quantity returns a scalar. It never averages over examples on its own.
    """

    @property
    @abstractmethod
    def needs(self) -> Needs:
        """Which signals the loss asks for."""

    def setup(self, student: Signals, teacher: Signals) -> None:
        """Creates parameters from example signals, before the optimizer exists; most losses have none."""

    @abstractmethod
    def forward(self, student: Signals, teacher: Signals, labels: Tensor | None = None) -> Tensor:
        """Unreduced loss."""
