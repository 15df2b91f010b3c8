"""What an action is: something that changes between two rounds of a stage."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Protocol

from torch import nn


class Roster(Protocol):
    """The models of a run, as an action may see and change them."""

    def model(self, name: str) -> nn.Module:
        """The model called `name`; the learner's is `learner`."""
        ...

    def restart(self, name: str) -> None:
        """Gives a model initial weights of the coming round."""
        ...

    def teacher_names(self) -> list[str]:
        """The teachers of the stage."""
        ...


class Action(ABC):
    """Something that happens after round `round` of a stage and before the next."""

    @abstractmethod
    def apply(self, roster: Roster, round: int) -> None:  # noqa: A002 - the field's word
        """Changes the models; must depend on nothing but them and `round`, so that a restart repeats it exactly."""
