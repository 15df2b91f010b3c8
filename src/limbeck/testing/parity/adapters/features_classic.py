"""Losses on features: hints, attention, selectivity, flow, factors, boundaries, variational bounds, affinities."""

from __future__ import annotations

from torch import Tensor

from ....losses.at import AT
from ....losses.hint import Hint
from ..case import Case, adapter


@adapter("hint")
def hint(case: Case) -> Tensor:
    """RepDistiller's `HintLoss`: the mean over all elements."""
    return case.hp["weight"] * Hint()(case.student, case.teacher).mean()


@adapter("at")
def at(case: Case) -> Tensor:
    """The authors' code."""
    return case.hp["beta"] * AT(variant="official")(case.student, case.teacher).mean()


@adapter("at_paper")
def at_paper(case: Case) -> Tensor:
    """torchdistill's `ATLoss` with `mode: paper`."""
    return case.hp["weight"] * AT()(case.student, case.teacher).mean()


@adapter("at_zoo")
def at_zoo(case: Case) -> Tensor:
    """mdistiller's `at_loss`."""
    return AT(power=case.hp["p"], variant="zoo")(case.student, case.teacher).mean()
