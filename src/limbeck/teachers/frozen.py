"""A pretrained model that never changes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import final

from ..types import Batch, Signals
from .base import Setting, Speaker, Teacher, own_model
from .folding import fold


@final
@dataclass(eq=False, kw_only=True)
class FrozenTeacher(Teacher):
    """A fixed model; only as much of its forward is run as the objective needs."""

    def open(self, setting: Setting) -> None:
        module = own_model(setting, "frozen").to(setting.request.device).eval().requires_grad_(False)
        self.speaker = Speaker(fold(module, setting.request.taps) if setting.request.fold else module, replace(setting, module=None))

    def signals(self, batch: Batch) -> Signals:
        return self.speaker.signals(batch)

    def through(self, batch: Batch) -> Signals:
        return self.speaker.signals(batch, gradient=True)

    def close(self) -> None:
        self.speaker.close()
