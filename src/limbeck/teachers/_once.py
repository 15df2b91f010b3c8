"""A teacher that several listen to: it answers once a batch."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor, nn

from ..types import Batch, Signals
from .base import Setting, Teacher


@dataclass(eq=False, kw_only=True)
class Once(Teacher):
    """Another teacher, whose last answer is kept for whoever asks about the same batch again."""

    teacher: Teacher
    _kept: tuple[Batch, Signals] | None = field(default=None, init=False)

    @property
    def replay(self) -> tuple[int, int] | None:
        return self.teacher.replay

    def open(self, setting: Setting) -> None:
        self.teacher.open(setting)

    def signals(self, batch: Batch) -> Signals:
        if self._kept is None or self._kept[0] is not batch:
            self._kept = (batch, self.teacher.signals(batch))
        return self._kept[1]

    def after_step(self, learner: nn.Module) -> None:
        self._kept = None
        self.teacher.after_step(learner)

    def after_epoch(self, learner: nn.Module, improved: bool) -> None:
        self._kept = None
        self.teacher.after_epoch(learner, improved)

    def state(self) -> dict[str, Tensor]:
        return self.teacher.state()

    def load_state(self, state: dict[str, Tensor]) -> None:
        self._kept = None
        self.teacher.load_state(state)

    def close(self) -> None:
        self._kept = None
        self.teacher.close()
