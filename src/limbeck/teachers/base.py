"""What every teacher is: a source of signals that no optimizer, average or checkpoint of the student ever touches."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, device, dtype, nn

from ..types import Batch, Signals

Call = Callable[[Any, Batch], Signals]
"""Runs a model (or a `Tapped` one) on a batch: the task's own way of calling, with the model's input normalisation."""


@dataclass(frozen=True)
class TeacherRequest:
    """How a teacher is run."""

    taps: Sequence[str]
    """Layers that the objective reads."""
    logits: bool
    """Whether the objective reads its logits; without, the forward ends at the last tap."""
    device: device
    precision: dtype | None = None
    """Autocast type of its forward; None computes in the type of its weights."""
    channels_last: bool = False
    compile: bool = False
    fold: bool = False
    """Fold batch normalisation into the convolutions before it."""


class Teacher(ABC):
    """A source of signals. It is not a module on purpose: nothing can register it as a part of the student."""

    @abstractmethod
    def __init__(self, module: nn.Module, call: Call, request: TeacherRequest) -> None: ...

    @abstractmethod
    def signals(self, batch: Batch) -> Signals:
        """What the teacher says about `batch`; carries no gradient."""

    def after_step(self, learner: nn.Module) -> None:  # noqa: B027 - most teachers do not change
        """Called after every update of the learner, for teachers that follow it."""

    def state(self) -> dict[str, Tensor]:
        """What a checkpoint must keep; nothing for a teacher that never changes."""
        return {}

    def load_state(self, state: dict[str, Tensor]) -> None:  # noqa: B027 - the counterpart of an empty state
        """Restores what `state` gave."""

    def close(self) -> None:  # noqa: B027 - only teachers with hooks have something to release
        """Releases hooks and memory."""
