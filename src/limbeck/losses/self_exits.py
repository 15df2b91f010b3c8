r"""Be your own teacher: the end of a model teaches exits at its earlier layers.

.. math:: \ell(z) + \sum_l \left[ (1 - \alpha) \, \ell(z_l) + \alpha \, T^2 KL(p \,\|\, p_l) + \lambda \, \|v_l - v\|_2^2 \right]

where :math:`\ell` is the cross-entropy with the label, z are the model's logits and :math:`z_l` those of the exit at layer l, p the softmax
at temperature T, :math:`v_l` the vector that the exit classifies and v the deepest layer, averaged over its positions. Of the student name
the layers with an exit, then the deepest one. Gradients do not reach z and v as targets. With :math:`\alpha = \lambda = 0` this is deep
supervision: labels at every exit.

An exit halves height and width (depthwise, then pointwise convolutions that double the channels) until its map is as small as the deepest,
where the authors' bottlenecks are plain convolutions, and ends in a linear layer. Exits are parts of the loss: they learn with the student,
are saved with every checkpoint, and are absent from the student that is exported.

When to use: there is no teacher, and the student is deep enough to have layers that differ; all its labels are read.

Cost: of order b C for b examples, C classes and each exit, and the exits' convolutions, of order c^2 parameters for layers of c channels.

Reference: Zhang et al., "Be Your Own Teacher: Improve the Performance of Convolutional Neural Networks via Self Distillation", ICCV 2019,
arXiv:1905.08094, section 3. Deep supervision: Lee et al., "Deeply-Supervised Nets", AISTATS 2015, arXiv:1409.5185.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..ops.gradient import not_absent
from ..ops.layouts import as_positions
from ..ops.precision import softened
from ..types import IGNORE, Fraction, Needs, NonNegative, Positive, Signals
from ._exits import Exit, halvings_to, layers_of
from .base import Loss, logits_of, required
from .cross_entropy import smoothed_cross_entropy


def exit_value(
    logits: Tensor, vector: Tensor, final: tuple[Tensor, Tensor], labels: Tensor, *, alpha: float, temperature: float, feature_weight: float
) -> Tensor:
    """What one exit is taught by the labels and by `final`, the logits and the vector of the end; `(batch,)`."""
    hard = smoothed_cross_entropy(logits, labels, label_smoothing=0.0)
    log_q, p = softened(logits, temperature).log_softmax(1), softened(final[0].detach(), temperature).softmax(1)
    soft = F.kl_div(log_q, p, reduction="none").sum(1) * (alpha * temperature**2)
    gap = (vector - final[1]).square().sum(1)
    return soft.add(hard, alpha=1 - alpha).add(gap, alpha=feature_weight)


@final
@dataclass(eq=False, repr=False, kw_only=True)
class SelfExits(Loss):
    """Labels at the end and at every exit, and the end as the teacher of the exits; the usual term with the labels is not needed."""

    exempt: ClassVar[Mapping[str, str]] = dict.fromkeys(("gradient", "gradcheck"), "the end of the model is a target for its exits")
    teaches: ClassVar[bool] = True

    alpha: Fraction = 0.3
    """Share of the model's own answer, beside the label, in what an exit is taught."""
    temperature: Positive = 3.0
    """Softmax temperature T of that answer."""
    feature_weight: NonNegative = 0.03
    """Weight of the distance between an exit's vector and the deepest layer."""

    @property
    def needs(self) -> Needs:
        return Needs(logits=True, labels=True, teacher=False, features="many", label_kinds=("class",))

    def setup(self, student: Signals, teacher: Signals) -> None:
        layers = layers_of(student.features, 2, "SelfExits")
        width, outputs = as_positions(layers[-1]).shape[1], logits_of(student).shape[1]
        pairs = zip(layers[:-1], halvings_to(layers)[:-1], strict=True)
        self.exits = nn.ModuleList(Exit(layer, width=width, outputs=outputs, halvings=halvings) for layer, halvings in pairs)

    def forward(self, student: Signals, teacher: Signals, labels: Tensor | None = None) -> Tensor:
        logits, labels = logits_of(student), required(labels)
        *layers, deepest = layers_of(student.features, len(self.exits) + 1, "SelfExits")
        end = logits, as_positions(deepest.detach()).mean(-1)
        shares = {"alpha": self.alpha, "temperature": self.temperature, "feature_weight": self.feature_weight}
        values = [smoothed_cross_entropy(logits, labels, label_smoothing=0.0)]
        for branch, layer in zip(self.exits, layers, strict=True):
            vector, answer = branch(layer)
            values.append(exit_value(answer, vector, end, labels, **shares))
        # Of the deepest layer, which is only a target here, the gradient is 0 and not absent.
        return not_absent(torch.stack(values).sum(0) * (labels != IGNORE), deepest)
