"""One forward and one backward of the learner per batch: the usual step."""

from __future__ import annotations

from dataclasses import replace
from typing import cast, final

from torch import Tensor

from ...objective import Counts
from ...types import Batch
from .base import Step


@final
class Supervised(Step):
    """The teachers speak, the learner answers, the objective compares, the optimizer moves the learner."""

    @property
    def labels(self) -> tuple[str, ...]:
        return tuple(self.context.learner.objective.terms)

    def update(self, batches: list[Batch], counts: Counts) -> Tensor:
        context, backend, player = self.context, self.context.backend, self.context.players["learner"]
        gather = backend.gather if backend.world > 1 else None
        values: Tensor | None = None
        heard = None
        if context.learner.objective.weighs:
            batches = [batch.to(backend.device) for batch in batches]
            heard = [context.teacher_signals(batch) for batch in batches]
            counts = replace(counts, kept=context.masses(batches, heard))
        for i, batch in enumerate(batches):
            batch = batch.to(backend.device)  # noqa: PLW2901 - the same batch, elsewhere
            teachers = context.teacher_signals(batch) if heard is None else heard[i]
            with backend.no_sync(player.module, last=i == len(batches) - 1):
                with backend.autocast():
                    total, terms, _ = player.module(batch, teachers, counts, gather)
                backend.backward(total)
            values = terms if values is None else values + terms
        context.apply(player)
        return cast(Tensor, values)  # an update has at least one batch
