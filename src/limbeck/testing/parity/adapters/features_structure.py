"""Losses on features: correlations, norms and directions, frequencies, relations between layers."""

from __future__ import annotations

from torch import Tensor

from ....adapters.conv1x1 import Conv1x1
from ....losses.ickd import ICKD
from ....types import Signals
from ..case import Case, adapter


@adapter("ickd")
def ickd(case: Case) -> Tensor:
    """The authors' code for CIFAR: 1x1 convolution without offset and batch norm, then the batch mean."""
    student, teacher = case["student_features"], case["teacher_features"]
    regressor = Conv1x1(bias=False, batch_norm=True)
    regressor.setup(student, teacher)
    case.load(regressor, {"project.weight": "param_conv_weight", "norm.weight": "param_bn_weight", "norm.bias": "param_bn_bias"})
    mapped = regressor.norm(regressor.project(student))
    return case.hp["weight"] * ICKD(variant="official")(Signals.of(mapped), Signals.of(teacher)).mean()


@adapter("ickd_chsim")
def ickd_chsim(case: Case) -> Tensor:
    """torchdistill's `ChSimLoss` divides by the batch twice."""
    value = ICKD(variant="official")(case.student, case.teacher)
    return case.hp["weight"] * value.mean() / len(value)
