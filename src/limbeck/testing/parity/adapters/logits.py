"""Losses on logits."""

from __future__ import annotations

from torch import Tensor

from ....losses.cross_entropy import CrossEntropy
from ....losses.dist import DIST
from ....losses.dist_plus import DISTPlus
from ....losses.dkd import explicit_decoupled_kl
from ....losses.kd import KD
from ....losses.nkd import NKD
from ....losses.ttm import TTM
from ....losses.wsld import WSLD
from ....losses.wttm import WTTM
from ....targets.logit_standardization import LogitStandardization
from ....types import Signals
from ..case import Case, adapter


@adapter("kd")
def kd(case: Case) -> Tensor:
    """mdistiller's `kd_loss`: the batch mean, with the factor T^2."""
    return KD(temperature=case.hp["temperature"])(case.student, case.teacher).mean()


@adapter("kd_ce")
def kd_ce(case: Case) -> Tensor:
    """torchdistill's `KDLoss`: with alpha 0 it leaves out T^2 and beta as well as the labels."""
    temperature, alpha = case.hp["temperature"], case.hp["alpha"]
    beta = 1 - alpha if case.hp["beta"] is None else case.hp["beta"]
    total = KD(temperature=temperature)(case.student, case.teacher)
    if alpha and case.labels is not None:
        total = alpha * CrossEntropy()(case.student, case.teacher, case.labels) + beta * total
    else:
        total = total / temperature**2
    return total.sum() if case.hp["reduction"] == "sum" else total.mean()


@adapter("kd_oct")
def kd_oct(case: Case) -> dict[str, Tensor]:
    """KD-OCT's `DistillationLoss`: alpha weighs the teacher, beta the labels."""
    soft = KD(temperature=case.hp["temperature"])(case.student, case.teacher).mean()
    hard = CrossEntropy()(case.student, case.teacher, case.labels).mean()
    return {"loss": case.hp["beta"] * hard + case.hp["alpha"] * soft, "loss_soft": soft, "loss_hard": hard}


@adapter("logit_std")
def logit_std(case: Case) -> Tensor:
    """Their `kd_loss` with `logit_stand`."""
    return KD(temperature=case.hp["temperature"])(*_standardized(case)).mean()


@adapter("dkd")
def dkd(case: Case) -> Tensor:
    """mdistiller's `dkd_loss`, infinite where it is."""
    return _dkd(case, case.student, case.teacher)


@adapter("logit_std_dkd")
def logit_std_dkd(case: Case) -> Tensor:
    """Their `dkd_loss` with `logit_stand`."""
    return _dkd(case, *_standardized(case))


@adapter("nkd", "nkd_clskd")
def nkd(case: Case) -> Tensor:
    """The authors' `NKDLoss`."""
    loss = NKD(temperature=case.hp["temperature"], gamma=case.hp["gamma"])
    return loss(case.student, case.teacher, case.labels).mean()


@adapter("wsld")
def wsld(case: Case) -> Tensor:
    """mmrazor's `WSLD`."""
    return case.hp["loss_weight"] * _wsld(case)


@adapter("wsld_cls_kd")
def wsld_cls_kd(case: Case) -> Tensor:
    """cls_KD's `WSLDLoss`."""
    return case.hp["alpha"] * _wsld(case)


@adapter("ttm")
def ttm(case: Case) -> Tensor:
    """The authors' `TTM`."""
    return TTM(gamma=case.hp["gamma"], variant="official")(case.student, case.teacher).mean()


@adapter("wttm")
def wttm(case: Case) -> Tensor:
    """The authors' `WTTM`."""
    return WTTM(gamma=case.hp["gamma"], variant="official")(case.student, case.teacher).mean()


def _wsld(case: Case) -> Tensor:
    return WSLD(temperature=case.hp["temperature"])(case.student, case.teacher, case.labels).mean()


@adapter("dist", "dist_seg")
def dist(case: Case) -> Tensor:
    """mmrazor's `DISTLoss`, and the authors' `DIST` for segmentation, which has no temperature."""
    loss = DIST(beta=case.hp["beta"], gamma=case.hp["gamma"], temperature=case.hp.get("temperature", 1.0), variant="official")
    return loss(case.student, case.teacher)


@adapter("dist_plus")
def dist_plus(case: Case) -> Tensor:
    """torchdistill's `DISTPlusLoss`."""
    return DISTPlus(**case.hp, variant="official")(case.student, case.teacher)


def _standardized(case: Case) -> tuple[Signals, Signals]:
    return LogitStandardization(variant="official")(case.student, case.teacher)


def _dkd(case: Case, student: Signals, teacher: Signals) -> Tensor:
    temperature = case.hp["temperature"]
    target, others = explicit_decoupled_kl(student.logits, teacher.logits, case["labels"], temperature=temperature, floor=0)
    return temperature**2 * (case.hp["alpha"] * target + case.hp["beta"] * others).mean()
