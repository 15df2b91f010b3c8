r"""Which of several untrained students suits a teacher: DisWOT's score, from one batch and without any training.

.. math:: score = -(D_{rel} + D_{sem}), \qquad D_{rel} = \frac{1}{b^2} \left\| n(F_t F_t^T) - n(F_s F_s^T) \right\|_F^2, \qquad
          D_{sem} = \frac{1}{c k} \sum_{i=1}^{k} \left\| n(g^t_i {g^t_i}^T) - n(g^s_i {g^s_i}^T) \right\|_F^2

F are the last features of the b examples of a batch, flattened; :math:`g_i` is the gradient of the mean cross-entropy for the weights of
the classifier that belong to class i, of k, for c channels; n divides every row by its length. Both models have the initial weights of
their kind, the teacher too. The higher the score, the better the student is expected to learn from this teacher.

The classifiers of teacher and student seldom have as many channels. Where they do not, the semantic distance compares how the classes'
gradients relate to each other, :math:`\frac{1}{k^2} \| n(G_t G_t^T) - n(G_s G_s^T) \|_F^2` with G of a row for each class: that is this
implementation's choice, and only students that are compared by the same formula may be ranked together.

The authors' script takes the first example alone for :math:`D_{rel}`, its channels in the place of the batch (`variant: official`).

Reference: Dong, Li, Wei, "DisWOT: Student Architecture Search for Distillation WithOut Training", CVPR 2023, arXiv:2303.15678, section 3.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from ..errors import ShapeMismatch
from ..losses.ickd import channel_gap
from ..losses.sp import similarity_gap

CHUNK = 1024
"""Rows of similarities that are held at once; it changes no value."""


@dataclass(frozen=True)
class Glance:
    """What one untrained model shows of a batch."""

    features: Tensor
    """Its last features, `(batch, channels, ...)`."""
    gradient: Tensor
    """Gradient of the mean cross-entropy for the weights of its classifier, `(classes, channels)`."""


@dataclass(frozen=True)
class Suitability:
    """How far an untrained student is from its teacher."""

    relation: float
    """Distance of the relations between examples, 0 or more."""
    semantic: float
    """Distance of the gradients of the classifiers, 0 or more."""
    by: Literal["channels", "classes"]
    """What the gradients were compared by; only scores of the same kind may be ranked together."""

    @property
    def score(self) -> float:
        """Higher is better, at most 0."""
        return -(self.relation + self.semantic)


def classifier_gradient(pooled: Tensor, logits: Tensor, labels: Tensor) -> Tensor:
    """Gradient of the mean cross-entropy for the weights of a linear classifier, `(classes, channels)`; nothing is differentiated.

    Args:
        pooled: what the classifier is given, `(batch, channels)`; of maps the mean over the positions.
        logits: what it answers, `(batch, classes)`, with its bias if it has one.
        labels: class indices, `(batch,)`.

    Raises:
        ShapeMismatch: where the shapes do not belong together.
    """
    if pooled.ndim != 2 or logits.ndim != 2 or labels.ndim != 1 or not len(pooled) == len(logits) == len(labels):
        found = f"{tuple(pooled.shape)}, {tuple(logits.shape)} and {tuple(labels.shape)}"
        raise ShapeMismatch(f"a classifier's gradient needs (batch, channels), (batch, classes) and (batch,) of one batch, found {found}.")
    error = logits.softmax(1).scatter_add(1, labels[:, None].long(), torch.full_like(logits[:, :1], -1.0))
    return error.T @ pooled / len(pooled)


def relation_distance(student: Tensor, teacher: Tensor, *, variant: Literal["paper", "official"] = "paper") -> float:
    """How differently two models relate the examples of a batch.

    Args:
        student: features `(batch, channels, ...)`.
        teacher: of the same examples, of any other shape.
        variant: the paper's formula, or that of the authors' script on the channels of the first example.

    Raises:
        ShapeMismatch: where they are not of as many examples, or by the script's formula not of as many channels.
    """
    ours, theirs = (student, teacher) if variant == "paper" else (student[0], teacher[0])
    if len(ours) != len(theirs):
        what = "examples" if variant == "paper" else "channels"
        raise ShapeMismatch(f"the relation distance compares as many {what}, found {len(ours)} and {len(theirs)}.")
    return similarity_gap(ours.reshape(len(ours), -1), theirs.reshape(len(theirs), -1), order=2, chunk=CHUNK).item()


def semantic_distance(student: Tensor, teacher: Tensor, *, by: Literal["channels", "classes"] = "channels") -> float:
    """How differently two models' classifiers would move.

    Args:
        student: gradient of its classifier, `(classes, channels)`.
        teacher: likewise.
        by: the paper's products over channels, of which both must have as many, or products over classes.

    Raises:
        ShapeMismatch: where the classes differ, or the channels by channels.
    """
    if len(student) != len(teacher):
        raise ShapeMismatch(f"the gradients compare the same classes, found {len(student)} and {len(teacher)}.")
    if by == "classes":
        return similarity_gap(student, teacher, order=2, chunk=CHUNK).item()
    return (channel_gap(student, teacher, normalise=True).sum() / teacher.numel()).item()


def diswot(
    student: Glance,
    teacher: Glance,
    *,
    variant: Literal["paper", "official"] = "paper",
    by: Literal["channels", "classes"] | None = None,
) -> Suitability:
    """The distances whose negative sum is DisWOT's score.

    Args:
        student: the candidate.
        teacher: the teacher, untrained as well; of the same batch.
        variant: how examples are related, see `relation_distance`.
        by: what the gradients are compared by; where absent channels if both have as many, else classes.

    Raises:
        ShapeMismatch: where the two do not belong to one batch and the same classes.
    """
    same = student.gradient.shape[1:] == teacher.gradient.shape[1:]
    chosen = by or ("channels" if same else "classes")
    relation = relation_distance(student.features, teacher.features, variant=variant)
    return Suitability(relation, semantic_distance(student.gradient, teacher.gradient, by=chosen), chosen)
