"""The weighted sum of named terms.

Losses return unreduced values; the objective alone masks, weights and divides, by counts of the whole update. So k
accumulation steps of n examples and one step of kn, one process and four, have the same gradient.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from ..adapters.base import Adapter
from ..adapters.pick import pick
from ..errors import LimbeckError, ShapeMismatch
from ..losses.base import Loss
from ..taps.layers import LayerMap
from ..targets.base import Target
from ..types import ROW_WEIGHTS, Mixed, Share, Signals, labelled
from .equip import Asked
from .gathering import Gather, gathered
from .passes import apart, by_part, mass_of, size_of
from .schedules import Ramp, scaled
from .slot import Slot
from .token_terms import Fused, both_dense, by_rows, dense, fused_groups, run_fused


@dataclass(frozen=True)
class Counts:
    """What an update holds, over all its forward passes and processes."""

    examples: float | Tensor
    labelled: float | Tensor
    """Equal to `examples` (the same object) where every example has a label; then nothing is masked."""
    world: int = 1
    """Number of processes; gradients are averaged over them, so the loss is scaled by it."""
    kept: Mapping[str, Tensor] = field(default_factory=dict)
    """Sum of the weights of the examples, by label of the terms whose targets weigh them (`Objective.masses`); where a term is not named,
    its mean is taken within each forward pass."""

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
    layers: LayerMap | tuple[int | None, ...] = "uniform"
    """Which layers are paired, where taps have a star; `layers.written_out` comes first."""
    source: str = "teacher"
    """Name of the teacher."""
    adapter: str = "auto"
    adapter_options: Mapping[str, Any] = field(default_factory=dict)
    ramps: Mapping[str, Ramp] = field(default_factory=dict)
    """Hyper-parameters of the loss that change over the stage."""
    targets: tuple[Target, ...] = ()
    """What is done to the signals before the loss sees them, in this order."""
    peer: bool = False
    """Whether the source learns in the same updates, so that it may break."""
    share: Share | None = None
    """The data set that it is for, where several are learnt together."""
    part_of: str = ""
    """The label of the recipe, where one term listens to several peers and so became several."""

    def __post_init__(self) -> None:
        if self.student and not self.teacher:
            self.teacher = self.student
        if any(target.weighs for target in self.targets[1:]):
            raise LimbeckError(f"objective.{self.label}: a target that weighs examples must be the first of `targets`.")

    @property
    def weighs(self) -> bool:
        """Whether its examples do not all count alike: a target weighs them, or it is for those of one data set."""
        return self.share is not None or any(target.weighs for target in self.targets)

    @property
    def extra(self) -> tuple[str, ...]:
        """Names in the student's `Signals.extra` that the loss or a target reads."""
        return (*self.loss.needs.extra, *(name for target in self.targets for name in target.extra))

    @property
    def watches_student(self) -> bool:
        """Whether the weights of its examples depend on what the student says."""
        return any(target.watches_student for target in self.targets)

    @property
    def reads_logits(self) -> bool:
        """Whether targets that weigh examples, or the loss, read logits; a loss on logits or else a layer reads the layer that is named."""
        read = self.loss.needs.logits and not (self.student and self.loss.needs.features == "optional")
        return read or any(target.weighs for target in self.targets)


