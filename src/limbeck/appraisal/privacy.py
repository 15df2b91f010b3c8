"""What a model gives away of its training examples: membership inference."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..engine.evaluation import Collected
from ..evaluate.membership import RATES, attack, class_scores, scaled_confidence
from ..evaluate.tokens import token_statistics
from ..tokens import Logits
from ..types import labelled
from .desk import Panel


def membership(panel: Panel) -> None:
    """Adds `membership_auc` and `membership_tpr` (of the stronger attack) to the metrics, and the section `membership`."""
    session = panel.session
    for name, inside in panel.trained.items():
        outside = panel.said[name]
        (own, labels), (theirs, other_labels) = (_losses(session.task.labels, said) for said in (inside, outside))
        if not len(own) or not len(theirs):
            continue
        found: dict[str, Any] = {"members": len(own), "others": len(theirs), "loss": attack(-own, -theirs)}
        if session.task.labels == "class" and session.task.language is None:
            phi, other = _confidence(inside), _confidence(outside)
            found["likelihood_ratio"] = attack(*class_scores(phi, other, labels, other_labels, seed=session.seed("membership")))
        attacks = [value for value in found.values() if isinstance(value, dict)]
        panel.found[name].metrics["membership_auc"] = max(one["auc"] for one in attacks)
        panel.found[name].metrics["membership_tpr"] = max(one[f"tpr_at_{RATES[0]}"] for one in attacks)
        panel.found[name].sections["membership"] = found


def _confidence(said: Collected) -> Tensor:
    known = labelled(said.labels)
    return scaled_confidence(said.logits[known], said.labels[known])


def _losses(kind: str, said: Collected) -> tuple[Tensor, Tensor]:
    """The loss of every labelled example (of texts, its mean over the tokens), and the labels."""
    if not isinstance(said.logits, Tensor) or kind == "token":
        return _by_example(token_losses(said), said.examples), said.labels
    known = labelled(said.labels)
    logits, labels = said.logits[known].double(), said.labels[known]
    if kind == "class":
        losses = F.cross_entropy(logits, labels, reduction="none")
        return (losses if said.examples is None else _by_example(losses, said.examples[known])), labels
    if kind == "multilabel":
        return F.binary_cross_entropy_with_logits(logits, labels.double(), reduction="none").mean(1), labels
    return (logits - labels.double().view_as(logits)).square().mean(1), labels


def token_losses(said: Collected) -> Tensor:
    """Minus the logarithm of the probability of every trained token (nats), `(tokens,)`."""
    tokens = Logits(said.logits) if isinstance(said.logits, Tensor) else said.logits
    return token_statistics(tokens, said.labels).nll


def _by_example(losses: Tensor, examples: Tensor | None) -> Tensor:
    """The mean of the rows of every example."""
    if examples is None:
        return losses
    _, place, count = examples.unique(return_inverse=True, return_counts=True)
    return torch.zeros(len(count), dtype=torch.float64).index_add_(0, place, losses.double()) / count
