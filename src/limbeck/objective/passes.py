r"""Terms whose examples do not all count alike: inputs that were mixed of two, and targets that leave examples out.

A term that reads labels is evaluated once with the labels of each input's own part and once with those of its partner. With the share
:math:`s_i` of an input that is its own, and the weight w that the targets of the term give (1 where there are none),

.. math:: \frac{\sum_i s_i w_i \ell(x_i, y_i) + (1 - s_i) w'_i \ell(x_i, y'_i)}{\sum_i s_i w_i + (1 - s_i) w'_i}

over the whole update; the weight of an unlabelled part is 0 where the loss reads labels. Where a target reads the labels and a store keeps
what the teacher says of both parts, each part is compared with its own answer.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import reduce
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..errors import LimbeckError, SignalMissing
from ..types import Mixed, Signals, labelled
from .share import labels_of, rows_of

if TYPE_CHECKING:
    from .objective import Counts
    from .slot import Slot


def apart(slot: Slot, mixed: Mixed | None) -> bool:
    """Whether a term is evaluated part by part."""
    return slot.weighs or (mixed is not None and slot.reads_labels)


def by_part(
    slot: Slot, student: Signals, teachers: Mapping[str, Signals], labels: Tensor | None, mixed: Mixed | None, counts: Counts
) -> tuple[Tensor, float | Tensor]:
    """The weighted sum of a term over this forward pass, and the factor that makes it a part of the update's mean.

    Raises:
        LimbeckError: for a quantity of the batch, which has no value for each example.
    """
    if slot.needs.global_batch:
        what = "has targets that weigh examples" if slot.share is None else "is for one data set of several"
        if mixed is not None and slot.reads_labels:
            what = "reads labels, which mixed inputs have two of"
        raise LimbeckError(f"objective.{slot.term.label}: this loss compares the examples of a batch with each other and {what}.")
    total: Tensor | None = None
    mass: Tensor | None = None
    for number, (own, weight) in enumerate(_parts(slot, student, teachers, labels, mixed)):
        values = _values(slot, student, teachers, own, number)
        # Where nothing counts, the value may be anything.
        part = torch.where(weight > 0, values * weight, torch.zeros_like(values)).sum()
        total, mass = (part, weight.sum()) if total is None or mass is None else (total + part, mass + weight.sum())
    if total is None or mass is None:
        raise SignalMissing(f"objective.{slot.term.label}: this batch has no labels.")
    if not slot.weighs:
        count = counts.labelled if slot.needs.labels else counts.examples
        return total, 1 / (count.clamp_min(_LEAST) if isinstance(count, Tensor) else max(count, _LEAST))
    if slot.term.label in counts.kept:
        return total, 1 / counts.kept[slot.term.label].clamp_min(_LEAST)
    return total, size_of(student) / (mass.clamp_min(_LEAST) * counts.examples)


_LEAST = 1e-12


def mass_of(slot: Slot, known: Signals, teachers: Mapping[str, Signals], labels: Tensor | None, mixed: Mixed | None) -> Tensor:
    """The sum of the weights of a term over a forward pass; of one whose weights do not depend on the student.

    Args:
        slot: the term.
        known: what the data say of the examples beside inputs and labels, as `extra`.
        teachers: what they say.
        labels: ground truth.
        mixed: how the inputs were mixed.
    """
    return torch.stack([weight.sum() for _, weight in _parts(slot, known, teachers, labels, mixed)]).sum()


def _parts(
    slot: Slot, student: Signals, teachers: Mapping[str, Signals], labels: Tensor | None, mixed: Mixed | None
) -> Iterator[tuple[Tensor | None, Tensor]]:
    """Labels and weights, `(batch,)`, of the own parts and of the partners'."""
    parts: list[tuple[Tensor | None, Tensor | None]] = [(labels, None)]
    if mixed is not None and slot.reads_labels:
        parts = [(labels, mixed.share), (mixed.labels, 1 - mixed.share)]
    for number, (own, share) in enumerate(parts):
        factors = [] if share is None else [share]
        if slot.share is not None and own is not None:
            factors.append(rows_of(slot.share, own))
            own = labels_of(slot.share, own)  # noqa: PLW2901 - the same labels, as the losses know them
        if (weights := slot.weights(student, teachers, own, number)) is not None:
            factors.append(weights)
        if slot.needs.labels and own is not None:
            factors.append(_by_example(labelled(own).float()))
        if not factors:
            raise SignalMissing(f"objective.{slot.term.label}: this batch has no labels, which say what data set an example comes from.")
        yield own, reduce(torch.mul, factors)


def _values(slot: Slot, student: Signals, teachers: Mapping[str, Signals], labels: Tensor | None, number: int) -> Tensor:
    """One value an example, `(batch,)`; missing labels are zero for the loss, so that it can read them."""
    s, t = slot.route(student, teachers, labels, number)
    safe = labels
    if slot.needs.labels and labels is not None:
        known = labelled(labels)
        known = known if known.ndim == labels.ndim else known.unflatten(0, (-1, *[1] * (labels.ndim - 1)))
        safe = torch.where(known, labels, torch.zeros_like(labels))
    values = slot.value(s, t, safe)
    if values.ndim == 0:
        raise LimbeckError(
            f"objective.{slot.term.label}: this loss has one value for the whole batch, and the examples of this one do not count alike. "
            "Choose a loss with a value for each example, or leave out data.mix, `only` and the targets that weigh examples."
        )
    return _by_example(values)


def _by_example(values: Tensor) -> Tensor:
    return values.flatten(1).mean(1) if values.ndim > 1 else values


def size_of(signals: Signals) -> int:
    """Examples of a forward pass.

    Raises:
        SignalMissing: where the model gave nothing.
    """
    for value in (signals.logits, *signals.features.values()):
        if value is not None:
            return value.shape[0]
    raise SignalMissing("the student gave neither logits nor features.")
