"""One forward and one backward of the learner per batch: the usual step."""

from __future__ import annotations

from typing import final

from torch import Tensor

from ...objective import Counts
from ...types import Batch
from .base import Step


@final
class Supervised(Step):
    """The teachers speak, the learner answers, the objective compares, the optimizer moves the learner."""

    def update(self, batches: list[Batch], counts: Counts) -> dict[str, Tensor]:
        context, backend, player = self.context, self.context.backend, self.context.players["learner"]
        gather = backend.gather if backend.world > 1 else None
        values: dict[str, Tensor] = {}
        for i, batch in enumerate(batches):
            batch = batch.to(backend.device)  # noqa: PLW2901 - the same batch, elsewhere
            teachers = context.teacher_signals(batch)
            with backend.no_sync(player.module, last=i == len(batches) - 1):
                with backend.autocast():
                    total, terms, _ = player.module(batch, teachers, counts, gather)
                backend.backward(total)
            for label, value in terms.items():
                values[label] = values[label] + value if label in values else value
        context.apply(player)
        return values
