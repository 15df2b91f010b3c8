"""Squared error of logits, as the paper and as the authors' code weigh it."""

from __future__ import annotations

import pytest
import torch

from limbeck.losses.panda import Panda
from limbeck.types import Signals

STUDENT = torch.tensor([[1.0, 2.0, 0.0], [0.0, -1.0, 3.0]], dtype=torch.float64)
TEACHER = torch.tensor([[0.0, 2.0, 2.0], [0.0, 2.0, 3.0]], dtype=torch.float64)


def value(**fields: object) -> torch.Tensor:
    return Panda(**fields)(Signals(logits=STUDENT), Signals(logits=TEACHER))  # pyright: ignore[reportArgumentType]


def test_by_hand():
    assert value().tolist() == pytest.approx([5 / 3, 3.0])
    assert value(beta=7.0).tolist() == pytest.approx([5 / 3, 3.0])


def test_official():
    """The sum of both means over the batch is 0.1 * beta * mean / examples."""
    assert value(variant="official").tolist() == pytest.approx([0.01 * 5 / 3 / 2, 0.01 * 3 / 2])
    found = value(variant="official", beta=0.5)
    assert found.mean().item() == pytest.approx(0.1 * 0.5 * (STUDENT - TEACHER).square().mean().item() / 2)


def test_a_weight_below_0_is_refused():
    with pytest.raises(ValueError, match=r"^Panda\.beta must be >= 0, got -0\.1$"):
        Panda(beta=-0.1)


def test_it_listens_to_a_teacher_and_needs_no_labels():
    needs = Panda().needs
    assert needs.teacher
    assert needs.logits
    assert not needs.labels
