"""Losses on features: hints, attention, selectivity, flow, factors, boundaries, variational bounds, affinities."""

from __future__ import annotations

from torch import Tensor

from ....adapters.conv_regressor import ConvRegressor
from ....losses.at import AT
from ....losses.fsp import FSP
from ....losses.hint import Hint
from ....losses.nst import NST
from ....ops.maps import square_pool
from ....types import Signals
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


@adapter("fitnets")
def fitnets(case: Case) -> Tensor:
    """mdistiller's `FitNet`: a hint through its regressor."""
    student, teacher = case["student_features"], case["teacher_features"]
    regressor = ConvRegressor()
    regressor.setup(student, teacher)
    names = {
        f"{ours}.{kind}": f"param_{theirs}_{kind}" for ours, theirs in (("project", "conv"), ("norm", "bn")) for kind in ("weight", "bias")
    }
    case.load(regressor, names)
    mapped, target = regressor(student, teacher)
    return case.hp["weight"] * Hint()(Signals.of(mapped), Signals.of(target)).mean()


@adapter("nst")
def nst(case: Case) -> Tensor:
    """RepDistiller's `NSTLoss`, which pools the larger map."""
    return case.hp["weight"] * NST()(*_pooled(case)).mean()


@adapter("fsp")
def fsp(case: Case) -> Tensor:
    """RepDistiller's `FSP`."""
    return case.hp["weight"] * FSP(pairing="chain", pooling="average", variant="zoo")(case.student, case.teacher).mean()


@adapter("fsp_torchdistill")
def fsp_torchdistill(case: Case) -> Tensor:
    """torchdistill's `FSPLoss`."""
    return case.hp["weight"] * FSP(variant="torchdistill")(case.student, case.teacher).mean()


def _pooled(case: Case) -> tuple[Signals, Signals]:
    """The features, of each pair the larger pooled to the height of the smaller."""
    pairs = [square_pool(*pair) for pair in zip(case.series("student_features"), case.series("teacher_features"), strict=True)]
    return Signals.of(*(s for s, _ in pairs)), Signals.of(*(t for _, t in pairs))
