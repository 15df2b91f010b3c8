r"""The moving average of the student's own weights.

.. math:: \theta_t \leftarrow m\,\theta_t + (1 - m)\,\theta_s

after every update, every n updates, or every epoch. The momentum m at update i (from 0) of n:

- constant: m
- cosine: :math:`m_{end} - (m_{end} - m)(1 + \cos(\pi i / n)) / 2`
- linear: from `momentum` to `end`
- ramp: the smaller of m and :math:`1 - (1 + w) / (i + 1 + w)`, so that the first averages are short (w is `warmup`)
- debias: :math:`m (1 - m^i) / (1 - m^{i+1})`, which makes the average a weighted mean of what was seen and nothing else

Where `decay_at` names updates, :math:`1 - m` is multiplied by `decay_factor` after each of them, once. Two official codes depart, and
`variant: official` does as they do: that of Consistent-Teacher multiplies again at every later update, so that the average soon stands
still; that of OBoW lets the cosine turn back where a training goes on beyond its n.

Reference: Tarvainen, Valpola, "Mean teachers are better role models", NIPS 2017, arXiv:1703.01780; the cosine is that of Grill et al.,
"Bootstrap your own latent", NeurIPS 2020, arXiv:2006.07733, section 3.3, and of Gidaris et al., "OBoW: Online Bag-of-Visual-Words
Generation for Self-Supervised Learning", CVPR 2021, arXiv:2012.11552; `decay_at` that of Wang et al., "Consistent-Teacher", CVPR 2023,
arXiv:2209.01589.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, final

import torch
from torch import Tensor, nn

from ..types import Fraction, NonNegative, NonNegativeInt, PositiveInt
from ._following import Following, move
from .base import Setting

Schedule = Literal["constant", "cosine", "ramp", "linear", "debias"]


def momentum_at(
    update: int, updates: int, *, momentum: float, end: float, schedule: Schedule, warmup: float, returns: bool = False
) -> float:
    """Share of the old weights that is kept at `update` (from 0) of `updates`; later on that at their end, unless the cosine `returns`."""
    if schedule == "constant":
        return momentum
    if schedule == "ramp":
        return min(momentum, 1 - (1 + warmup) / (update + 1 + warmup))
    if schedule == "debias":
        return momentum * (1 - momentum**update) / (1 - momentum ** (update + 1)) if momentum < 1 else update / (update + 1)
    progress = update / updates if updates > 0 else 1.0
    if not (returns and schedule == "cosine"):
        progress = min(progress, 1.0)
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
    over: PositiveInt | None = None
    """Updates (or epochs, with `per: epoch`) over which `cosine` and `linear` go; the whole stage where absent."""
    warmup: NonNegative = 0.0
    """w of `ramp`."""
    decay_at: Sequence[NonNegativeInt] = ()
    """Updates, from 0, after which the average becomes slower."""
    decay_factor: Fraction = 0.1
    """What 1 - m is multiplied by after each of them."""
    every: PositiveInt = 1
    """Updates between two moves."""
    per: Literal["update", "epoch"] = "update"
    """Whether `every` counts updates or epochs."""
    buffers: Literal["average", "copy", "own"] = "copy"
    """Statistics of batch normalisation: averaged like the weights, copied from the student, or left as they were."""
    variant: Literal["paper", "official"] = "paper"
    """Beyond the end of `cosine` and after `decay_at`: by the papers, or by their authors' code."""

    def open(self, setting: Setting) -> None:
        super().open(setting)
        self._over = self.over or (setting.updates if self.per == "update" else setting.epochs)
        self.count = self.decays = 0

    def after_step(self, learner: nn.Module) -> None:
        if self.per == "update":
            self._move(learner)

    def after_epoch(self, learner: nn.Module, improved: bool) -> None:
        if self.per == "epoch":
            self._move(learner)

    def keep(self) -> float | None:
        """Share of the old weights that the coming move will keep; None where none is due."""
        if self.count % self.every:
            return None
        return momentum_at(
            self.count,
            self._over,
            momentum=1 - (1 - self.momentum) * self.decay_factor**self.decays,
            end=self.end,
            schedule=self.schedule,
            warmup=self.warmup,
            returns=self.variant == "official",
        )

    def _move(self, learner: nn.Module) -> None:
        keep = self.keep()
        if keep is not None:
            move(self.speaker.module, learner, keep, buffers=self.buffers)
        passed = bisect_right(sorted(self.decay_at), self.count)
        self.decays = self.decays + passed if self.variant == "official" else passed
        self.count += 1

    def state(self) -> dict[str, Tensor]:
        return {**super().state(), "ema.count": torch.tensor(self.count), "ema.decays": torch.tensor(self.decays)}

    def load_state(self, state: dict[str, Tensor]) -> None:
        state = dict(state)
        self.count, self.decays = int(state.pop("ema.count")), int(state.pop("ema.decays"))
        super().load_state(state)
