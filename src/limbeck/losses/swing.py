r"""Swing distillation: the more private a token, the softer and noisier its teacher.

.. math:: \tau_0^2 \, KL\left(\tilde q_i, softmax(z^s_i / \tau_i)\right), \qquad \tau_i = \tau_0 (1 + \lambda p_i), \qquad
          \tilde q_i = normalise\left(\max(softmax(z^t_i / \tau_i) + p_i \, \epsilon_i, 0)\right)

with :math:`p_i` between 0 and 1 how private token i is, which the data say (`data.private`), :math:`\epsilon_i` independent noise of scale
`noise` for every class, :math:`\lambda` the `rise`. Where nothing is private it is `kd`. The labels are to be learnt from what is not
private: `targets: {name: only_tokens, which: public}` beside `cross_entropy`.

Only the abstract of the paper was at hand: that temperature and noise grow with how private a token is, is its method; that both grow
linearly, that the noise is Laplacian by default and falls on private tokens alone, and all values here are choices.

When to use: a language model learns from a teacher that may have learnt secrets by heart (`data.canaries` shows how far it has).

Cost: of order b C for b tokens and C classes, a few times that of `kd`; no parameters.

Reference: Li et al., "Swing Distillation: A Privacy-Preserving Knowledge Distillation Framework", 2022, arXiv:2212.08349.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, final

import torch
from torch import Tensor

from ..ops.divergence import log_softmax, relative_entropy
from ..ops.precision import widen
from ..types import Needs, NonNegative, Positive, Signals
from .base import Loss, extra_of, logit_pair

PRIVATE = "private"
"""Name in `Signals.extra` of how private each token is, `(tokens,)`, from 0 to 1."""

Noise = Literal["laplace", "gaussian"]
_LEAST = 1e-30


def swing_divergence(
    student: Tensor, teacher: Tensor, private: Tensor, noise: Tensor | None = None, *, temperature: float, rise: float
) -> Tensor:
    """Divergence at a temperature of each token's own, with its factor.

    Args:
        student: logits `(tokens, classes)`.
        teacher: logits `(tokens, classes)`.
        private: how private each token is, `(tokens,)`.
        noise: added to the teacher's probabilities, as much as a token is private; `(tokens, classes)`, or none.
        temperature: of tokens that are not private.
        rise: by what share the temperature is higher where a token is.

    Returns:
        `(tokens,)`.
    """
    private = private.to(student.device).unsqueeze(1)  # mutate: equivalent unwrapped (one device)
    own = temperature * (1 + rise * private)
    log_p = log_softmax(widen(teacher) / own)
    if noise is not None:
        noisy = (log_p.exp() + private * noise).clamp_min(0)
        noisy = noisy / noisy.sum(1, keepdim=True).clamp_min(_LEAST)
        log_p = torch.where(private > 0, noisy.log(), log_p)  # mutate: equivalent comparison (of what is not private it is the same)
    return temperature**2 * relative_entropy(log_p, log_softmax(widen(student) / own))


@final
@dataclass(eq=False, repr=False, kw_only=True)
class Swing(Loss):
    """Distillation that trusts a teacher less where a token is private."""

    temperature: Positive = 1.0
    """Softmax temperature of both models where nothing is private."""
    rise: NonNegative = 1.0
    """By what share the temperature is higher at a private token."""
    noise: NonNegative = 0.0
    """Scale of the noise on the teacher's probabilities at private tokens; 0 is none."""
    kind: Noise = "laplace"
    """Distribution of the noise; its scale is the mean distance from 0 (`laplace`) or the standard deviation (`gaussian`)."""

    @property
    def needs(self) -> Needs:
        return Needs(logits=True, label_kinds=("class",), extra=(PRIVATE,))

    def forward(self, student: Signals, teacher: Signals, labels: Tensor | None = None) -> Tensor:
        ours, theirs = logit_pair(student, teacher)
        private = extra_of(student, PRIVATE)
        private = private if private.ndim == 1 else private.flatten(1).mean(1)
        noise = self._drawn(widen(theirs)) if self.noise > 0 else None
        return swing_divergence(ours, theirs, private, noise, temperature=self.temperature, rise=self.rise)

    def _drawn(self, like: Tensor) -> Tensor:
        if self.kind == "gaussian":
            return torch.randn_like(like) * self.noise
        # The difference of two exponential variables of one scale is Laplacian of that scale.
        return (torch.empty_like(like).exponential_() - torch.empty_like(like).exponential_()) * self.noise
