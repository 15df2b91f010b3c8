"""Losses on relations between the examples of a batch, and bounds on mutual information."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ....losses.cc import congruence_gap
from ....losses.crd import CRD
from ....losses.cross_entropy import CrossEntropy
from ....losses.ickd import ICKD
from ....losses.kd import KD
from ....losses.neighbour_product import NeighbourProduct
from ....losses.pkt import PKT
from ....losses.rkd import RKD
from ....losses.sp import SP
from ....losses.sskd import rotation_term, similarity_terms
from ....ops.information import explicit_log_mean_exp_without, interpolated, tuba
from ....types import Signals
from ..case import Case, adapter


@adapter("rkd")
def rkd(case: Case) -> Tensor:
    """The authors' code."""
    return RKD(distance_weight=case.hp["distance_weight"], angle_weight=case.hp["angle_weight"])(case.student, case.teacher)


@adapter("rkd_l2norm")
def rkd_l2norm(case: Case) -> Tensor:
    """mmrazor's two losses with `with_l2_norm=True`."""
    weights = {name: case.hp[name] for name in ("distance_weight", "angle_weight")}
    return RKD(**weights, normalise=True)(case.student, case.teacher)


@adapter("sp")
def sp(case: Case) -> Tensor:
    """mdistiller's `sp_loss`, with its weight."""
    return case.hp["weight"] * SP()(case.student, case.teacher)


@adapter("sp_torchdistill")
def sp_torchdistill(case: Case) -> Tensor:
    """torchdistill's `SPKDLoss`; with the reduction `sum` it does not divide by the number of pairs."""
    value = case.hp["weight"] * SP(variant="torchdistill")(case.student, case.teacher)
    return value if case.hp["reduction"] == "batchmean" else value * len(case.student.feature) ** 2


@adapter("diswot__relation_loss")
def diswot_relation(case: Case) -> Tensor:
    """DisWOT's `Similarity.similarity_loss` is similarity preserving."""
    return SP()(case.student, case.teacher)


@adapter("diswot__channel_loss")
def diswot_channel(case: Case) -> Tensor:
    """DisWOT's `ICKDLoss.batch_loss` is inter-channel correlation without its convolution."""
    return ICKD(variant="official")(case.student, case.teacher).mean()


@adapter("pkt")
def pkt(case: Case) -> Tensor:
    """mdistiller's `pkt_loss`, which is the authors' code, with its weight."""
    return case.hp["weight"] * PKT(variant="official")(case.student, case.teacher)


@adapter("cckd")
def cckd(case: Case) -> Tensor:
    """torchdistill's `CCKDLoss`; with the reduction `sum` it does not divide by the number of pairs."""
    kernel, gamma, order = case.hp["kernel"], case.hp["gamma"], case.hp["max_p"]
    batch = len(case.student.feature)
    gap = congruence_gap(case.student.feature, case.teacher.feature, kernel=kernel, gamma=gamma, order=order, chunk=batch)
    return gap / batch**2 if case.hp["reduction"] == "batchmean" else gap


@adapter("cc")
def cc(case: Case) -> Tensor:
    """RepDistiller's `Correlation`, with its weight."""
    return case.hp["weight"] * NeighbourProduct()(case.student, case.teacher)


@adapter("crd")
def crd(case: Case) -> dict[str, Tensor]:
    """RepDistiller's `CRDLoss`; a constant below 0 is not yet set."""
    memories, constants = (case["memory_student"], case["memory_teacher"]), (case.hp["z_student"], case.hp["z_teacher"])
    loss = CRD(dim=memories[0].shape[1], temperature=case.hp["nce_t"], momentum=case.hp["nce_m"], variant="official")
    loss.allocate(len(memories[0]))
    loss.setup(case.student, case.teacher)
    names = {f"{who}_embedding.{part}": f"param_embed_{who[0]}_{part}" for who in ("student", "teacher") for part in ("weight", "bias")}
    case.load(loss, names)
    loss.student_memory.vectors, loss.teacher_memory.vectors = (memory.clone() for memory in memories)
    loss.log_normalisers = torch.tensor([math.log(z) if z >= 0 else math.inf for z in constants])
    value = loss.compare(case["student_features"], case["teacher_features"], case["contrast_indices"])
    after = {"memory_student": loss.student_memory.vectors, "memory_teacher": loss.teacher_memory.vectors}
    return {"loss": value, **after, **dict(zip(("z_student", "z_teacher"), loss.log_normalisers.exp(), strict=True))}


@adapter("sskd")
def sskd(case: Case) -> Tensor:
    """torchdistill's `SSKDLoss`: four views of each image follow each other, the first is the original."""
    hp, views = case.hp, {name: case[name].unflatten(0, (-1, 4)) for name in case.inputs if name != "labels"}
    ours, theirs = Signals(views["student_logits"][:, 0]), Signals(views["teacher_logits"][:, 0])
    similar, _ = similarity_terms(
        views["student_ss"], views["teacher_ss"], temperature=hp["ss_temp"], share=hp["ss_ratio"], chunk=len(case["student_ss"])
    )
    rotated = rotation_term(
        views["student_logits"], views["teacher_logits"], case["labels"], temperature=hp["tf_temp"], share=hp["tf_ratio"]
    )
    terms = [CrossEntropy()(ours, theirs, case["labels"]).mean(), KD(temperature=hp["kl_temp"])(ours, theirs).mean(), similar, rotated]
    return (torch.stack(terms) * torch.tensor(hp["loss_weights"])).sum()


@adapter("sskd_aux")
def sskd_aux(case: Case) -> Tensor:
    """torchdistill's `AuxSSKDLoss`, the stage before."""
    projected = case["features"].unflatten(0, (-1, 4))
    _, pretext = similarity_terms(projected, projected, temperature=1.0, share=1.0, chunk=len(case["features"]))
    return pretext.sum() if case.hp["reduction"] == "sum" else pretext.mean()


@adapter("distiller_mi_alpha")
def distiller_mi_alpha(case: Case) -> dict[str, Tensor]:
    """Distiller's `interpolated_lower_bound` of given scores."""
    others = explicit_log_mean_exp_without(case["scores"])
    return _bound(interpolated(case["scores"], case["log_baseline"], others, alpha=case.hp["alpha"]))


@adapter("distiller_tuba")
def distiller_tuba(case: Case) -> dict[str, Tensor]:
    """Distiller's `tuba_lower_bound`."""
    return _bound(tuba(case["scores"], case["log_baseline"]))


@adapter("distiller_nwj")
def distiller_nwj(case: Case) -> dict[str, Tensor]:
    """Distiller's `nwj_lower_bound`."""
    return _bound(tuba(case["scores"], 1.0))


def _bound(value: Tensor) -> dict[str, Tensor]:
    return {"loss": -value, "bound": value}
