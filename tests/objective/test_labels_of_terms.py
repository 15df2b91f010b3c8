"""Labels of terms."""

from __future__ import annotations

import math

import pytest
import torch

from limbeck.losses.cross_entropy import CrossEntropy
from limbeck.objective import Counts, Objective, Term
from limbeck.types import Signals


@pytest.mark.parametrize("label", ["values", "keys", "items", "type", "training", "forward"])
def test_any_word_is_a_label(label):
    objective = Objective([Term(label, CrossEntropy())])
    student = Signals(torch.zeros(2, 3))
    objective.setup(student, {})
    total, _ = objective(student, {}, torch.tensor([0, 1]), Counts(2.0, 2.0))
    assert total.item() == pytest.approx(math.log(3))
    assert list(objective.weights) == [label]
