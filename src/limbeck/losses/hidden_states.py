r"""Hidden states of several layers of an encoder, token by token.

.. math:: \sum_l \frac{1}{N} \sum_i d\left( W_l \, h^s_{l,i}, \; h^t_{m(l),i} \right)

over the N tokens of a text that are no padding (`tokens: all`) or its first token alone (`tokens: first`, the [CLS] of BERT), where
:math:`W_l` is the adapter that the term has where widths differ, and :math:`m` is the map of the layers (`layers` of the term). The
distance d is the mean of the squared differences (`form: mse`, TinyBERT's hidden states and embeddings), the cosine distance
(`form: cosine`, DistilBERT), or the squared distance of the states divided by their lengths (`form: direction`, patient distillation).

Every layer and every text counts alike; within a text its tokens do. TinyBERT has one matrix W for all layers, here each layer has its own.

When to use: an encoder with fewer or narrower layers than its teacher, before or beside the logits; `cosine` and `direction` where only
directions should agree.

Cost: of order of the number of elements; no parameters of its own, an adapter makes the widths agree.

Reference: Jiao et al., "TinyBERT: Distilling BERT for Natural Language Understanding", EMNLP Findings 2020, arXiv:1909.10351,
equations 8 and 9; Sun et al., "Patient Knowledge Distillation for BERT Model Compression", EMNLP 2019, arXiv:1908.09355, equation 7; Sanh
et al., "DistilBERT, a distilled version of BERT", 2019, arXiv:1910.01108, section 3.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, final

import torch
from torch import Tensor

from ..ops.geometry import cosines, unit
from ..ops.layouts import as_positions
from ..types import Needs, Signals
from ._padding import kept_mean, kept_tokens
from .base import Loss, agree, pairs
from .mse import mean_squared_error

Form = Literal["mse", "cosine", "direction"]


def state_distance(student: Tensor, teacher: Tensor, *, form: Form) -> Tensor:
    """Distance of every token, two tensors `(batch, tokens, channels)` to `(batch, tokens)`."""
    student, teacher = agree(student, teacher)
    if form == "cosine":
        return 1 - cosines(student, teacher)  # mutate: equivalent swapped (symmetric)
    if form == "direction":
        return (unit(student) - unit(teacher)).square().sum(-1)
    return mean_squared_error(student, teacher)  # mutate: equivalent swapped (symmetric)


@final
@dataclass(eq=False, repr=False, kw_only=True)
class HiddenStates(Loss):
    """Compares the states of one or more layers at every token, or at the first; their sum over the layers."""

    form: Form = "mse"
    """The distance: mean squared difference, one minus the cosine, or squared distance of states of length 1."""
    tokens: Literal["all", "first"] = "all"
    """Every token that is no padding, or only the first."""

    @property
    def needs(self) -> Needs:
        return Needs(features="many", match="full", padding=True)

    def forward(self, student: Signals, teacher: Signals, labels: Tensor | None = None) -> Tensor:
        found: list[Tensor] = []
        for ours, theirs in pairs(student, teacher):
            values = state_distance(*(as_positions(x).mT for x in (ours, theirs)), form=self.form)
            found.append(values[:, 0] if self.tokens == "first" else kept_mean(values, kept_tokens(student, ours)))
        return torch.stack(found).sum(0)
