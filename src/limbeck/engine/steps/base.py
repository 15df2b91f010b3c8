"""What a step is: how a batch becomes an update, and who learns when."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ...objective import Counts
from ...teachers.base import Call, Teacher
from ...types import Batch, Signals
from ..backend import Backend
from ..cohort import Cohort
from ..learner import Learner
from ..optim import LRControl
from ..samples import SampleState


@dataclass
class Player:
    """A model that takes part, with the optimizer that moves it."""

    name: str
    module: nn.Module
    """As wrapped for the processes at hand."""
    optimizer: Any = None
    """None for a player that does not learn."""
    rate: LRControl | None = None
    clip: float | None = None

    @property
    def parameters(self) -> list[Tensor]:
        """What the optimizer moves."""
        return [p for group in self.optimizer.param_groups for p in group["params"]]


@dataclass
class Context:
    """What a step may use."""

    backend: Backend
    learner: Learner
    """The learner as it is; `players["learner"].module` is the wrapped one to call."""
    players: dict[str, Player]
    """`learner` and every further model of the recipe."""
    teachers: Mapping[str, Teacher]
    calls: Mapping[str, Call]
    """How each player's model is called on a batch."""
    examples: int
    """Size of the training data, for per-sample state."""
    heard: tuple[str, ...] | None = None
    """Names of the teachers that the objective reads; the others only speak through an ensemble. All, where it is None."""
    cohort: Cohort | None = None
    """The learner with its peers, where the stage has some; then `players["learner"].module` is the wrapped cohort."""
    samples: dict[str, SampleState] = field(default_factory=dict)
    """Per-sample state by name, saved with every checkpoint."""
    progress: float = 0.0
    """Fraction of the stage that is over."""

    def sample_state(self, name: str, shape: tuple[int, ...] = (), *, fill: float = 0.0) -> SampleState:
        """The per-sample table called `name`, made on first use."""
        if name not in self.samples:
            gather = self.backend.gather_objects if self.backend.world > 1 else None
            self.samples[name] = SampleState(self.examples, shape, fill=fill, gather=gather)
        return self.samples[name]

    def teacher_signals(self, batch: Batch) -> dict[str, Signals]:
        """What every teacher says about `batch`."""
        names = self.teachers if self.heard is None else self.heard
        return {name: self.teachers[name].signals(batch) for name in names}

    def masses(self, batches: Sequence[Batch], heard: Sequence[Mapping[str, Signals]], peer: str | None = None) -> dict[str, Tensor]:
        """Sums over the whole update of the weights that targets give to examples, by label of the term.

        Args:
            batches: those of this process.
            heard: what the teachers say of each.
            peer: whose terms; the learner's where it is None.
        """
        objective = self.learner.objective if peer is None or self.cohort is None else self.cohort[peer].objective
        with torch.no_grad():
            found = [objective.masses(said, batch.labels, batch.mixed, batch.extra) for batch, said in zip(batches, heard, strict=True)]
            return {label: self.backend.sum(torch.stack([part[label] for part in found]).sum()) for label in found[0]}

    def player(self, member: str) -> Player:
        """The player of the learner, or of the peer of that name."""
        return self.players["learner" if self.cohort is None or member == self.cohort.names[0] else member]

    def apply_all(self, players: Sequence[Player]) -> None:
        """Clips, steps and clears the gradients that one backward gave to several players."""
        for player in players:
            if player.clip is not None:
                self.backend.clip(player.optimizer, player.parameters, player.clip)
        self.backend.step([player.optimizer for player in players])
        for player in players:
            player.optimizer.zero_grad(set_to_none=True)

    def apply(self, player: Player) -> None:
        """Clips, steps and clears one player's gradient."""
        if player.clip is not None:
            self.backend.clip(player.optimizer, player.parameters, player.clip)
        player.optimizer.step()
        player.optimizer.zero_grad(set_to_none=True)


class Step(ABC):
    """How the batches of one update become an update of the players."""

    taught: ClassVar[bool] = False
    """Whether it works with a teacher only; the student alone then learns by the usual step."""

    def __init__(self, context: Context) -> None:
        self.context = context

    def setup(self) -> None:  # noqa: B027 - most steps keep no state of their own
        """Makes per-sample state before a checkpoint is read."""

    @property
    @abstractmethod
    def labels(self) -> tuple[str, ...]:
        """Names of the values that `update` returns."""

    @abstractmethod
    def update(self, batches: list[Batch], counts: Counts) -> Tensor:
        """Runs forward and backward over the batches of one update, and the optimizers.

        Returns:
            Detached values `(labels,)`, to be summed over processes. Reading them here would stall the device.
        """
