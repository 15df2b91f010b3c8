r"""Layered self-supervised distillation: exits that tell class and rotation at once.

.. math:: \sum_{l=1}^{L} \frac{1}{4} \sum_{j=0}^{3} \left[ CE(q_l^j, (y, j)) + [l < L] \left( \beta \, \tau^2 KL(q_L^j \,\|\, q_l^j)
          + \mu \, \|v_l^j - v_L^j\|_2^2 \right) \right]

where :math:`q_l^j` is the softmax over the 4 C pairs of class and rotation, at temperature :math:`\tau` in the divergence, that exit l
gives of the image turned by j quarters, and :math:`v_l^j` the vector that the exit classifies. Name the layers from the shallowest to
the deepest, whose exit teaches the others and gets no gradient for that. An exit is that of `self_exits`. The exits are parts of
the loss: they learn with the student and are absent from the student that is exported.

The paper's cross-entropy of the model's own logits is a term of its own, and so is its distillation from an earlier epoch: `kd` with `from`
a teacher `{kind: snapshot, of: epoch}`. No official code was found, and of the paper only an account was read: which branch teaches which,
the weights :math:`\beta` and :math:`\mu` and the temperature are choices made here; the four rotations are the usual ones.

When to use: square images, few labels, no teacher.

Cost: the student sees four images for one; of order b C for each exit and view, and the exits' convolutions and 4 C c parameters each.

Reference: Dahri et al., "A Layered Self-Supervised Knowledge Distillation Framework for Efficient Multimodal Learning on the Edge", 2025,
arXiv:2506.07055; joint labels: Yang et al., "Hierarchical Self-supervised Augmented Knowledge Distillation", IJCAI 2021, arXiv:2107.13715.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, final

import torch
from torch import Tensor, nn

from ..ops.layouts import as_positions
from ..types import IGNORE, Needs, NonNegative, Positive, Signals
from ._exits import Exit, halvings_to, joint_labels, layers_of
from .base import Loss, head_of, required, views_of
from .cross_entropy import smoothed_cross_entropy
from .kd import softened_kl

VIEWS = 4
"""The image and its three rotations."""


@final
@dataclass(eq=False, repr=False, kw_only=True)
class LSSKD(Loss):
    """Exits at the student's layers learn class and rotation, from the labels and from the deepest of them."""

    exempt: ClassVar[Mapping[str, str]] = {"gradcheck": "the deepest exit is a target, which is held fixed"}
    teaches: ClassVar[bool] = True

    temperature: Positive = 3.0
    """Softmax temperature of what the deepest exit teaches."""
    exit_weight: NonNegative = 1.0
    """Weight of what the deepest exit teaches the others."""
    feature_weight: NonNegative = 0.03
    """Weight of the distance of their vectors from the deepest one's."""

    @property
    def needs(self) -> Needs:
        return Needs(labels=True, teacher=False, features="many", label_kinds=("class",), rotations=True, head="student")

    def setup(self, student: Signals, teacher: Signals) -> None:
        layers = layers_of(student.features, 1, "LSSKD")
        width, outputs = as_positions(layers[-1]).shape[1], VIEWS * len(head_of(student, "student").weight)
        pairs = zip(layers, halvings_to(layers), strict=True)
        self.exits = nn.ModuleList(Exit(layer, width=width, outputs=outputs, halvings=halvings) for layer, halvings in pairs)

    def forward(self, student: Signals, teacher: Signals, labels: Tensor | None = None) -> Tensor:
        labels = required(labels)
        shown = [layers_of(view.features, len(self.exits), "LSSKD") for view in (student, *views_of(student))]
        answers = [branch(torch.cat(layers)) for branch, layers in zip(self.exits, zip(*shown, strict=True), strict=True)]
        joint = joint_labels(labels, VIEWS).T.flatten()  # all images as they are, then all turned by one quarter, ...
        vector, logits = answers[-1]
        values = [smoothed_cross_entropy(answer, joint, label_smoothing=0.0) for _, answer in answers]
        for own, answer in answers[:-1]:
            soft = self.temperature**2 * softened_kl(answer, logits.detach(), temperature=self.temperature)
            values.append(self.exit_weight * soft + self.feature_weight * (own - vector.detach()).square().sum(1))
        return torch.stack(values).sum(0).unflatten(0, (VIEWS, -1)).mean(0) * (labels != IGNORE)
