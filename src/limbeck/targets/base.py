"""What a target transform is."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar

from torch import Tensor

from ..errors import LimbeckError
from ..parts import Part
from ..types import Signals


class Target(Part):
    """Base of all transforms of targets: they stand between the models and any loss that reads what they change."""

    reads_labels: ClassVar[bool] = False
    """Whether it reads the ground truth."""
    weighs: ClassVar[bool] = False
    """Whether `weights` is to be asked; the term's logits are then there, also where its loss reads a layer only."""
    watches_student: ClassVar[bool] = False
    """Whether `weights` reads the student; the term is then averaged over each forward pass by itself, not over the whole update."""

    @property
    def extra(self) -> tuple[str, ...]:
        """Names in the student's `Signals.extra` that it reads; `weights` finds them also where it does not watch the student."""
        return ()

    @abstractmethod
    def forward(self, student: Signals, teacher: Signals, labels: Tensor | None = None) -> tuple[Signals, Signals]:
        """Both models' signals as the loss is to see them; the originals stay as they are.

        Args:
            student: what the student says.
            teacher: what the teacher says.
            labels: ground truth, with `IGNORE` where there is none; None where it is not known.
        """

    def weights(self, student: Signals, teacher: Signals, labels: Tensor | None) -> Tensor:
        """How much each example counts in its term, `(batch,)`; the term is divided by their sum. Asked only where `weighs` is true.

        Args:
            student: only what is known of the examples (`extra`), but where `watches_student` is true.
            teacher: what the teacher says.
            labels: ground truth, as for `forward`.
        """
        raise LimbeckError(f"{type(self).__name__} says that it weighs examples and has no method `weights`.")
