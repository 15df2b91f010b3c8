"""An earlier state of the student: of the last epoch, of the best evaluation so far, or of the beginning of the stage.

Reference: Kim et al., "Self-Knowledge Distillation with Progressive Refinement of Targets", ICCV 2021, arXiv:2006.12000 (last epoch); Yang
et al., "Snapshot Distillation: Teacher-Student Optimization in One Generation", CVPR 2019, arXiv:1812.00123.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, final

import torch
from torch import Tensor, nn

from ..types import PositiveInt
from ._following import Following, move
from .base import Setting


@final
@dataclass(eq=False, kw_only=True)
class SnapshotTeacher(Following):
    """Begins as a copy of the student and is renewed now and then, all at once."""

    of: Literal["epoch", "best", "start"] = "epoch"
    """Renewed after every `every` epochs, after every evaluation that is the best so far, or never."""
    every: PositiveInt = 1
    """Epochs between two renewals."""

    def open(self, setting: Setting) -> None:
        super().open(setting)
        self.epochs = 0

    def after_epoch(self, learner: nn.Module, improved: bool) -> None:
        self.epochs += 1
        if (self.of == "epoch" and self.epochs % self.every == 0) or (self.of == "best" and improved):
            move(self.speaker.module, learner, 0.0, buffers="copy")

    def state(self) -> dict[str, Tensor]:
        return {**super().state(), "snapshot.epochs": torch.tensor(self.epochs)}

    def load_state(self, state: dict[str, Tensor]) -> None:
        state = dict(state)
        self.epochs = int(state.pop("snapshot.epochs"))
        super().load_state(state)
