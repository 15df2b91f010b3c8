"""How well a language model does in each domain of its texts (`data.domain`)."""

from __future__ import annotations

from typing import Any

import torch

from .engine.evaluation import Collected
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
            own_part: Any = part_of(said.logits, rows)
            found[f"{name}.perplexity"] = session.task.report(own_part, said.labels[rows], torch.arange(len(rows)))["perplexity"]
    return found
