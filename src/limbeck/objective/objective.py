"""The weighted sum of named terms.

Losses return unreduced values; the objective alone masks, weights and divides, by counts of the whole update. So k
accumulation steps of n examples and one step of kn, one process and four, have the same gradient.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from ..adapters.base import Adapter
from ..adapters.pick import pick
from ..errors import LimbeckError, ShapeMismatch, SignalMissing
from ..losses.base import Loss
from ..types import Signals, labelled
from .schedules import Ramp

Gather = Callable[[Tensor], Tensor]
"""Collects a tensor from all processes along the batch; only the local part carries a gradient."""


@dataclass(frozen=True)
class Counts:
    """What an update holds, over all its forward passes and processes."""

    examples: float | Tensor
    labelled: float | Tensor
    """Equal to `examples` (the same object) where every example has a label; then nothing is masked."""
    world: int = 1
    """Number of processes; gradients are averaged over them, so the loss is scaled by it."""

    @property
    def complete(self) -> bool:
        """Whether every example of the update is labelled."""
        return self.labelled is self.examples


@dataclass
class Term:
    """A loss inside an objective, with where its signals come from."""

    label: str
    loss: Loss
    weight: float | Ramp = 1.0
    student: tuple[str, ...] = ()
    """Taps of the student."""
    teacher: tuple[str, ...] = ()
    """Taps of the teacher, pairwise with those of the student."""
    source: str = "teacher"
    """Name of the teacher."""
    adapter: str = "auto"
    adapter_options: Mapping[str, Any] = field(default_factory=dict)
    ramps: Mapping[str, Ramp] = field(default_factory=dict)
    """Hyper-parameters of the loss that change over the stage."""

    def __post_init__(self) -> None:
        if self.student and not self.teacher:
            self.teacher = self.student


class Objective(nn.Module):
    """Sum of terms. Holds the losses and the adapters, so that whatever learns in them is trained and saved."""

    def __init__(self, terms: Sequence[Term]) -> None:
        super().__init__()
        self.terms = {term.label: term for term in terms}
        self.losses = nn.ModuleDict({term.label: term.loss for term in terms})
        self.adapters = nn.ModuleDict()
        self.weights: dict[str, float] = {}
        self._plan: list[tuple[Term, Loss, tuple[Adapter | None, ...]]] | None = None
        self.set_progress(0.0)

    def student_taps(self) -> list[str]:
        """Every tap of the student, without repetition, in the order of the terms."""
        return list(dict.fromkeys(tap for term in self.terms.values() for tap in term.student))

    def teacher_taps(self, name: str) -> list[str]:
        """Every tap of the teacher called `name`."""
        return list(dict.fromkeys(tap for term in self._of(name) for tap in term.teacher))

    def needs_teacher_logits(self, name: str) -> bool:
        """Whether some term reads the logits of the teacher called `name`."""
        return any(term.loss.needs.logits and not term.student for term in self._of(name))

    def needs_student_logits(self) -> bool:
        """Whether some term reads the logits of the student."""
        return any(term.loss.needs.logits and not term.student for term in self.terms.values())

    def teacher_names(self) -> list[str]:
        """The teachers that some term listens to."""
        return list(dict.fromkeys(term.source for term in self.terms.values() if term.loss.needs.teacher))

    def _of(self, name: str) -> list[Term]:
        return [term for term in self.terms.values() if term.loss.needs.teacher and term.source == name]

    def setup(self, student: Signals, teachers: Mapping[str, Signals]) -> dict[str, list[dict[str, Any]]]:
        """Creates adapters and the parameters of losses from the signals of one example batch.

        Returns:
            Per term, the description of each adapter that was made.

        Raises:
            SignalMissing, ShapeMismatch: with the term, both layers and both shapes.
        """
        made: dict[str, list[dict[str, Any]]] = {}
        for term in self.terms.values():
            for i, adapter in enumerate(self._make_adapters(term, student, teachers)):
                if adapter is not None:
                    self.adapters[f"{term.label}_{i}"] = adapter
                    made.setdefault(term.label, []).append(adapter.describe())
        self._plan = [(term, self._loss(term), self._adapters(term)) for term in self.terms.values()]
        for term, loss, adapters in self._plan:
            s, t = self._route(term, adapters, student, teachers)
            loss.setup(s, t)
        return made

    def _loss(self, term: Term) -> Loss:
        return self.losses[term.label]  # pyright: ignore[reportReturnType]

    def _adapters(self, term: Term) -> tuple[Adapter | None, ...]:
        return tuple(dict(self.adapters.items()).get(f"{term.label}_{i}") for i in range(len(term.student)))  # pyright: ignore[reportReturnType]

    def _make_adapters(self, term: Term, student: Signals, teachers: Mapping[str, Signals]) -> list[Adapter | None]:
        needs = term.loss.needs
        if not term.student or not needs.teacher or needs.match == "any" or term.adapter == "none":
            return []
        teacher = teachers[term.source]
        made: list[Adapter | None] = []
        for s, t in zip(term.student, term.teacher, strict=True):
            try:
                made.append(pick(student.features[s], teacher.features[t], needs.match, term.adapter, term.adapter_options))
            except ShapeMismatch as error:
                raise ShapeMismatch(f"objective.{term.label}: student {s!r} and teacher {t!r}: {error}") from None
        return made

    def set_progress(self, progress: float) -> None:
        """Moves scheduled weights and hyper-parameters to `progress`, a fraction of the stage."""
        for label, term in self.terms.items():
            self.weights[label] = term.weight.at(progress) if isinstance(term.weight, Ramp) else term.weight
            for name, ramp in term.ramps.items():
                setattr(term.loss, name, ramp.at(progress))

    def forward(
        self,
        student: Signals,
        teachers: Mapping[str, Signals],
        labels: Tensor | None,
        counts: Counts,
        gather: Gather | None = None,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The total to run backward on, and the detached value of each term (before its weight).

        Summed over forward passes and processes, the values are those of the whole update.
        """
        if self._plan is None:
            raise LimbeckError("Objective.setup must be called with example signals before the first forward.")
        mask, safe = (None, labels) if counts.complete or labels is None else _mask(labels)
        total: Tensor | None = None
        values: dict[str, Tensor] = {}
        for term, loss, adapters in self._plan:
            needs = loss.needs
            s, t = self._route(term, adapters, student, teachers)
            spread = gather if needs.global_batch else None
            if spread is not None:
                s, t = _gathered(s, spread), _gathered(t, spread)
            own = safe if needs.labels else labels
            if spread is not None and own is not None:
                own = spread(own)
            known = mask if needs.labels else None
            if spread is not None and known is not None:
                known = spread(known.to(torch.uint8)).bool()
            value = _reduce(loss(s, t, own), known, needs.labels, counts, _size(s))
            # Every process computes the whole of a gathered term; the logged parts are summed over the processes.
            values[term.label] = (value if spread is None else value / counts.world).detach()
            weighted = value * (self.weights[term.label] * counts.world)
            total = weighted if total is None else total + weighted
        if total is None:
            raise LimbeckError("the objective has no terms.")
        return total, values

    def _route(
        self, term: Term, adapters: tuple[Adapter | None, ...], student: Signals, teachers: Mapping[str, Signals]
    ) -> tuple[Signals, Signals]:
        teacher = teachers[term.source] if term.loss.needs.teacher else _NOTHING
        if not term.student:
            return student, teacher
        s_features: dict[str, Tensor] = {}
        t_features: dict[str, Tensor] = {}
        for i, (s, t) in enumerate(zip(term.student, term.teacher, strict=True)):
            adapter = adapters[i] if adapters else None
            if not term.loss.needs.teacher:
                s_features[s] = student.features[s]
            elif adapter is None:
                s_features[s], t_features[t] = student.features[s], teacher.features[t]
            else:
                s_features[s], t_features[t] = adapter(student.features[s], teacher.features[t])
        return replace(student, features=s_features), replace(teacher, features=t_features)


