"""What teachers have in common that are copies of the learner."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from ..types import Batch, Signals
from .base import Setting, Speaker, Teacher, learner_of


@dataclass(eq=False, kw_only=True)
class Following(Teacher):
    """A copy of the learner, which a subclass moves."""

    source: ClassVar = "learner"

    def open(self, setting: Setting) -> None:
        self.speaker = Speaker(copy.deepcopy(learner_of(setting, type(self).__name__.lower())), setting)

    def signals(self, batch: Batch) -> Signals:
        return self.speaker.signals(batch)

    def state(self) -> dict[str, Tensor]:
        return self.speaker.module.state_dict()

    def load_state(self, state: dict[str, Tensor]) -> None:
        self.speaker.module.load_state_dict(state)

    def close(self) -> None:
        self.speaker.close()


@torch.no_grad()
def move(teacher: nn.Module, learner: nn.Module, keep: float, *, buffers: Literal["average", "copy", "own"]) -> None:
    r"""Moves every parameter as :math:`\theta_t \leftarrow k\,\theta_t + (1 - k)\,\theta_s`.

    Args:
        teacher: the average.
        learner: what it follows; of the same structure.
        keep: share k of the old value.
        buffers: those that are numbers with a fraction are averaged too, copied, or left as they are; counters are never averaged.
    """
    pairs = list(zip(teacher.parameters(), learner.parameters(), strict=True))
    others = list(zip(teacher.buffers(), learner.buffers(), strict=True)) if buffers != "own" else []
    real = [pair for pair in others if pair[0].is_floating_point()]
    if buffers == "average":
        pairs += real
    if pairs:
        torch._foreach_lerp_(  # pyright: ignore[reportPrivateImportUsage] - documented, though underscored
            [mine for mine, _ in pairs], [theirs.detach() for _, theirs in pairs], 1 - keep
        )
    for mine, theirs in others:
        if buffers == "copy" or not mine.is_floating_point():
            mine.copy_(theirs)
