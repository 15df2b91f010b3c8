r"""FerKD's calibration: soft labels are trusted by how sure the teacher is of them.

With m the teacher's largest probability for an example (a crop) at temperature 1:

- m below `low`: left out, the crop shows next to nothing of the object
- from `low` to below `hard`: the ground truth takes the place of the teacher, smoothed by `label_smoothing`
- from `hard` to `easy`: kept as it is
- above `easy`: left out as too easy

What is left out has the weight 0, and the term is the mean over what is kept, over the whole update. An example without a label keeps its
soft label where the ground truth would replace it. Goes with any loss on logits; where the teacher's answers are stored and inputs are
mixed, each part of an input is calibrated by its own answer.

The training code of the paper is not published. The limits 0.15 and 0.3 are given from memory of it; its limit for what is too easy is not
known to us, so by default nothing is too easy.

Reference: Shen, "FerKD: Surgical Label Adaptation for Efficient Distillation", ICCV 2023, arXiv:2312.17473, section 3.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, final

import torch
from torch import Tensor

from ..errors import SignalMissing
from ..ops.precision import widen
from ..types import Fraction, Signals, labelled
from .base import Target

_FLOOR = 1e-12
"""Probability that stands for zero, whose logarithm is finite."""


def confidence(logits: Tensor) -> Tensor:
    """The largest probability, `(batch, classes)` to `(batch,)`."""
    return widen(logits).softmax(1).amax(1)


def smoothed(labels: Tensor, classes: int, *, label_smoothing: float) -> Tensor:
    """Logits whose softmax is the smoothed one-hot label, `(batch, classes)`, float32; any class where the label is missing."""
    known = labels.masked_fill(~labelled(labels), 0).unsqueeze(1)
    target = torch.full((len(labels), classes), label_smoothing / classes, device=labels.device)
    target = target.scatter_add(1, known, torch.full_like(known, 1 - label_smoothing, dtype=target.dtype))
    return target.clamp_min(_FLOOR).log()


@final
@dataclass(eq=False, repr=False, kw_only=True)
class Calibrate(Target):
    """Leaves out what the teacher does not recognise or finds too easy, and corrects what it is unsure of."""

    reads_labels: ClassVar[bool] = True
    weighs: ClassVar[bool] = True

    low: Fraction = 0.15
    """Confidence below which an example is left out."""
    hard: Fraction = 0.3
    """Confidence below which the ground truth replaces the soft label."""
    easy: Fraction = 1.0
    """Confidence above which an example is left out; 1 keeps all that are easy."""
    label_smoothing: Fraction = 0.1
    """Share of the ground truth that is spread evenly over all classes."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.low <= self.hard <= self.easy:
            raise ValueError(f"calibrate: expected low <= hard <= easy, found {self.low}, {self.hard}, {self.easy}")

    def weights(self, student: Signals, teacher: Signals, labels: Tensor | None) -> Tensor:
        sure = confidence(_logits(teacher))
        return ((sure >= self.low) & (sure <= self.easy)).float()

    def forward(self, student: Signals, teacher: Signals, labels: Tensor | None = None) -> tuple[Signals, Signals]:
        logits = _logits(teacher)
        if labels is None:
            return student, teacher
        unsure = (confidence(logits) < self.hard) & labelled(labels)
        truth = smoothed(labels, logits.shape[1], label_smoothing=self.label_smoothing).to(logits.dtype)
        return student, replace(teacher, logits=torch.where(unsure[:, None], truth, logits))


def _logits(teacher: Signals) -> Tensor:
    if teacher.logits is None:
        raise SignalMissing("calibrate judges the teacher's logits, and the teacher gave none; remove it from this term.")
    return teacher.logits
