"""What every part of the appraisal shares: the session, what the models say of the test split, and samples of the training split."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch

from ..config.evaluate_schema import EvaluateSpec
from ..data.base import Examples
from ..engine.evaluation import Collected
from ..session import Session

MOST = 10_000
"""Training examples that are looked at, drawn by the recipe's seed where there are more."""


@dataclass
class Appraisal:
    """What is added to the results of a model."""

    metrics: dict[str, float] = field(default_factory=dict)
    agreement: dict[str, Any] = field(default_factory=dict)
    cost: dict[str, Any] = field(default_factory=dict)
    sections: dict[str, Any] = field(default_factory=dict)
    """Further entries of the model in results.json, by name."""


@dataclass
class Panel:
    """The models that are judged."""

    session: Session
    said: Mapping[str, Collected]
    """What each says of the test split."""
    teacher: str | None
    """The one that the student is compared with."""
    found: dict[str, Appraisal]

    @property
    def wish(self) -> EvaluateSpec:
        """What the recipe asks for."""
        return self.session.recipe.evaluate

    @cached_property
    def trained(self) -> dict[str, Collected]:
        """What each model says of training examples as they are, without augmentation."""
        examples, rows = self.sample
        return {name: self.session.ask(name, examples, rows) for name in self.said}

    @cached_property
    def sample(self) -> tuple[Examples, Sequence[int]]:
        """See `trained_rows`."""
        return trained_rows(self.session)


def trained_rows(session: Session) -> tuple[Examples, Sequence[int]]:
    """The training split of the student's last stage, and the examples of it that are looked at, labelled or not, in their order."""
    phase = next((phase for phase in reversed(session.phases) if phase.learner == "student"), session.phases[-1])
    train = session.data(phase.data).train
    if len(train) <= MOST:
        return train, range(len(train))
    generator = torch.Generator().manual_seed(session.seed("appraisal"))
    return train, torch.randperm(len(train), generator=generator)[:MOST].sort().values.tolist()
