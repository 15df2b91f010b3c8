"""Texts of unlike lengths: what every loss on tokens must make of the padding."""

from __future__ import annotations

import torch

from limbeck.losses.base import Loss
from limbeck.types import PADDING, Signals

MASK = torch.tensor([[1, 1, 0, 0], [1, 1, 1, 1]])
"""Two texts, of two and of four tokens."""


def by_example(loss: Loss, student: torch.Tensor, teacher: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    value = loss(Signals(features={"a": student}, extra={} if mask is None else {PADDING: mask}), Signals.of(teacher))
    return value.flatten(1).mean(1) if value.ndim > 1 else value


def check_padding(loss: Loss, student: torch.Tensor, teacher: torch.Tensor) -> None:
    """A padded text, `(2, 4, channels)`, has the value that it has alone, and nothing at the padding is read or taught."""
    assert loss.needs.padding
    got = by_example(loss, student, teacher, MASK)
    torch.testing.assert_close(got[0], by_example(loss, student[:1, :2], teacher[:1, :2], None)[0])
    torch.testing.assert_close(got[1], by_example(loss, student[1:], teacher[1:], None)[0])
    student[0, 2:], teacher[0, 2:] = 1e4, -1e4
    traced = student.clone().requires_grad_()
    again = by_example(loss, traced, teacher, MASK)
    torch.testing.assert_close(again, got)
    again.sum().backward()
    assert traced.grad is not None
    assert not traced.grad[0, 2:].any()
    assert traced.grad.isfinite().all()
