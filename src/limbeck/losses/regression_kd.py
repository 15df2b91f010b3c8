r"""Distillation of regression: imitate the teacher, or only catch up with it.

.. math:: \|s - t\|_2^2, \qquad \|s - t\|_1, \qquad \text{or} \qquad
          \begin{cases} \|s - y\|_2^2 & \text{where } \|s - y\|_2^2 + m > \|t - y\|_2^2 \\ 0 & \text{elsewhere} \end{cases}

for the outputs s of the student, t of the teacher and the real labels y (`form: l2`, `l1`, `bounded`). A regression teacher has no
probabilities of wrong answers to offer, and may be far off without a bound; `bounded` takes it only as the goal: once the student errs
less on an example, by the margin m, nothing more is asked. Norms are over the outputs of an example; a label that is NaN
counts as fitted already.

When to use: `task: regression`. `l2` or `l1` on unlabelled examples, `l1` where the teacher has outliers; `bounded` beside a
supervised term, on labelled ones. `mse` is `l2` with the mean over the outputs.

Cost: of order b D for b examples of D outputs; no parameters.

Reference: Chen et al., "Learning Efficient Object Detection Models with Knowledge Distillation", NIPS 2017, section 3.3 (`bounded`, there
with the weight 0.5 beside a smooth L1 loss); for all three: Saputra et al., "Distilling Knowledge From a Deep Pose Regressor Network",
ICCV 2019, arXiv:1908.00858.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, final

from torch import Tensor

from ..ops.precision import widen
from ..types import Needs, NonNegative, Signals
from .base import Loss, as_many, logit_pair, required
from .mse import squared_error


def teacher_bounded(student: Tensor, teacher: Tensor, labels: Tensor, *, margin: float) -> Tensor:
    """The student's squared error where it is not below the teacher's by `margin`, else 0; three `(batch, outputs)` to `(batch,)`."""
    student = widen(student)
    labels = labels.to(student.dtype)
    # A weight of 1, or of 0 where a label is NaN: in numbers, which take a quarter of the time of a mask.
    known = labels.clamp(1, 1).nan_to_num(0)  # mutate: equivalent constant (of two bounds the upper one holds)
    filled = labels.nan_to_num(0)  # mutate: equivalent constant (whatever stands there has the weight 0)
    ours, theirs = ((squared_error(outputs, filled) * known).sum(1) for outputs in (student, teacher))
    return ours * (ours + margin > theirs)


@final
@dataclass(eq=False, repr=False, kw_only=True)
class RegressionKD(Loss):
    """The teacher's numbers as targets, or as the bound up to which the labels are pursued."""

    exempt: ClassVar = {
        "equality": "a student that errs less than its teacher has the loss 0 with `form: bounded`",
        "shift": "the level of the outputs is what is matched",
    }

    form: Literal["bounded", "l2", "l1"] = "bounded"
    """What is asked of the student."""
    margin: NonNegative = 0.0
    """By how much the student's squared error is to fall below the teacher's before `bounded` lets go."""

    @property
    def needs(self) -> Needs:
        return Needs(logits=True, labels=self.form == "bounded", label_kinds=("real",))

    def forward(self, student: Signals, teacher: Signals, labels: Tensor | None = None) -> Tensor:
        ours, theirs = logit_pair(student, teacher)
        if self.form == "bounded":
            targets = required(labels)
            targets = targets.unsqueeze(1) if targets.ndim < ours.ndim and ours.shape[1] == 1 else targets
            return teacher_bounded(ours, theirs, as_many(ours, targets), margin=self.margin)
        gap = widen(ours) - theirs
        return (gap.square() if self.form == "l2" else gap.abs()).sum(1)
