"""How well a language model does in each domain of its texts (`data.domain`), and of prompts and answers."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .engine.evaluation import Collected
from .evaluate.tokens import PARTS
from .session import Session
from .tokens import Hidden, part_of


def of_domains(session: Session, said: Collected) -> dict[str, float]:
    """Perplexity of the test examples of each domain, as `DOMAIN.perplexity`; empty where the data name none."""
    domains = session.data().test.domains
    if domains is None or said.examples is None or not isinstance(said.logits, Hidden):
        return {}
    own = domains.numbers[said.examples]
    found: dict[str, float] = {}
    for number, name in enumerate(domains.names):
        rows = (own == number).nonzero().flatten()
        if len(rows):
            found[f"{name}.perplexity"] = _perplexity(session, said, rows)
    return found


def of_parts(session: Session, said: Collected) -> dict[str, float]:
    """Perplexity of the answers and of the prompts of the test examples, as `answers.perplexity` and `prompts.perplexity`; empty where not
    both are judged (`data.train_on: all`)."""
    if said.given is None or not isinstance(said.logits, Hidden):
        return {}
    own = {name: (said.given == number).nonzero().flatten() for number, name in enumerate(PARTS)}
    if not all(len(rows) for rows in own.values()):
        return {}
    return {f"{name}.perplexity": _perplexity(session, said, rows) for name, rows in own.items()}


def _perplexity(session: Session, said: Collected, rows: Tensor) -> float:
    part: Any = part_of(said.logits, rows)
    return session.task.report(part, said.labels[rows], torch.arange(len(rows)))["perplexity"]
