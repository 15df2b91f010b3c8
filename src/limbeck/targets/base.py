"""What a target transform is."""

from __future__ import annotations

from abc import abstractmethod

from ..parts import Part
from ..types import Signals


class Target(Part):
    """Base of all transforms of targets: they stand between the models and any loss that reads what they change."""

    @abstractmethod
    def forward(self, student: Signals, teacher: Signals) -> tuple[Signals, Signals]:
        """Both models' signals as the loss is to see them; the originals stay as they are."""
