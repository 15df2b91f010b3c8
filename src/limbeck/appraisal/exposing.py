"""How far language models know secrets by heart: those that `data.canaries` plants, and those that `evaluate.canaries` names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ..assemble import data_request
from ..data.language.load import texts_of
from ..data.language.private import rivals, secrets
from ..evaluate.exposure import exposure, fillings
from ..session import Session
from .desk import Panel
from .privacy import token_losses


@dataclass(frozen=True)
class Canaries:
    """Planted texts that are compared with the same others."""

    names: tuple[str, ...]
    """What each is called in the results: as the recipe has it, or the text."""
    texts: tuple[str, ...]
    """With their secrets."""
    others: tuple[str, ...]
    """With other secrets of the same form; none of them is planted."""


def canaries_of(session: Session) -> list[Canaries]:
    """Those that the recipe plants, then those that it names."""
    request, wish = data_request(session.recipe.data, session.recipe), session.recipe.evaluate
    found: list[Canaries] = []
    if request.tokens.canaries is not None:
        own = tuple(secrets(request.tokens.canaries, request.split_seed))
        others = tuple(text for text in rivals(request.tokens.canaries, request.split_seed) if text not in own)
        found.append(Canaries(own, own, others))
    for number, canary in enumerate(wish.canaries):
        planted, others = fillings(canary, wish.fills, session.seed(f"canary-{number}"))
        found.append(Canaries((canary,), (planted,), tuple(others)))
    return found


def exposing(panel: Panel) -> None:
    """Adds `exposure`, the mean over the canaries in bits, to the metrics, and the section `canaries`, a row for each."""
    sets = canaries_of(panel.session)
    for model in panel.said:
        rows: list[dict[str, Any]] = []
        for own in sets:
            losses = text_losses(panel.session, model, [*own.texts, *own.others])
            others = losses[len(own.texts) :]
            for name, loss in zip(own.names, losses.tolist(), strict=False):
                found = exposure(loss, others)
                rows.append({"canary": name, "exposure": found.bits, "rank": found.rank, "fillings": found.texts})
        panel.found[model].metrics["exposure"] = sum(row["exposure"] for row in rows) / len(rows)
        panel.found[model].sections["canaries"] = rows


def text_losses(session: Session, model: str, texts: Sequence[str]) -> Tensor:
    """Minus the logarithm of the probability of each text (nats), `(texts,)`, each encoded as the training texts are.

    0 of a text in which nothing is to be predicted.
    """
    request = data_request(session.recipe.data, session.recipe)
    plain = replace(request, tokens=replace(request.tokens, private=None, pack=False))
    examples, owner = texts_of(texts, plain, session.data().tokenizer)
    losses = torch.zeros(len(texts), dtype=torch.float64)
    if not len(examples):
        return losses
    said = session.ask(model, examples, range(len(examples)))
    return losses.index_add_(0, owner[said.examples], token_losses(said))
