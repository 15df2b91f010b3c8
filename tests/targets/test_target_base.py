"""What every target transform is unless it says otherwise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import pytest
import torch
from torch import Tensor

from limbeck.errors import LimbeckError
from limbeck.targets.base import Target
from limbeck.types import Signals


@final
@dataclass(eq=False, repr=False, kw_only=True)
class Same(Target):
    """Changes nothing."""

    def forward(self, student: Signals, teacher: Signals, labels: Tensor | None = None) -> tuple[Signals, Signals]:
        return student, teacher


def test_it_reads_and_weighs_nothing():
    target = Same()
    assert (target.reads_labels, target.weighs, target.watches_student) == (False, False, False)
    assert target.extra == ()


def test_one_that_says_it_weighs_must_do_so():
    signals = Signals(torch.zeros(2, 3))
    with pytest.raises(LimbeckError, match=r"^Same says that it weighs examples and has no method `weights`\.$"):
        Same().weights(signals, signals, None)
