"""Whether a teacher of tokens answers the question that the student is asked, seen on the first documents before anything is trained.

A teacher that is shifted by one token, or was made for another vocabulary, teaches nonsense without any error: its probabilities are
well-formed. But it gives the student's targets less probability than their neighbours, or than chance.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from ..data.base import Examples
from ..errors import LimbeckError
from ..ops.projection import logits_of, vocabulary_of
from ..tokens import Logits, Sampled, part_of
from ..types import Batch, Signals
from .steps.base import Context

ROWS = 1024
"""Tokens that are looked at, about."""
EXAMPLES = 64
"""Examples that are read for it at most."""
TOGETHER = 8
"""Examples that are read at once."""
FEWEST = 32
"""Tokens below which nothing is concluded."""
MARGIN = 0.1
"""Nats by which a neighbour must be likelier, beyond three standard errors."""
KNOWS = 1.0
"""Nats by which a teacher must know the neighbours better than chance to be called shifted."""
FLOOR = math.log(1e-6)
"""What stands for the logarithm of the probability of a token that a store does not have."""


def check_alignment(context: Context, examples: Examples, seed: int) -> None:
    """Compares what the teachers of a stage say with the tokens that the student is to predict.

    Raises:
        LimbeckError: for a teacher whose answers belong to the neighbouring tokens, or to another vocabulary.
    """
    if len(examples) == 0 or not context.heard:
        return
    shown = examples.augmented(seed, 0)
    if shown[0].rows is None:
        return
    held: dict[str, list[_Seen]] = {}
    rows = 0
    for start in range(0, min(len(examples), EXAMPLES), TOGETHER):
        batch = shown.__getitems__(list(range(start, min(start + TOGETHER, len(examples))))).to(context.backend.device)
        for name, said in context.teacher_signals(batch).items():
            if (found := _likelihoods(said, batch)) is not None:
                held.setdefault(name, []).append(found)
        rows += int(batch.units)
        if rows >= ROWS:
            break
    for name, parts in held.items():
        target, after, before = (torch.cat(column) for column in zip(*((p.target, p.after, p.before) for p in parts), strict=True))
        _judge(name, _Seen(target, after, before, parts[0].chance))


class _Seen(NamedTuple):
    """Log-probabilities of tokens, `(rows,)` each."""

    target: Tensor
    after: Tensor
    """Of the tokens after the targets."""
    before: Tensor
    """Of the tokens before them."""
    chance: float | None
    """Logarithm of the size of the vocabulary; None where the teacher names too few tokens to be judged by it."""


def _likelihoods(said: Signals, batch: Batch) -> _Seen | None:
    """What a teacher makes of the tokens that have a trained neighbour on both sides; None where there is none."""
    tokens = said.tokens if said.tokens is not None else Logits(said.logits) if said.logits is not None else None
    if tokens is None or batch.labels is None or batch.rows is None or len(batch.rows) < 3:
        return None
    inner = ((batch.rows[2:] - batch.rows[1:-1] == 1) & (batch.rows[1:-1] - batch.rows[:-2] == 1)).nonzero().flatten() + 1
    documents = batch.extra.get("documents")
    if isinstance(documents, Tensor):  # neighbours in a packed row may be strangers
        inner = inner[(documents[inner + 1] == documents[inner]) & (documents[inner - 1] == documents[inner])]
    if len(inner) == 0:
        return None
    size = max(vocabulary_of(tokens), int(batch.labels.max()) + 1)
    log_p = logits_of(part_of(tokens, inner), size).log_softmax(1).clamp_min(FLOOR)
    target, after, before = (log_p.gather(1, batch.labels[inner + shift][:, None])[:, 0].double().cpu() for shift in (0, 1, -1))
    return _Seen(target, after, before, None if isinstance(tokens, Sampled) else math.log(size))


def _judge(name: str, seen: _Seen) -> None:
    target, chance = seen.target, seen.chance
    if len(target) < FEWEST:
        return
    for other, which, likely in (
        (seen.after, "after", "its answers stand one token too early, such as logits whose shift was done twice"),
        (seen.before, "before", "its answers stand one token too late, such as logits that were never shifted"),
    ):
        lead = other - target
        # Who does not know the neighbours either has another vocabulary, or was hardly trained: one that has only learnt which tokens are
        # frequent, or whose head is its embedding, prefers some neighbours by a little.
        if chance is not None and -other.mean() > chance - KNOWS:
            continue
        if lead.mean() > MARGIN + 3 * lead.std() / math.sqrt(len(lead)):
            raise LimbeckError(
                f"{name}: it predicts the tokens {which} the ones that the student is to predict: on {len(target)} tokens these cost it "
                f"{-target.mean():.2f} nats each, the tokens {which} them {-other.mean():.2f}. So {likely}. Mend what gives its signals; "
                "nothing was trained."
            )
    # Sure and wrong is worse than chance; an untrained model is about as good as chance.
    if chance is not None and -target.mean() > chance + 1 + 3 * target.std() / math.sqrt(len(target)):
        raise LimbeckError(
            f"{name}: the tokens that the student is to predict cost it {-target.mean():.2f} nats each, and chance {chance:.2f}. "
            "It was made for another vocabulary or for other texts. Give it the tokenizer that it was trained with "
            "(data.tokenizer); nothing was trained."
        )
