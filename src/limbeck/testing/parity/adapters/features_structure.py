"""Losses on features: correlations, norms and directions, frequencies, relations between layers."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from ....adapters.conv1x1 import Conv1x1
from ....losses._attention_projector import AttentionProjector, tokens_as_map
from ....losses.ickd import ICKD
from ....losses.nd_loss import norm_direction
from ....losses.scalekd import detail_gap, spatial_gap
from ....losses.skt_cosine import SKTCosine
from ....losses.skt_dense_fsp import layer_relations
from ....losses.soft_cross_entropy import softened_cross_entropy
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


@adapter("nd_loss")
def nd_loss(case: Case) -> Tensor:
    """The class means are given; the batch mean, with the authors' factor."""
    labels, means = case["labels"], case["class_means"]
    return case.hp["nd_loss_factor"] * norm_direction(case["student_features"], case["teacher_features"], labels, means=means).mean()


@adapter("skt_cosine")
def skt_cosine(case: Case) -> Tensor:
    """The sum over the batch; the student's maps have the teacher's channels."""
    return case.hp["lambda_cos"] * SKTCosine()(case.student, case.teacher).sum()


@adapter("skt_dense_fsp")
def skt_dense_fsp(case: Case) -> dict[str, Tensor]:
    """The relations of the first image only."""
    ours, theirs = (layer_relations([x[:1] for x in case.series(f"{who}_features")]) for who in ("student", "teacher"))
    gaps = [(s - t).square().sum() for s, t in zip(ours, theirs, strict=True)]
    return {"loss": case.hp["lambda_fsp"] * sum(gaps[1:], gaps[0]), "gram_student_0": ours[0][0], "gram_student_last": ours[-1][0]}


@adapter("scalekd")
def scalekd(case: Case) -> dict[str, Tensor]:
    """On projected features, with the authors' losses on labels and logits (a cross-entropy with the teacher's probabilities)."""
    whole, details = case.series("student_features")
    teacher, share, temperature = case["teacher_features"], case.hp["kd_alpha"], case.hp["temperature"]
    first, second = case.hp["alpha"]
    spatial = first * spatial_gap(tokens_as_map(whole, teacher), teacher).mean()
    frequency = second * detail_gap(tokens_as_map(details, teacher), teacher).mean()
    logits, target = case["student_logits"], case["teacher_logits"]
    soft = softened_cross_entropy(logits, target, temperature=temperature).mean()
    total = (1 - share) * F.cross_entropy(logits, case["labels"]) + share * temperature**2 * soft + spatial + frequency
    return {"loss": total, "spatial_loss": spatial, "frequency_loss": frequency, "kd_loss": share * temperature**2 * soft}


@adapter("scalekd__projector")
def scalekd_projector(case: Case) -> dict[str, Tensor]:
    """The loss is the sum of the projected features times given numbers; theirs were computed in float64."""
    student, query = case["student_features"], case["external_query"]
    like = student.new_empty(1, query.shape[2], query.shape[1], 1)
    projector = AttentionProjector(student, like, heads=case.hp["num_heads"], softmax_scale=case.hp["softmax_scale"])
    ours = "place query enter.* norm_in.* ask.* to_query.* to_key.* to_value.* leave.* norm_out.* widen.* narrow.*"
    theirs = "pos_embed query conv_* bn_* proj_pos_* q_* k_* v_* proj_* norm_* ffn1_* ffn2_*"
    for path, name in zip(ours.split(), theirs.split(), strict=True):
        for kind in ("weight", "bias") if "*" in path else ("",):
            case.load(projector, {path.replace("*", kind): f"param_{name.replace('*', kind)}"})
    projected = projector.double()(student.double(), None if case.hp["self_query"] else query.double())
    return {"loss": (projected * case["probe"]).sum(), "projected": projected}
