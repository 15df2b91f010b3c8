"""What a model gives away of its training examples: membership inference, and the exposure of planted secrets."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..data.language.load import padding_token
from ..engine.evaluation import Collected
from ..evaluate.exposure import exposure, fillings
from ..evaluate.membership import RATES, attack, class_scores, scaled_confidence
from ..evaluate.tokens import token_statistics
from ..session import EVAL_BATCH
from ..tokens import Logits
from ..types import Batch, labelled
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
        tokens = Logits(said.logits) if isinstance(said.logits, Tensor) else said.logits
        return _by_example(token_statistics(tokens, said.labels).nll, said.examples), said.labels
    known = labelled(said.labels)
    logits, labels = said.logits[known].double(), said.labels[known]
    if kind == "class":
        losses = F.cross_entropy(logits, labels, reduction="none")
        return (losses if said.examples is None else _by_example(losses, said.examples[known])), labels
    if kind == "multilabel":
        return F.binary_cross_entropy_with_logits(logits, labels.double(), reduction="none").mean(1), labels
    return (logits - labels.double().view_as(logits)).square().mean(1), labels


def _by_example(losses: Tensor, examples: Tensor | None) -> Tensor:
    """The mean of the rows of every example."""
    if examples is None:
        return losses
    _, place, count = examples.unique(return_inverse=True, return_counts=True)
    return torch.zeros(len(count), dtype=torch.float64).index_add_(0, place, losses.double()) / count


def canaries(panel: Panel) -> None:
    """Adds `exposure`, the mean over the canaries in bits, to the metrics, and the section `canaries`."""
    session, wish = panel.session, panel.wish
    sets = [fillings(canary, wish.fills, session.seed(f"canary-{number}")) for number, canary in enumerate(wish.canaries)]
    for name in panel.said:
        rows: list[dict[str, Any]] = []
        for canary, (planted, others) in zip(wish.canaries, sets, strict=True):
            losses = text_losses(panel, name, [planted, *others])
            value = exposure(losses[0].item(), losses[1:])
            rank = 1 + int((losses[1:] < losses[0]).sum())
            rows.append({"canary": canary, "exposure": value, "rank": rank, "fillings": len(others) + 1})
        panel.found[name].metrics["exposure"] = sum(row["exposure"] for row in rows) / len(rows)
        panel.found[name].sections["canaries"] = rows


def text_losses(panel: Panel, name: str, texts: list[str]) -> Tensor:
    """Minus the logarithm of the probability of each text (nats), `(texts,)`, by a causal language model."""
    session = panel.session
    tokenizer, device = session.data().tokenizer, session.backend.device
    module, call, fill = session.models[name].module.to(device), session.call(name), padding_token(session.data().tokenizer)
    parts: list[Tensor] = []
    mode = module.training
    module.eval()
    try:
        with torch.no_grad():
            for start in range(0, len(texts), EVAL_BATCH):
                batch = _as_batch(tokenizer(texts[start : start + EVAL_BATCH])["input_ids"], fill).to(device)
                said = call(module, batch)
                if said.tokens is None or batch.rows is None or batch.labels is None:
                    continue
                nll = token_statistics(said.tokens, batch.labels).nll
                of = (batch.rows // batch.tokens_shape[1]).cpu()
                parts.append(torch.zeros(len(batch), dtype=torch.float64).index_add_(0, of, nll))
    finally:
        module.train(mode)
    return torch.cat(parts)


def _as_batch(ids: list[list[int]], fill: int) -> Batch:
    """Texts of which every token but the first is to be predicted."""
    width = max(len(row) for row in ids)
    lengths = torch.tensor([len(row) for row in ids])
    tokens = torch.tensor([row + [fill] * (width - len(row)) for row in ids])
    inside = torch.arange(width)[None] < lengths[:, None]
    rows = (torch.arange(width)[None] < lengths[:, None] - 1).flatten().nonzero().flatten()
    inputs = {"input_ids": tokens, "attention_mask": inside.long()}
    return Batch(inputs, tokens.flatten()[rows + 1], torch.arange(len(ids)), rows=rows)