_NOTHING = Signals()


def _mask(labels: Tensor) -> tuple[Tensor, Tensor]:
    """Which examples are labelled, and labels in which the missing ones are harmless (zero)."""
    known = labelled(labels)
    shape = known if known.ndim == labels.ndim else known.unflatten(0, (-1, *[1] * (labels.ndim - 1)))
    return known, torch.where(shape, labels, torch.zeros_like(labels))


def _size(signals: Signals) -> int:
    for value in (signals.logits, *signals.features.values()):
        if value is not None:
            return value.shape[0]
    raise SignalMissing("the student gave neither logits nor features.")


def _gathered(signals: Signals, gather: Gather) -> Signals:
    logits = signals.logits if signals.logits is None else gather(signals.logits)
    return replace(signals, logits=logits, features={path: gather(value) for path, value in signals.features.items()})


def _reduce(values: Tensor, mask: Tensor | None, needs_labels: bool, counts: Counts, size: int) -> Tensor:
    """The part of the update's mean that this forward pass adds."""
    if values.ndim == 0:
        return values * (size / counts.examples)
    if mask is None:
        if values.ndim > 1:
            values = values.flatten(1).mean(1)
        return values.sum() / (counts.labelled if needs_labels else counts.examples)
    if values.ndim > mask.ndim:
        values = values.flatten(mask.ndim).mean(-1)
    kept = torch.where(mask, values, torch.zeros_like(values)).sum()
    count = counts.labelled
    return kept / (count.clamp_min(1) if isinstance(count, Tensor) else max(count, 1))
