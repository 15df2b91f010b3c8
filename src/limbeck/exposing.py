"""How far the models of a run know the canaries that were planted in their training texts (`data.canaries`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from .assemble import data_request
from .data.language.load import texts_of
from .data.language.private import rivals, secrets
from .data.loader import eval_loader
from .evaluate.exposure import exposure
from .evaluate.surprise import surprise
from .session import EVAL_BATCH, Session
from .types import Batch


def exposures(session: Session, names: Sequence[str]) -> dict[str, float]:
    """Mean exposure of the canaries in bits, by the name of each model; empty where none were planted.

    A candidate that has the digits of a secret is none of its rivals.
    """
    request = data_request(session.recipe.data, session.recipe)
    asked = request.tokens.canaries
    if asked is None:
        return {}
    own = secrets(asked, request.split_seed)
    others = [text for text in rivals(asked, request.split_seed) if text not in own]
    plain = replace(request, tokens=replace(request.tokens, private=None, pack=False))
    examples = texts_of([*own, *others], plain, session.data().tokenizer)
    found: dict[str, float] = {}
    for name in names:
        module = session.models[name].module.to(session.backend.device).eval()
        with torch.no_grad():
            batches = (batch.to(session.backend.device) for batch in eval_loader(examples, batch_size=EVAL_BATCH))
            losses = torch.cat([surprise(session.call(name)(module, batch), batch) * _tokens(batch) for batch in batches])
        each = [exposure(secret, losses[len(own) :]) for secret in losses[: len(own)].tolist()]
        found[name] = sum(each) / len(each)
    return found


def _tokens(batch: Batch) -> Tensor:
    """How many tokens each text is the loss of, so that the sum over them tells texts apart that have more than others."""
    rows = batch.rows if batch.rows is not None else torch.arange(len(batch))
    return torch.bincount((rows // batch.tokens_shape[1]).cpu(), minlength=len(batch)).double()
