"""What every loss is: a dataclass that is also an `nn.Module`, returning unreduced values."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, Literal

from torch import Tensor

from ..errors import ShapeMismatch, SignalMissing
from ..parts import Part
from ..types import Head, Needs, Signals

if TYPE_CHECKING:
    from .fused import Measure

Form = Literal["dense", "hidden", "topk", "sampled"]
"""How a teacher may speak of a vocabulary: logits, hidden states with the head, its likeliest tokens with what they leave, samples."""


class Loss(Part):
    """Base of all losses.

    `forward` returns one value an example, `(batch,)`, or one a token or pixel, `(batch, ...)`;
    a batch quantity returns a scalar. It never averages over examples on its own.
    """

    exempt: ClassVar[Mapping[str, str]] = {}
    """Checks of `limbeck.testing` that do not apply to this loss, with the reason."""
    teaches: ClassVar[bool] = False
    """Whether it takes the place of a teacher though it listens to none; the student alone, for comparison, then does without."""

    accepts: ClassVar[tuple[Form, ...]] = ("dense", "hidden")
    """The forms of a language model's answers that the loss makes sense of."""

    @property
    def measure(self) -> Measure | None:
        """How `limbeck.losses.fused` computes it from hidden states, None where it cannot; without a teacher, the cross-entropy."""
        return None

    @property
    @abstractmethod
    def needs(self) -> Needs:
        """Which signals the loss asks for."""

    def setup(self, student: Signals, teacher: Signals) -> None:
        """Creates parameters from example signals, before the optimizer exists; most losses have none."""

    def allocate(self, examples: int) -> None:
        """Makes per-example state (a memory bank, past predictions) for a data set of `examples`; called before `setup`.

        The state is buffers, whose rows `student.extra["index"]` names, so that it is saved with every checkpoint.
        """

    @abstractmethod
    def forward(self, student: Signals, teacher: Signals, labels: Tensor | None = None) -> Tensor:
        """Unreduced loss."""


def pairs(student: Signals, teacher: Signals) -> list[tuple[Tensor, Tensor]]:
    """Student and teacher features in the order of their term; the logits where no feature is given.

    Raises:
        SignalMissing: where the numbers of features differ, or there are neither features nor logits.
    """
    ours, theirs = list(student.features.values()), list(teacher.features.values())
    if len(ours) != len(theirs):
        raise SignalMissing(
            f"features come in pairs, found {len(ours)} of the student {list(student.features)} and "
            f"{len(theirs)} of the teacher {list(teacher.features)}; name as many teacher layers as student layers."
        )
    return list(zip(ours, theirs, strict=True)) or [logit_pair(student, teacher)]


def logit_pair(student: Signals, teacher: Signals) -> tuple[Tensor, Tensor]:
    """The logits of both models, of equal shape.

    Raises:
        SignalMissing: where either has none.
        ShapeMismatch: where the shapes differ.
    """
    return agree(logits_of(student), logits_of(teacher, "teacher"))


def logits_of(signals: Signals, who: str = "student") -> Tensor:
    """The logits.

    Raises:
        SignalMissing: where there are none.
    """
    if signals.logits is None:
        raise SignalMissing(f"the {who} gave no logits; its signals hold {sorted(signals.features) or 'nothing'}.")
    return signals.logits


def head_of(signals: Signals, who: str = "teacher") -> Head:
    """The classifier.

    Raises:
        SignalMissing: where it is not known.
    """
    if signals.head is None:
        raise SignalMissing(f"this loss needs the classifier of the {who}, and the signals hold none; give it as Signals.head.")
    return signals.head


def extra_of(signals: Signals, name: str) -> Tensor:
    """A further signal of the batch, such as `index`.

    Raises:
        SignalMissing: where there is none of that name.
    """
    if name not in signals.extra:
        raise SignalMissing(f"this loss needs the signal {name!r} of the batch, found {sorted(signals.extra) or 'none'}.")
    return signals.extra[name]


def views_of(signals: Signals) -> tuple[Signals, ...]:
    """What the model says of the rotated images: 90, 180 and 270 degrees.

    Raises:
        SignalMissing: where it was not asked.
    """
    if len(signals.views) != 3:
        raise SignalMissing(f"this loss needs the model's answers to three rotations of the images, found {len(signals.views)}.")
    return signals.views


def agree(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """Both tensors, once their shapes are known to be equal.

    Raises:
        ShapeMismatch: naming both shapes; without it they would silently broadcast.
    """
    if student.shape != teacher.shape:
        raise ShapeMismatch(
            f"student {list(student.shape)} and teacher {list(teacher.shape)} must have the same shape here; "
            "pick layers that agree or let an adapter map the student's onto the teacher's."
        )
    return student, teacher


def as_many(logits: Tensor, labels: Tensor) -> Tensor:
    """The labels, once there is known to be one for every output.

    Raises:
        ShapeMismatch: naming both shapes; without it they would silently broadcast.
    """
    if logits.shape != labels.shape:
        raise ShapeMismatch(
            f"outputs {list(logits.shape)} and labels {list(labels.shape)} must have the same shape; "
            "the model needs one output for every label."
        )
    return labels


def required(labels: Tensor | None) -> Tensor:
    """The labels.

    Raises:
        SignalMissing: where there are none.
    """
    if labels is None:
        raise SignalMissing("this loss needs labels, and the batch has none; remove the term or use labelled data.")
    return labels
