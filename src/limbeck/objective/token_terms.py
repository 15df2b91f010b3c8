r"""Terms on tokens whose vocabulary is too large for logits: fused where the loss allows it, else some rows at a time.

A language model answers with hidden states and its head, a row for every trained token. A divergence that `limbeck.losses.fused` knows
takes them as they are; the first of these and the cross-entropy with the labels share one pass over the student's logits. Any other loss
with a value for each row sees the logits of a few rows at a time, which the backward pass computes once more. Only a loss that compares the
rows of a batch with each other, or has targets that weigh them, gets the logits of all rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from ..errors import ShapeMismatch, SignalMissing
from ..losses.fused import Measure, fused_sums
from ..ops.projection import logits_of, narrowed, vocabulary_of
from ..tokens import Hidden, Logits, Tokens, part_of
from ..types import ROW_WEIGHTS, Signals
from .forms import check_form

if TYPE_CHECKING:
    from .slot import Slot

BYTES = 64 * 2**20
"""Logits that a loss which is not fused sees at once."""


@dataclass(frozen=True)
class Fused:
    """Terms that were computed in one pass."""

    total: Tensor
    """Weighted sum over the rows, to run backward on."""
    sums: dict[str, Tensor]
    """Sum over the rows of each term, without its weight and without gradient."""


def fused_groups(slots: Sequence[Slot]) -> list[tuple[Slot, ...]]:
    """Which terms are computed in one pass: a divergence and the cross-entropy, then what is left by itself."""
    able = [slot for slot in slots if _fusable(slot)]
    labels = next((slot for slot in able if not slot.needs.teacher), None)
    first = next((slot for slot in able if slot.needs.teacher), None)
    groups = [tuple(slot for slot in (first, labels) if slot is not None)]
    return [group for group in [*groups, *((slot,) for slot in able if slot not in (first, labels))] if group]


def _fusable(slot: Slot) -> bool:
    """Whether the fused loss may take a term: nothing stands between the models and the loss."""
    plain = not slot.targets and not slot.weighs and not slot.term.peer and not slot.pairs
    return plain and slot.loss.measure is not None


def run_fused(
    group: Sequence[Slot], student: Signals, teachers: Mapping[str, Signals], labels: Tensor | None, weights: Mapping[str, float]
) -> Fused:
    """The terms of a group over this forward pass.

    Raises:
        LimbeckError: where a stored teacher was asked at another temperature.
        ShapeMismatch: where one model knows fewer tokens than the labels name.
    """
    taught = next((slot for slot in group if slot.needs.teacher), None)
    told = next((slot for slot in group if not slot.needs.teacher), None)
    own = student.tokens
    if not isinstance(own, Hidden):
        raise SignalMissing("the student gave no hidden states with a head.")
    measure, heard = Measure(), None
    if taught is not None:
        heard = said_of(taught, teachers)
        measure = taught.loss.measure or measure
    vocabulary = common_vocabulary(own, heard)
    total, sums = fused_sums(
        own.hidden,
        narrowed(own.head, vocabulary),
        None if heard is None else _cut(heard, vocabulary),
        replace(
            measure,
            weight=0.0 if taught is None else weights[taught.term.label],
            label_weight=0.0 if told is None else weights[told.term.label],
        ),
        weights=student.extra.get(ROW_WEIGHTS),
        labels=labels,
    )
    return Fused(total, {slot.term.label: sums[0 if slot is taught else 1] for slot in group})


def said_of(slot: Slot, teachers: Mapping[str, Signals]) -> Tokens:
    """What the teacher of a term says of the rows."""
    said = teachers[slot.source or ""]
    if said.tokens is not None:
        check_form(slot.term.label, slot.loss, slot.source or "", said)
        return said.tokens
    if said.logits is None:
        raise SignalMissing(f"objective.{slot.term.label}: the teacher said nothing of the tokens.")
    return Logits(said.logits)


def common_vocabulary(student: Hidden, teacher: Tokens | None) -> int:
    """Rows of the head that both models have. Of what a task gives these are all rows: it leaves out those beyond the tokenizer."""
    known = [student, *([teacher] if isinstance(teacher, Hidden | Logits) else [])]
    return min(map(vocabulary_of, known))


def _cut(said: Tokens, vocabulary: int) -> Tokens:
    if isinstance(said, Hidden):
        return Hidden(said.hidden, narrowed(said.head, vocabulary))
    return Logits(said.logits[:, :vocabulary]) if isinstance(said, Logits) else said


def dense(signals: Signals, vocabulary: int | None = None) -> Signals:
    """The signals with logits of all rows in the place of what makes them; of the whole vocabulary where none is given."""
    if signals.tokens is None:
        return signals
    return replace(signals, logits=logits_of(signals.tokens, vocabulary), tokens=None)


def both_dense(student: Signals, teachers: Mapping[str, Signals]) -> tuple[Signals, dict[str, Signals]]:
    """Student and teachers with logits of all rows, for terms that need them all at once."""
    own = student.tokens
    if not isinstance(own, Hidden):
        return student, dict(teachers)
    heard = dict(teachers)
    vocabulary = min([common_vocabulary(own, said.tokens) for said in heard.values()], default=len(own.head.weight))
    return dense(student, vocabulary), {name: dense(said, vocabulary) for name, said in heard.items()}


def by_rows(slot: Slot, student: Signals, teachers: Mapping[str, Signals], labels: Tensor | None) -> Tensor:
    """The sum of a term over the rows, with the logits of some rows at a time.

    Raises:
        ShapeMismatch: where the loss has no value for each row.
    """
    own = student.tokens
    if not isinstance(own, Hidden):
        raise SignalMissing("the student gave no hidden states with a head.")
    heard = said_of(slot, teachers) if slot.source is not None else None
    vocabulary = common_vocabulary(own, heard)
    size = max(BYTES // (4 * vocabulary), 1)
    head = narrowed(own.head, vocabulary)
    factors = student.extra.get(ROW_WEIGHTS)
    total = own.hidden.new_zeros((), dtype=torch.promote_types(own.hidden.dtype, torch.float32))

    def value(hidden: Tensor, weight: Tensor, bias: Tensor | None, rows: slice) -> Tensor:
        mine = replace(_rows(student, rows), tokens=Hidden(hidden, replace(head, weight=weight, bias=bias)))
        name = slot.source or ""
        theirs = {} if heard is None else {name: replace(_rows(teachers[name], rows), tokens=part_of(heard, rows))}
        own_labels = None if labels is None else labels[rows]
        s, t = slot.route(*both_dense(mine, theirs), own_labels)
        values = slot.value(s, t, own_labels)
        if values.ndim == 0 or len(values) != len(hidden):
            raise ShapeMismatch(f"objective.{slot.term.label}: expected a value for each token, found {list(values.shape)}.")
        values = values.flatten(1).mean(1) if values.ndim > 1 else values
        return (values if factors is None else values * factors[rows]).sum()

    for start in range(0, len(own.hidden), size):
        rows = slice(start, start + size)
        total = total + checkpoint(value, own.hidden[rows], head.weight, head.bias, rows, use_reentrant=False)  # pyright: ignore[reportOperatorIssue]
    return total


def _rows(signals: Signals, rows: slice) -> Signals:
    """The signals of some rows; `head` has no rows."""
    return replace(
        signals,
        features={name: value[rows] for name, value in signals.features.items()},
        extra={name: value[rows] for name, value in signals.extra.items()},
    )
