r"""A gate that learns which of several teachers to listen to, example by example.

.. math:: g = softmax_k(w_k \cdot s_k + b_k), \qquad s_k = (\max p_k,\; H(p_k) / \log C,\; p_k^{(1)} - p_k^{(2)})

with the largest probability, the entropy and the margin of each member. It minimises :math:`-\log \sum_k g_k\, p_k(y)` on the labelled
examples of the training batches; its first shares are the weights that the members were given.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from ..types import labelled

STATISTICS = 3


def statistics(logits: Tensor, known: Tensor, *, temperature: float) -> Tensor:
    """Largest probability, entropy (1 where all classes are alike) and margin, `(members, batch, 3)`.

    Args:
        logits: `(members, batch, classes)`.
        known: which classes each member knows, `(members, 1, classes)`, bool.
        temperature: of the softmax.
    """
    log = (logits / temperature).masked_fill(~known, -torch.inf).log_softmax(-1)
    p = log.exp()
    entropy = -(p * log.masked_fill(~known, 0.0)).sum(-1) / known.sum(-1).clamp_min(2).log()
    first, second = p.topk(2, -1).values.unbind(-1)
    return torch.stack([first, entropy, first - second], -1)


class Gate:
    """The gate's parameters, what moves them, and what they have seen since they were moved.

    Args:
        weights: of the members, not all 0; the first shares.
        rate: learning rate of its optimizer (Adam).
        device: where it lives.
        total: sums a tensor over all processes.
    """

    def __init__(self, weights: list[float], rate: float, device: torch.device, total: Callable[[Tensor], Tensor]) -> None:
        self.slopes = torch.zeros(len(weights), STATISTICS, device=device)
        self.bias = torch.tensor([math.log(max(weight, 1e-12) / sum(weights)) for weight in weights], device=device)
        self._total = total
        self._seen = torch.zeros(1, device=device)
        for value in (self.slopes, self.bias):
            value.requires_grad_()
            value.grad = torch.zeros_like(value)
        self._optimizer = torch.optim.Adam([self.slopes, self.bias], lr=rate)

    def shares(self, found: Tensor) -> Tensor:
        """How much each example listens to each member, `(members, batch)`, of `statistics`."""
        return ((found * self.slopes[:, None, :]).sum(-1) + self.bias[:, None]).softmax(0)

    def learn(self, found: Tensor, answers: Tensor, labels: Tensor) -> None:
        """Adds the gradient of a batch; nothing moves before `move`.

        Args:
            found: of `statistics`.
            answers: log-probabilities, `(members, batch, classes)`.
            labels: classes, `(batch,)`.
        """
        known = labelled(labels)
        index = labels.where(known, torch.zeros_like(labels))
        said = answers.gather(-1, index.expand(len(answers), -1)[..., None])[..., 0].clamp_min(-30.0)
        with torch.enable_grad():
            loss = -torch.logsumexp(self.shares(found).log() + said, 0)
            torch.where(known, loss, torch.zeros_like(loss)).sum().backward(inputs=[self.slopes, self.bias])
        self._seen += known.sum()

    def move(self) -> None:
        """One step along the mean gradient over the labelled examples of all processes since the last one."""
        gradients = [parameter.grad.flatten() for parameter in (self.slopes, self.bias) if parameter.grad is not None]
        joined = self._total(torch.cat([*gradients, self._seen]))
        mean = joined[:-1] / joined[-1].clamp_min(1.0)
        count = self.slopes.numel()
        self.slopes.grad, self.bias.grad = mean[:count].view_as(self.slopes).clone(), mean[count:].clone()
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=False)
        self._seen.zero_()

    def state(self) -> dict[str, Tensor]:
        """Parameters and moments, for a checkpoint."""
        found = {"gate.slopes": self.slopes.detach(), "gate.bias": self.bias.detach()}
        for name, parameter in (("slopes", self.slopes), ("bias", self.bias)):
            found |= {f"gate.{name}.{key}": value for key, value in self._optimizer.state[parameter].items()}
        return found

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Restores what `state` gave."""
        with torch.no_grad():
            for name, parameter in (("slopes", self.slopes), ("bias", self.bias)):
                parameter.copy_(state[f"gate.{name}"])
                kept = {key.removeprefix(f"gate.{name}."): value for key, value in state.items() if key.startswith(f"gate.{name}.")}
                if kept:
                    self._optimizer.state[parameter] = {key: value.clone() for key, value in kept.items()}
