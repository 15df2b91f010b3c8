"""What is judged, kept and handed on of everyone who learns in a stage."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ..files import writing
from .checkpoint import load_tensors, save_tensors
from .ema import EMA
from .learner import Learner


@dataclass
class Member:
    """The learner of a stage, or a peer that learns in the same updates."""

    name: str
    learner: Learner
    evaluate: Callable[[], dict[str, float]] | None
    """Its metrics on the validation split; None without one."""
    best_file: Path
    """Weights of its best evaluation of this round."""
    ema: EMA | None = None
    last_file: Path | None = None
    """Where its last weights are kept if better ones are handed on; None where nobody asks for them."""
    best: float | None = None
    """The monitored metric at its best evaluation, larger is better."""
    best_step: int = 0
    failed: int | None = None
    """The update at which a peer was found to be no longer finite; it learns no more."""
    why: str = ""
    """What was found then."""

    def weights(self) -> dict[str, torch.Tensor]:
        """The model as it would be handed on: the average where there is one."""
        return self.ema.average if self.ema is not None else self.learner.model.state_dict()

    def judged(self) -> AbstractContextManager[Any]:
        """The model as it is judged."""
        return self.ema.applied() if self.ema is not None else nullcontext()

    def keep_last(self, update: int, *, select_best: bool) -> None:
        """Writes the last weights down where better ones, of an earlier update, will be handed on; before `hand_on`."""
        if self.last_file is None:
            return
        if self.failed is not None or not select_best or self.best is None or self.best_step == update:
            self.last_file.unlink(missing_ok=True)  # of an earlier round
            return
        with writing(self.last_file) as temporary:
            save_tensors(temporary, self.weights())

    def hand_on(self, *, select_best: bool) -> None:
        """Puts the weights that the round hands on into the model: the best, else the average, else the last."""
        if (select_best or self.failed is not None) and self.best is not None:
            self.learner.model.load_state_dict(load_tensors(self.best_file))
        elif self.ema is not None:
            self.learner.model.load_state_dict(self.ema.average)

    def state(self) -> dict[str, Any]:
        """What is no tensor, for a checkpoint."""
        averaged = self.ema.updates if self.ema is not None else None
        return {"best": self.best, "best_step": self.best_step, "failed": self.failed, "why": self.why, "ema": averaged}

    def load_state(self, state: dict[str, Any]) -> None:
        """Restores what `state` gave."""
        self.best, self.best_step, self.failed, self.why = (state[key] for key in ("best", "best_step", "failed", "why"))
