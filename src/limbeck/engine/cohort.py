"""Several learners that learn in the same updates, each from what the others say: one forward of each a batch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn

from ..objective import Counts
from ..objective.gathering import Gather
from ..tokens import Hidden, Logits, Projection, Tokens
from ..types import Batch, Head, Signals
from .learner import Learner


class Cohort(nn.Module):
    """The learner of a stage and its peers as one module, wrapped once.

    The total is the sum of the members' totals. What one hears of another is detached, so a single backward gives each member the
    gradient of its own objective, and a member whose total is not finite spoils nobody's gradient but its own.

    Args:
        members: by name, the learner first.
    """

    def __init__(self, members: Mapping[str, Learner]) -> None:
        super().__init__()
        self.names = tuple(members)
        self.active: list[str] = list(members)
        """Names of the members that still learn."""
        self.learners = nn.ModuleList(members.values())
        self._members = dict(members)

    def __getitem__(self, name: str) -> Learner:
        return self._members[name]

    def forward(self, batch: Batch, teachers: Mapping[str, Signals], counts: Counts, gather: Gather | None = None) -> tuple[Tensor, Tensor]:
        """The total to run backward on, and the values of all terms, member by member."""
        said = {name: self._members[name].signals(batch) for name in self.active}
        heard = {**teachers, **{name: detached(signals) for name, signals in said.items()}}
        found = [
            self._members[name].objective(said[name], heard, batch.labels, self._counts(name, counts), gather, batch.mixed)
            for name in self.active
        ]
        totals = [total.float() for total, _ in found]
        return torch.stack(totals).sum(), torch.cat([value.float() for _, value in found])

    def _counts(self, name: str, counts: Counts) -> Counts:
        """The counts of an update as a member's terms call them."""
        if not counts.kept:
            return counts
        labels = {self.label(name, term): term for term in self._members[name].objective.terms}
        return replace(counts, kept={term: counts.kept[label] for label, term in labels.items() if label in counts.kept})

    def retire(self, name: str) -> list[str]:
        """Lets a member learn and speak no more.

        Returns:
            Those who are left with nothing to learn from, because they listened to nobody else.
        """
        self.active.remove(name)
        return [other for other in self.active if not self._members[other].objective.leave_out(name)]

    def label(self, name: str, term: str) -> str:
        """What a value of a member is called in the metrics: the learner's by itself, a peer's after its name."""
        return term if name == self.names[0] else f"{name}/{term}"


def detached(signals: Signals) -> Signals:
    """Signals that carry no gradient."""
    head = signals.head
    return replace(
        signals,
        logits=signals.logits.detach() if signals.logits is not None else signals.logits,
        features=_all(signals.features),
        extra=_all(signals.extra),
        tokens=None if signals.tokens is None else detached_tokens(signals.tokens),
        head=None if head is None else Head(head.weight.detach(), None if head.bias is None else head.bias.detach()),
        views=tuple(detached(view) for view in signals.views),
    )


def detached_tokens(said: Tokens) -> Tokens:
    """The same without gradient; what is stored carries none."""
    if isinstance(said, Hidden):
        head, bias = said.head, said.head.bias
        cut = Projection(head.weight.detach(), None if bias is None else bias.detach(), head.scale, head.cap)
        return Hidden(said.hidden.detach(), cut)
    return Logits(said.logits.detach()) if isinstance(said, Logits) else said


def _all(values: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.detach() for name, value in values.items()}
