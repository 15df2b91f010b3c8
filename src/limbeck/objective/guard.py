"""Keeps what a broken peer says away from those who listen to it."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from ..losses.base import Loss
from ..types import Head, Signals

LARGEST = 1e4
"""A value more than so many times 1 + the listener's own largest is taken for that of a peer that has diverged."""


class Guarded:
    """A loss on the signals of a model that learns in the same updates, and so may diverge.

    Where the other's value is not finite, or out of all proportion, the listener hears its own detached value instead (or, where the two
    differ in shape, a fixed one), and the example counts nothing: no value, no gradient. A loss that compares the examples with each other
    counts nothing where any of them is broken. Nothing is read from the device. Where the listener itself is broken, nothing is hidden.
    """

    def __init__(self, loss: Loss) -> None:
        self.loss = loss

    def __call__(self, student: Signals, teacher: Signals, labels: Tensor | None) -> Tensor:
        """The loss's own values, 0 where the other is broken."""
        sane: list[Tensor] = []
        heard = _healed(student, teacher, sane)
        values = self.loss(student, heard, labels)
        if not sane:
            return values
        whole = torch.stack(sane).all(0)
        kept = whole.all() if values.ndim == 0 else whole.view(-1, *[1] * (values.ndim - 1))
        return torch.where(kept, values, torch.zeros_like(values))


def _healed(student: Signals, teacher: Signals, sane: list[Tensor]) -> Signals:
    """The teacher's signals without what is broken; which examples are whole is added to `sane`, `(batch,)` a signal."""
    healed = replace(teacher, features=dict(teacher.features))
    if teacher.logits is not None:
        healed.logits = _heal(student.logits, teacher.logits, sane)
    own = list(student.features.values())
    for position, (name, value) in enumerate(teacher.features.items()):
        mine = own[position] if position < len(own) else None
        healed.features = {**healed.features, name: _heal(mine, value, sane)}
    if teacher.head is not None:
        bias = teacher.head.bias
        healed.head = Head(_plain(teacher.head.weight), None if bias is None else _plain(bias))
    if teacher.views:
        mine = student.views or (Signals(),) * len(teacher.views)
        healed.views = tuple(_healed(s, t, sane) for s, t in zip(mine, teacher.views, strict=True))
    return healed


def _heal(mine: Tensor | None, theirs: Tensor, sane: list[Tensor]) -> Tensor:
    if not theirs.is_floating_point():
        return theirs
    largest = theirs.flatten(1).abs().amax(1)
    if mine is None:
        whole = largest.isfinite()
    else:
        own = mine.detach().abs().amax()
        # A listener that is broken itself must show it: then everything counts as whole.
        whole = (largest <= LARGEST * (1 + own)) | ~own.isfinite()
    sane.append(whole)
    if mine is not None and mine.shape == theirs.shape:
        other = mine.detach().to(theirs.dtype)
    else:  # not constant, so that no norm or spread of it is zero
        other = torch.linspace(-1, 1, theirs[0].numel(), dtype=theirs.dtype, device=theirs.device).view(1, *theirs.shape[1:])
    return torch.where(whole.view(-1, *[1] * (theirs.ndim - 1)), theirs, other)


def _plain(value: Tensor) -> Tensor:
    return value.nan_to_num(0.0, 0.0, 0.0)
