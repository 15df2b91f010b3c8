r"""Self-supervision distillation: which rotated image belongs to which original.

.. math:: \lambda_{kd} \, \tau^2 KL(p^t \,\|\, p^s) + \lambda_{ss} \, \tau_{ss}^2 KL(B^t \,\|\, B^s)
          + \lambda_{tf} \, \tau_{tf}^2 KL(q^t \,\|\, q^s) + \lambda_{p} L_{pretext}

where p are the softened classes of the images, q those of their rotations by 90, 180 and 270 degrees, and row i of B the softmax over the
originals j of :math:`\cos(z_i, \tilde z_j) / \tau_{ss}`, from learned projections z of the rotated images and :math:`\tilde z` of
the originals. Rotations on which the teacher is right all count; of those on which it is wrong, the least wrong share: by the rank of the
right answer, then by its probability. Without labels all count for q. The term with the labels is one of its own,
whose weight in the paper is 0.1.

The paper trains the teacher's projection in a stage before; here it learns along, from the same task: :math:`L_{pretext}`, the
cross-entropy of the cosines against each rotation's original, alone moves it.

When to use: square images, and few labels or a student of another architecture.

Cost: both models see four images for one; similarities of order b^2 D, in memory `chunk` b; two perceptrons, as wide as the features.

Reference: Xu et al., "Knowledge Distillation Meets Self-Supervision", ECCV 2020, arXiv:2006.07114, equations 2 to 9.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, final

import torch
from torch import Tensor

from ..ops.divergence import kl, log_softmax
from ..ops.geometry import unit
from ..ops.layouts import as_positions
from ..ops.precision import widen, without_autocast
from ..ops.ranks import least_wrong_mean, wrongness
from ..ops.slices import in_slices
from ..types import IGNORE, Fraction, Needs, NonNegative, Positive, PositiveInt, Signals
from ._perceptron import Perceptron
from .base import Loss, logits_of, views_of
from .kd import softened_kl


def similarity_terms(student: Tensor, teacher: Tensor, *, temperature: float, share: float, chunk: int) -> tuple[Tensor, Tensor]:
    """Divergence of the similarities, a scalar, and the cross-entropies by which the teacher's projection learns, `(batch * views,)`.

    The projections are `(batch, 1 + views, dim)`, the original first; the two dimensions may differ.
    """
    batch, views = student.shape[0], student.shape[1] - 1
    targets = torch.arange(batch, device=student.device).repeat_interleave(views)

    def part(student: Tensor, teacher: Tensor, rows: slice) -> Tensor:
        with without_autocast(student):
            ours, theirs = (x[:, 1:].flatten(0, 1)[rows] @ x[:, 0].T for x in (student, teacher))
        known = theirs.detach()
        errors = wrongness(known, (known / temperature).softmax(1), targets[rows])
        pretext = -log_softmax(theirs).gather(1, targets[rows].unsqueeze(1)).squeeze(1)
        return torch.stack([softened_kl(ours, known, temperature=temperature), errors, pretext])

    parts = in_slices(part, unit(student), unit(teacher), size=batch * views, chunk=chunk)
    values, errors, pretext = torch.cat(parts, 1)
    return temperature**2 * least_wrong_mean(values, errors, share=share), pretext


def rotation_term(student: Tensor, teacher: Tensor, labels: Tensor | None, *, temperature: float, share: float) -> Tensor:
    """Divergence of the classes of the rotated images, logits `(batch, 1 + views, classes)` and labels `(batch,)` to a scalar."""
    ours, theirs = (widen(x)[:, 1:].flatten(0, 1) / temperature for x in (student, teacher))
    errors = ours.new_zeros(len(ours))
    if labels is not None:
        targets = labels.repeat_interleave(student.shape[1] - 1)
        probabilities = theirs.softmax(1)
        errors = wrongness(probabilities, probabilities, targets.clamp_min(0)).masked_fill(targets == IGNORE, 0)
    return temperature**2 * least_wrong_mean(kl(theirs, ours), errors, share=share)


@final
@dataclass(eq=False, repr=False, kw_only=True)
class SSKD(Loss):
    """Matches what both models make of rotated images: their classes, and which of the originals they resemble."""

    exempt: ClassVar[Mapping[str, str]] = {"equality": "both projections are learned, the teacher's from a task of its own"}

    temperature: Positive = 4.0
    """Softmax temperature of the originals' classes."""
    temperature_similarity: Positive = 0.5
    """Temperature of the similarities."""
    temperature_rotated: Positive = 4.0
    """Softmax temperature of the rotated images' classes."""
    kd_weight: NonNegative = 0.9
    """Weight of the originals' classes."""
    similarity_weight: NonNegative = 10.0
    """Weight of the similarities."""
    rotated_weight: NonNegative = 2.7
    """Weight of the rotated images' classes."""
    pretext_weight: NonNegative = 1.0
    """Weight of the task of the teacher's projection."""
    similarity_share: Fraction = 0.75
    """How many of the rotated images count whose original the teacher does not recognise."""
    rotated_share: Fraction = 1.0
    """How many of the rotated images count whose class the teacher does not recognise."""
    chunk: PositiveInt = 1024
    """Number of rotated images whose similarities are held in memory at once; it does not change the value."""

    @property
    def needs(self) -> Needs:
        return Needs(logits=True, features="one", match="any", label_kinds=("class",), rotations=True, global_batch=True)

    def setup(self, student: Signals, teacher: Signals) -> None:
        widths = (as_positions(signals.feature).shape[1] for signals in (student, teacher))
        self.student_projection, self.teacher_projection = (Perceptron(w, w, w).to(student.feature.device) for w in widths)

    def forward(self, student: Signals, teacher: Signals, labels: Tensor | None = None) -> Tensor:
        ours, theirs = ((signals, *views_of(signals)) for signals in (student, teacher))
        s_logits, t_logits = (torch.stack([logits_of(view) for view in views], 1) for views in (ours, theirs))
        sides = (self.student_projection, ours), (self.teacher_projection, theirs)
        projected = (torch.stack([projection(view.feature) for view in views], 1) for projection, views in sides)
        original = softened_kl(s_logits[:, 0], t_logits[:, 0], temperature=self.temperature).mean()
        rotated = rotation_term(s_logits, t_logits, labels, temperature=self.temperature_rotated, share=self.rotated_share)
        soft = {"temperature": self.temperature_similarity, "share": self.similarity_share}
        similar, pretext = similarity_terms(*projected, **soft, chunk=self.chunk)
        total = self.kd_weight * self.temperature**2 * original + self.rotated_weight * rotated
        return total + self.similarity_weight * similar + self.pretext_weight * pretext.mean()
