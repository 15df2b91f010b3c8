"""One forward of every member of a cohort and one backward for all: the step of a stage with `peers`."""

from __future__ import annotations

from dataclasses import replace
from typing import cast, final

from torch import Tensor

from ...errors import LimbeckError
from ...objective import Counts
from ...types import Batch
from ..cohort import Cohort
from .base import Context, Step


@final
class CohortStep(Step):
    """The teachers speak, all members answer, each is compared with what it listens to, each optimizer moves its own member."""

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        if context.cohort is None:
            raise LimbeckError("the step 'cohort' is for stages with peers; name them with `peers`.")
        self._cohort: Cohort = context.cohort

    @property
    def labels(self) -> tuple[str, ...]:
        cohort = self._cohort
        return tuple(cohort.label(name, term) for name in cohort.active for term in cohort[name].objective.terms)

    def update(self, batches: list[Batch], counts: Counts) -> Tensor:
        context, backend, cohort = self.context, self.context.backend, self._cohort
        module = context.players["learner"].module
        gather = backend.gather if backend.world > 1 else None
        for name in cohort.active[1:]:
            cohort[name].objective.set_progress(context.progress)
        values: Tensor | None = None
        heard = None
        if any(cohort[name].objective.weighs for name in cohort.active):
            batches = [batch.to(backend.device) for batch in batches]
            heard = [context.teacher_signals(batch) for batch in batches]
            kept = {name: context.masses(batches, heard, name) for name in cohort.active}
            counts = replace(counts, kept={cohort.label(name, term): mass for name, own in kept.items() for term, mass in own.items()})
        for i, batch in enumerate(batches):
            batch = batch.to(backend.device)  # noqa: PLW2901 - the same batch, elsewhere
            teachers = context.teacher_signals(batch) if heard is None else heard[i]
            with backend.no_sync(module, last=i == len(batches) - 1):
                with backend.autocast():
                    total, terms = module(batch, teachers, counts, gather)
                backend.backward(total)
            values = terms if values is None else values + terms
        context.apply_all([context.player(name) for name in cohort.active])
        return cast(Tensor, values)  # an update has at least one batch