class Objective(nn.Module):
    """Sum of terms. Holds the losses and the adapters, so that whatever learns in them is trained and saved."""

    def __init__(self, terms: Sequence[Term]) -> None:
        super().__init__()
        self.terms = {term.label: term for term in terms}
        self.losses = nn.ModuleDict({_child(term.label): term.loss for term in terms})
        self.targets = nn.ModuleDict({f"{term.label}_{i}": target for term in terms for i, target in enumerate(term.targets)})
        self.adapters = nn.ModuleDict()
        self.weights: dict[str, float] = {}
        self._plan: list[Slot] | None = None
        self._settled = False
        self._kept_for: list[float | Tensor] = []
        self._kept = (torch.empty(0), torch.empty(0))
        self.set_progress(0.0)

    def student_taps(self) -> list[str]:
        """Every tap of the student, without repetition, in the order of the terms."""
        return list(dict.fromkeys(tap for term in self.terms.values() for tap in term.student))

    def teacher_taps(self, name: str) -> list[str]:
        """Every tap of the teacher called `name`."""
        return list(dict.fromkeys(tap for term in self._of(name) for tap in term.teacher))

    def asked(self, teacher: str | None = None) -> Asked:
        """What the terms ask for beyond logits and layers, of the student or of the teacher of that name."""
        terms = [*self.terms.values()] if teacher is None else self._of(teacher)
        side = "student" if teacher is None else "teacher"
        return Asked(
            head=any(term.loss.needs.head in (side, "both") for term in terms),
            extra=frozenset(name for term in terms for name in term.extra) if teacher is None else frozenset(),
            rotations=any(term.loss.needs.rotations for term in terms),
        )

    def allocate(self, examples: int) -> None:
        """Makes the per-example state of the losses that keep some, for a data set of `examples`."""
        for term in self.terms.values():
            term.loss.allocate(examples)

    def needs_teacher_logits(self, name: str) -> bool:
        """Whether some term reads the logits of the teacher called `name`."""
        return any(term.reads_logits for term in self._of(name))

    def needs_student_logits(self) -> bool:
        """Whether some term reads the logits of the student."""
        return any(term.reads_logits for term in self.terms.values())

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
        self._plan = [Slot(term, self._adapters(term)) for term in self.terms.values()]
        student, teachers = both_dense(student, teachers)
        for slot in self._plan:
            slot.loss.setup(*slot.route(student, teachers))
        return made

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

    def leave_out(self, source: str) -> bool:
        """Stops listening to a peer; its share of a mean over peers goes to the others. Whether any term is left."""
        for label in [term.label for term in self._of(source)]:
            whole = self.terms.pop(label).part_of
            del self.weights[label]
            parts = [term for term in self.terms.values() if whole and term.part_of == whole]
            for term in parts:
                term.weight = scaled(term.weight, (len(parts) + 1) / len(parts))
        self._plan = [slot for slot in self._plan or () if slot.term.label in self.terms]
        self._settled, self._kept_for = False, []
        self.set_progress(self._progress)
        return bool(self.terms)

    def set_progress(self, progress: float) -> None:
        """Moves scheduled weights and hyper-parameters to `progress`, a fraction of the stage."""
        if self._settled:
            return
        self._progress = progress
        for label, term in self.terms.items():
            self.weights[label] = term.weight.at(progress) if isinstance(term.weight, Ramp) else term.weight
            for name, ramp in term.ramps.items():
                setattr(term.loss, name, ramp.at(progress))
        self._settled = not any(isinstance(term.weight, Ramp) or term.ramps for term in self.terms.values())

    def forward(
        self,
        student: Signals,
        teachers: Mapping[str, Signals],
        labels: Tensor | None,
        counts: Counts,
        gather: Gather | None = None,
        mixed: Mixed | None = None,
    ) -> tuple[Tensor, Tensor]:
        """The total to run backward on, and the value of each term, `(terms,)`, detached and before its weight.

        Where the inputs were mixed, `labels` are those of their own parts and `mixed` knows those of the partners.

        Summed over forward passes and processes, the values are those of the whole update.
        """
        if self._plan is None:
            raise LimbeckError("Objective.setup must be called with example signals before the first forward.")
        tokens = student.tokens is not None
        fused = self._fused(student, teachers, labels, counts) if tokens else {}
        dense = both_dense(student, teachers) if tokens and any(self._whole(slot, mixed, fused) for slot in self._plan) else None
        now = _Pass(student, teachers, labels, counts, gather, mixed, dense)
        sums: list[Tensor] = []
        shares: list[float | Tensor] = []
        for slot in self._plan:
            one = fused.get(slot.term.label)
            value, share = (one.sums[slot.term.label], 1 / counts.examples) if one is not None else self._value(slot, now)
            sums.append(value)
            shares.append(share)
        values = torch.stack(sums) if len({value.dtype for value in sums}) == 1 else torch.stack([value.float() for value in sums])
        share, factor = self._factors(shares, counts.world, values)
        total = torch.dot(values, factor)
        for one in {id(item): item for item in fused.values()}.values():
            own = one.total * (counts.world / counts.examples)
            total = total + (own - own.detach())  # its value is among `values`
        return total, values.detach() * share

    def _fused(self, student: Signals, teachers: Mapping[str, Signals], labels: Tensor | None, counts: Counts) -> dict[str, Fused]:
        """By label, the terms on tokens that are computed from hidden states."""
        found: dict[str, Fused] = {}
        for group in fused_groups(self._plan or ()):
            one = run_fused(group, student, teachers, labels, self.weights)
            found.update({slot.term.label: one for slot in group})
        return found

    def _whole(self, slot: Slot, mixed: Mixed | None, fused: Mapping[str, Fused]) -> bool:
        """Whether a term on tokens needs the logits of all rows at once."""
        if slot.term.label in fused or not slot.term.reads_logits:
            return False
        return slot.needs.global_batch or apart(slot, mixed)

    def _value(self, slot: Slot, now: _Pass) -> tuple[Tensor, float | Tensor]:
        """The sum of a term over this forward pass, and the factor that makes it a part of the update's mean."""
        needs, counts = slot.needs, now.counts
        if now.student.tokens is not None and slot.term.reads_logits and not self._whole(slot, now.mixed, {}):
            return by_rows(slot, now.student, now.teachers, now.labels), 1 / counts.examples
        student, teachers = now.dense or (now.student, now.teachers)
        if apart(slot, now.mixed):
            return by_part(slot, student, teachers, now.labels, now.mixed, counts)
        s, t = slot.route(student, teachers, now.labels)
        # Values of single examples are masked here; a quantity of the batch must see for itself which examples have no label.
        own, known = (now.labels if needs.global_batch else now.safe, now.mask) if needs.labels else (now.labels, None)
        repeats = 1
        if now.gather is not None and needs.global_batch:
            slot.divide_own_gradients(counts.world)
            s, t = gathered(s, now.gather, counts.world), gathered(t, now.gather, counts.world)
            own = now.gather(own) if own is not None else None
            known = now.gather(known.to(torch.uint8)).bool() if known is not None else None
            repeats = counts.world  # every process computes the whole term; the shares are summed over them
        values, factors = slot.value(s, t, own), now.student.extra.get(ROW_WEIGHTS)
        if factors is not None and values.ndim:
            values = values * factors.view(-1, *[1] * (values.ndim - 1))
        value, share = _reduce(values, known, needs.labels, counts, s)
        return value, share / repeats if repeats > 1 else share

    @property
    def weighs(self) -> bool:
        """Whether the examples of some term do not all count alike, so that `Counts.kept` is to be known before the first forward pass."""
        return any(term.weighs and not term.watches_student for term in self.terms.values())

    def masses(
        self,
        teachers: Mapping[str, Signals],
        labels: Tensor | None,
        mixed: Mixed | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> dict[str, Tensor]:
        """The sum of the weights of a forward pass's examples, by label of every term whose targets weigh them.

        What peers and the student say is not known before the forward pass; terms whose weights depend on them are averaged over each
        forward pass by itself.
        """
        teachers = {name: dense(said) for name, said in teachers.items()}
        weighed = [slot for slot in self._plan or () if slot.weighs and not slot.term.peer and not slot.term.watches_student]
        known = Signals(extra={name: value for name, value in (extra or {}).items() if isinstance(value, Tensor)})
        return {slot.term.label: mass_of(slot, known, teachers, labels, mixed) for slot in weighed}

    def _factors(self, shares: list[float | Tensor], world: int, values: Tensor) -> tuple[Tensor, Tensor]:
        """What turns sums into means, for logging and for the total; kept while nothing changes, so that nothing is copied."""
        known = not any(isinstance(share, Tensor) for share in shares)
        if known and self._settled and shares == self._kept_for and self._kept[0].dtype == values.dtype:
            return self._kept
        # A gathered term reaches each process's parameters through its own part only, so its gradient is not to be
        # divided by the number of repeats: the total takes the share before that division, times the processes that
        # the gradient is averaged over.
        scale = [self.weights[slot.term.label] * world * (world if slot.needs.global_batch else 1) for slot in self._plan or ()]
        like: dict[str, Any] = {"dtype": values.dtype, "device": values.device}
        if known:
            share = torch.tensor(shares, **like)
            self._kept_for, self._kept = shares, (share, torch.tensor([a * b for a, b in zip(shares, scale, strict=True)], **like))
            return self._kept
        share = torch.stack([torch.as_tensor(item, **like) for item in shares])
        return share, share * torch.tensor(scale, **like)


class _Pass:
    """What the terms are computed from in one forward pass."""

    def __init__(
        self,
        student: Signals,
        teachers: Mapping[str, Signals],
        labels: Tensor | None,
        counts: Counts,
        gather: Gather | None,
        mixed: Mixed | None,
        dense: tuple[Signals, dict[str, Signals]] | None,
    ) -> None:
        self.student, self.teachers, self.labels, self.counts = student, teachers, labels, counts
        self.gather, self.mixed, self.dense = gather, mixed, dense
        self.mask, self.safe = (None, labels) if counts.complete or labels is None else _mask(labels)


def _mask(labels: Tensor) -> tuple[Tensor, Tensor]:
    """Which examples are labelled, and labels in which the missing ones are harmless (zero)."""
    known = labelled(labels)
    shape = known if known.ndim == labels.ndim else known.unflatten(0, (-1, *[1] * (labels.ndim - 1)))
    return known, torch.where(shape, labels, torch.zeros_like(labels))


def _reduce(values: Tensor, mask: Tensor | None, needs_labels: bool, counts: Counts, signals: Signals) -> tuple[Tensor, float | Tensor]:
    """The sum of a term over this forward pass, and the factor that makes it a part of the update's mean."""
    if values.ndim == 0:
        return values, size_of(signals) / counts.examples
    if mask is None:
        # Values of tokens, pixels or elements are averaged within each example.
        within = values.numel() // values.shape[0] if values.ndim > 1 else 1
        return values.sum(), 1 / ((counts.labelled if needs_labels else counts.examples) * within)
    if values.ndim > mask.ndim:
        values = values.flatten(mask.ndim).mean(-1)
    kept = torch.where(mask, values, torch.zeros_like(values)).sum()
    count = counts.labelled
    return kept, 1 / (count.clamp_min(1) if isinstance(count, Tensor) else max(count, 1.0))


def _child(label: str) -> str:
    """The name of a term's loss as a module; a few labels, such as `values`, are methods of torch's dictionary of modules."""
    return f"={label}" if label in dir(nn.ModuleDict()) else label
