"""What every teacher is: a source of signals that no optimizer, average or checkpoint of the student ever touches."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from ..errors import LimbeckError
from ..parts import check_fields
from ..taps.tapped import Tapped
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
    device: torch.device
    precision: torch.dtype | None = None
    """Autocast type of its forward; None computes in the type of its weights."""
    channels_last: bool = False
    compile: bool = False
    fold: bool = False
    """Fold batch normalisation into the convolutions before it."""


@dataclass(frozen=True)
class Setting:
    """What a teacher finds around it."""

    request: TeacherRequest
    call: Call
    """How its model is run."""
    module: nn.Module | None = None
    """Its own model; None for a kind that has none."""
    learner: nn.Module | None = None
    """The model that is taught."""
    bare: Callable[[], AbstractContextManager[None]] | None = None
    """While it lasts, the learner is without its adapters; entering it fails where it has none."""
    members: Mapping[str, Teacher] = field(default_factory=dict)
    """The teachers that it is made of, by name, open."""
    examples: int = 0
    """Size of the training data."""
    updates: int = 0
    """Updates of the stage, for what changes over it; 0 where it is not known."""
    epochs: int = 0
    """Epochs of the stage, likewise."""
    total: Callable[[Tensor], Tensor] = field(default=lambda value: value)
    """Sums a tensor over all processes, for what learns."""
    view: str | None = None
    """The view of the data that it sees, for a kind that reads batches itself; `call` knows it."""
    vocabulary: int | None = None
    """Language: number of tokens that the tokenizer of the data has, for a kind that names tokens itself; `call` leaves out all others."""


@dataclass(eq=False, kw_only=True)
class Teacher(ABC):
    """Base of all kinds of teacher. It is not a module on purpose: nothing can register it as a part of the student.

    Its fields are keys beside `kind` in a recipe. `open` is called once, before the first signals.
    """

    source: ClassVar[Literal["own", "learner", "members", "none"]] = "own"
    """Where its model comes from: its own (`model` in the recipe), the learner (or a copy of it), other teachers (`of`), or nowhere."""

    def __post_init__(self) -> None:
        check_fields(self)

    @property
    def replay(self) -> tuple[int, int] | None:
        """Seed and number of the augmentations that it knows, where training must repeat just these; None where it knows all."""
        return None

    @abstractmethod
    def open(self, setting: Setting) -> None:
        """Makes ready to answer."""

    @abstractmethod
    def signals(self, batch: Batch) -> Signals:
        """What the teacher says about `batch`; carries no gradient."""

    def through(self, batch: Batch) -> Signals:
        """The same with a gradient to the inputs of `batch`, for models that learn to make these; never to the teacher's own parameters.

        Raises:
            LimbeckError: where this kind of teacher has nothing to run backward through.
        """
        raise LimbeckError(f"{type(self).__name__} gives no gradient to its inputs; use a teacher of kind 'frozen'.")

    def after_step(self, learner: nn.Module) -> None:  # noqa: B027 - most teachers do not change
        """Called after every update of the learner, for teachers that follow it."""

    def after_epoch(self, learner: nn.Module, improved: bool) -> None:  # noqa: B027 - as above
        """Called at the end of every epoch of the learner; `improved` tells whether its evaluation was the best so far."""

    def state(self) -> dict[str, Tensor]:
        """What a checkpoint must keep; nothing for a teacher that never changes."""
        return {}

    def load_state(self, state: dict[str, Tensor]) -> None:  # noqa: B027 - the counterpart of an empty state
        """Restores what `state` gave."""

    def close(self) -> None:  # noqa: B027 - only teachers with hooks have something to release
        """Releases hooks and memory."""


def options(cls: type[Teacher]) -> tuple[str, ...]:
    """Names of the fields of a kind of teacher."""
    return tuple(f.name for f in fields(cls) if f.init)


class Speaker:
    """A model that answers and never learns: evaluation mode, no gradient, only as much of its forward as is needed.

    Its buffers do not move, because it is in evaluation mode whenever it is asked. Gradients are off through `no_grad` and not through
    inference mode, whose tensors keep no version counter, without which an in-place change of a tapped value would go unnoticed.

    Args:
        module: the model; it is frozen.
        setting: how it is run.
    """

    def __init__(self, module: nn.Module, setting: Setting) -> None:
        request = setting.request
        memory: dict[str, Any] = {"memory_format": torch.channels_last} if request.channels_last else {}
        self.module = module.to(request.device, **memory).eval().requires_grad_(False)
        self._call = setting.call
        self._tapped = Tapped(self.module, request.taps, stop_early=not request.logits) if request.taps else None
        self._run: Any = self._tapped or (torch.compile(self.module) if request.compile else self.module)
        self._device, self._precision = request.device, request.precision

    def signals(self, batch: Batch, *, gradient: bool = False) -> Signals:
        """What the model says about `batch`; with `gradient`, inputs that ask for one get theirs."""
        if self.module.training:
            self.module.eval()
        precise = torch.autocast(self._device.type, self._precision) if self._precision else nullcontext()
        with torch.set_grad_enabled(gradient), precise:
            return self._call(self._run, batch)

    def close(self) -> None:
        """Releases the hooks."""
        if self._tapped is not None:
            self._tapped.close()


def own_model(setting: Setting, kind: str) -> nn.Module:
    """The teacher's own model.

    Raises:
        LimbeckError: where it was given none.
    """
    if setting.module is None:
        raise LimbeckError(f"a teacher of kind {kind!r} needs a model; name it with `model`.")
    return setting.module


def learner_of(setting: Setting, kind: str) -> nn.Module:
    """The model that is taught.

    Raises:
        LimbeckError: where it is not known.
    """
    if setting.learner is None:
        raise LimbeckError(f"a teacher of kind {kind!r} is made from the student, which is not known here.")
    return setting.learner
