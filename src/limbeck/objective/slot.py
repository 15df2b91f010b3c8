"""A term, ready to be evaluated: which signals its loss sees."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from torch import Tensor

from ..adapters.base import Adapter
from ..types import Signals
from .guard import Guarded
from .share import signals_of

if TYPE_CHECKING:
    from .objective import Term

_NOTHING = Signals()


class Slot:
    """A term, ready to be evaluated: everything that is the same at every update is looked up once."""

    def __init__(self, term: Term, adapters: tuple[Adapter | None, ...]) -> None:
        self.term, self.loss, self.needs = term, term.loss, term.loss.needs
        self.value = Guarded(term.loss) if term.peer and self.needs.teacher else term.loss
        self.source = term.source if self.needs.teacher else None
        self.targets = term.targets
        self.weighs, self.share = term.weighs, term.share
        self.reads_labels = self.needs.labels or any(target.reads_labels for target in term.targets)
        # A layer may be compared with several others; its copies then need names of their own.
        names = (_distinct(term.student), _distinct(term.teacher))
        self.pairs = tuple(zip(term.student, term.teacher, adapters or (None,) * len(term.student), *names, strict=True))

        self.divided_by = 1

    def divide_own_gradients(self, world: int) -> None:
        """Makes every process's gradient of the loss's own parameters a share: unlike the model, they meet the whole batch in each."""
        if world > self.divided_by == 1:
            self.divided_by = world
            for parameter in self.loss.parameters():
                parameter.register_hook(lambda gradient: gradient / world)

    def taught(self, teachers: Mapping[str, Signals], part: int = 0) -> Signals:
        """What the teacher says; of one part of a mixed input, where it is known and a target reads the part's labels."""
        teacher = _NOTHING if self.source is None else teachers[self.source]
        if teacher.parts and any(target.reads_labels for target in self.targets):
            return teacher.parts[part]
        return teacher

    def weights(self, student: Signals, teachers: Mapping[str, Signals], labels: Tensor | None, part: int = 0) -> Tensor | None:
        """How much each example counts, `(batch,)`, by the targets of a term that weigh them; None where none does."""
        if not self.targets or not self.targets[0].weighs:
            return None
        mine, theirs = student if self.term.watches_student else Signals(extra=student.extra), self.taught(teachers, part)
        if self.share is not None:
            mine, theirs = signals_of(self.share, mine), signals_of(self.share, theirs)
        return self.targets[0].weights(mine, theirs, labels)

    def route(
        self, student: Signals, teachers: Mapping[str, Signals], labels: Tensor | None = None, part: int = 0
    ) -> tuple[Signals, Signals]:
        """The signals as the loss sees them: only the layers of this term, adapted; of the part whose labels are given."""
        teacher = self.taught(teachers, part)
        if not self.needs.rotations and (student.views or teacher.views):  # another term's; they would be adapted and gathered in vain
            student, teacher = replace(student, views=()), replace(teacher, views=())
        routed = self._adapted(student, teacher)
        if self.share is not None:
            routed = (signals_of(self.share, routed[0]), signals_of(self.share, routed[1]))
        for target in self.targets:
            routed = target(*routed, labels) if target.reads_labels else target(*routed)
        return routed

    def _adapted(self, student: Signals, teacher: Signals) -> tuple[Signals, Signals]:
        if not self.pairs:
            if student.features or teacher.features:  # another term's; a loss on a layer or else the logits would take them
                student, teacher = replace(student, features={}), replace(teacher, features={})
            return student, teacher
        s_features: dict[str, Tensor] = {}
        t_features: dict[str, Tensor] = {}
        for s, t, adapter, mine, theirs in self.pairs:
            if self.source is None:
                s_features[mine] = student.features[s]
            elif adapter is None:
                s_features[mine], t_features[theirs] = student.features[s], teacher.features[t]
            else:
                s_features[mine], t_features[theirs] = adapter(student.features[s], teacher.features[t])
        mine = Signals(student.logits, s_features, student.extra, student.head)
        theirs = Signals(teacher.logits, t_features, teacher.extra, teacher.head)
        if student.views:
            views = [self._adapted(*pair) for pair in zip(student.views, teacher.views or (_NOTHING,) * len(student.views), strict=True)]
            mine.views, theirs.views = tuple(s for s, _ in views), tuple(t for _, t in views)
        return mine, theirs


def _distinct(taps: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(tap if tap not in taps[:i] else f"{tap} ({i + 1})" for i, tap in enumerate(taps))
