r"""Some of the classes only: what a specialist knows.

.. math:: z' = (z_{c_1}, \dots, z_{c_n})

of both models, whose probabilities are then those among these classes. A specialist that has an output for each of them and no other keeps
its own outputs, which must be in the order of `classes`. An example whose label is another class is still compared: what an expert says of
strangers is part of what it knows; a loss that reads the labels would need those of the specialist and is not for this.

Reference: Gao et al., "Knowledge Concentration: Learning 100K Object Classifiers in a Single CNN", 2017, arXiv:1711.07607; Hinton, Vinyals,
Dean, "Distilling the Knowledge in a Neural Network", 2015, arXiv:1503.02531, section 5 (specialists).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import final

import torch
from torch import Tensor

from ..errors import LimbeckError, ShapeMismatch, SignalMissing
from ..types import NonNegativeInt, Signals
from .base import Target


@final
@dataclass(eq=False, repr=False, kw_only=True)
class OnlyClasses(Target):
    """Compares student and teacher on some of the classes; goes with any loss that reads logits and no labels."""

    classes: Sequence[NonNegativeInt] = (0, 1)
    """Numbers of the classes, in the order of the teacher's outputs where it has no others."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.classes) < 2 or len(set(self.classes)) != len(self.classes):
            raise LimbeckError(f"only_classes needs two or more different classes, found {list(self.classes)}.")

    def forward(self, student: Signals, teacher: Signals, labels: Tensor | None = None) -> tuple[Signals, Signals]:
        return self._of(student, "student"), self._of(teacher, "teacher")

    def _of(self, signals: Signals, who: str) -> Signals:
        if signals.logits is None:
            raise SignalMissing(f"only_classes changes logits, and the {who} gave none; remove it from this term.")
        return replace(signals, logits=self._kept(signals.logits, who))

    def _kept(self, logits: Tensor, who: str) -> Tensor:
        outputs, asked = logits.shape[-1], max(self.classes) + 1
        if who == "teacher" and outputs == len(self.classes):
            return logits
        if outputs < asked:
            also = f", or {len(self.classes)} for these alone" if who == "teacher" else ""
            raise ShapeMismatch(f"only_classes: the {who} has {outputs} outputs, expected {asked} or more{also}. Mend `classes`.")
        return logits.index_select(-1, torch.tensor(self.classes, device=logits.device))
