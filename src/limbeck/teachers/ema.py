r"""The moving average of the student's own weights.

.. math:: \theta_t \leftarrow m\,\theta_t + (1 - m)\,\theta_s

after every update, every n updates, or every epoch. The momentum m changes over the stage:

- constant: m
- cosine: :math:`m_{end} - (m_{end} - m)(1 + \cos(\pi i / n)) / 2` at update i of n
- ramp: the smaller of m and :math:`1 - (1 + w) / (i + 1 + w)`, so that the first averages are short (w is `warmup`)
- linear: from `momentum` to `end` over the stage

Reference: Tarvainen, Valpola, "Mean teachers are better role models", NIPS 2017, arXiv:1703.01780; the cosine is that of Grill et al.,
"Bootstrap your own latent", NeurIPS 2020, arXiv:2006.07733, section 3.3.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, final

import torch
from torch import Tensor, nn

from ..types import Fraction, NonNegative, PositiveInt
from ._following import Following, move
from .base import Setting

Schedule = Literal["constant", "cosine", "ramp", "linear"]


def momentum_at(update: int, updates: int, *, momentum: float, end: float, schedule: Schedule, warmup: float) -> float:
    """Share of the old weights that is kept at `update` (from 0) of `updates`."""
    if schedule == "constant":
        return momentum
    if schedule == "ramp":
        return min(momentum, 1 - (1 + warmup) / (update + 1 + warmup))
    progress = min(update / updates, 1.0) if updates > 0 else 1.0
    if schedule == "linear":
        return momentum + (end - momentum) * progress
    return end - (end - momentum) * (1 + math.cos(math.pi * progress)) / 2


@final
@dataclass(eq=False, kw_only=True)
class EMATeacher(Following):
    """Follows the student slowly; needs no model of its own and begins as a copy of the student."""

    momentum: Fraction = 0.999
    """Share m of the old weights that is kept."""
    schedule: Schedule = "constant"
    """How m changes over the stage."""
    end: Fraction = 1.0
    """m at the end, for `cosine` and `linear`."""
    warmup: NonNegative = 0.0
    """w of `ramp`."""
    every: PositiveInt = 1
    """Updates between two moves."""
    per: Literal["update", "epoch"] = "update"
    """Whether `every` counts updates or epochs."""
    buffers: Literal["average", "copy", "own"] = "copy"
    """Statistics of batch normalisation: averaged like the weights, copied from the student, or left as they were."""

    def open(self, setting: Setting) -> None:
        super().open(setting)
        self._updates, self.count = setting.updates, 0

    def after_step(self, learner: nn.Module) -> None:
        if self.per == "update":
            self._move(learner, self._updates)

    def after_epoch(self, learner: nn.Module, improved: bool) -> None:
        if self.per == "epoch":
            self._move(learner, 0)

    def _move(self, learner: nn.Module, total: int) -> None:
        step, self.count = self.count, self.count + 1
        if step % self.every == 0:
            keep = momentum_at(step, total, momentum=self.momentum, end=self.end, schedule=self.schedule, warmup=self.warmup)
            move(self.speaker.module, learner, keep, buffers=self.buffers)

    def state(self) -> dict[str, Tensor]:
        return {**super().state(), "ema.count": torch.tensor(self.count)}

    def load_state(self, state: dict[str, Tensor]) -> None:
        state = dict(state)
        self.count = int(state.pop("ema.count"))
        super().load_state(state)
