"""Losses on features with connectors that learn, losses of dense maps and of transformers."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ....adapters.linear import Linear
from ....losses.cosine import cosine_distance
from ....losses.cwd import channel_divergence
from ....losses.dmae import direction_gap
from ....losses.haste import attention_cross_entropy
from ....losses.hcl import HCL
from ....losses.kd import KD
from ....losses.mgd import MGD
from ....losses.mse import squared_error
from ....losses.pad import adaptive_gap
from ....losses.pkd import PKD
from ....losses.reviewkd import ReviewKD
from ....losses.srd import SRD, log_sum_gap
from ....losses.token_relation import TokenRelation
from ....losses.transkd import TransKD
from ....ops.flow import flow_pair
from ....ops.patches import patch_error
from ....types import Signals
from ..case import Case, adapter


@adapter("hcl")
def hcl(case: Case) -> Tensor:
    """mdistiller's `hcl_loss`, the batch mean."""
    return case.hp["weight"] * HCL()(case.student, case.teacher).mean()


@adapter("reviewkd")
def reviewkd(case: Case) -> Tensor:
    """mdistiller's ABF chain; the shapes among its arguments are those of the maps."""
    loss = ReviewKD()
    loss.setup(case.student, case.teacher)
    for i, stage in enumerate(loss.review.stages):
        names = {"enter.0": "conv1", "enter.1": "bn1", "leave.0": "conv2", "leave.1": "bn2", "fusion.attention": "att"}
        _load(case, stage, names, f"param_abf{i}_")
    return case.hp["weight"] * loss(case.student, case.teacher).mean()


@adapter("srd")
def srd(case: Case) -> Tensor:
    """torchdistill's `SRDLoss`: features come projected and normalised, and the divergence of the logits is not scaled by T^2."""
    value = 2 * log_sum_gap(case["student_features"], case["teacher_features"], alpha=case.hp["exponent"])
    return value + _divergence(case, case.hp["temperature"])


@adapter("srd_projector")
def srd_projector(case: Case) -> Tensor:
    """The authors' class for ImageNet, which adds the divergence of the logits."""
    loss = SRD(alpha=case.hp["exponent"], variant="official")
    loss.setup(case.student, case.teacher)
    _load(case, loss, {"project": "embed"}, "param_")
    return loss(case.student, case.teacher) + _divergence(case, 1.0)


def _divergence(case: Case, temperature: float) -> Tensor:
    return KD(temperature=temperature)(case.student, case.teacher).mean() / temperature**2


@adapter("pad")
def pad(case: Case) -> Tensor:
    """torchdistill's `PADL2Loss`: mean over the dimensions, then mean or sum over the batch."""
    value = adaptive_gap(case["student_features"], case["teacher_features"], case["log_variance"], epsilon=case.hp["eps"])
    value = value.flatten(1).mean(1)
    return value.sum() if case.hp["reduction"] == "sum" else value.mean()


@adapter("pkd")
def pkd(case: Case) -> Tensor:
    """mmrazor's `PKDLoss`, which brings maps of unlike height to one size."""
    ours, theirs = case.series("student_features"), case.series("teacher_features")
    if case.hp["resize_stu"]:
        ours = [_resized(s, t) for s, t in zip(ours, theirs, strict=True)]
    else:
        theirs = [_resized(t, s) for s, t in zip(ours, theirs, strict=True)]
    return case.hp["loss_weight"] * PKD(variant="official")(Signals.of(*ours), Signals.of(*theirs))


def _resized(x: Tensor, like: Tensor) -> Tensor:
    return x if x.shape[2] == like.shape[2] else F.interpolate(x, like.shape[2:], mode="bilinear", align_corners=False)


@adapter("haste")
def haste(case: Case) -> dict[str, Tensor]:
    """The authors' `SILoss` with the weights of their training: velocity, projected tokens and attention."""
    hp, output = case.hp, case["student_logits"]
    point, velocity = flow_pair(case["images"], case["noise"], case["timesteps"], path=hp["path_type"])
    denoising = squared_error(output, velocity).mean()
    projection = attention = denoising.new_zeros(())
    if not hp["denoise_only"]:
        projection = cosine_distance(case["student_features"], case["teacher_features"]).mean() - 1
        maps = zip(case.series("student_attention"), case.series("teacher_attention"), strict=True)
        attention = torch.stack([attention_cross_entropy(s, t, stable=False).mean() for s, t in maps]).mean()
    total = denoising + hp["proj_coeff"] * projection + hp["attn_coeff"] * attention
    return {
        "loss": total,
        "denoising_loss": denoising,
        "projection_loss": projection,
        "attention_loss": attention,
        "model_input": point,
    }


@adapter("dmae")
def dmae(case: Case) -> dict[str, Tensor]:
    """The authors' pixel loss over the masked patches, and their distillation of blocks through linear heads."""
    error = patch_error(case["reconstruction"], case["images"], size=case.hp["patch_size"], normalise=case.hp["norm_pix_loss"])
    reconstruction = (error * case["mask"]).sum() / case["mask"].sum()
    distill = reconstruction.new_zeros(())
    for i, (student, teacher) in enumerate(zip(case.series("student_features"), case.series("teacher_features"), strict=True)):
        adapter = Linear()
        adapter.setup(student, teacher)
        _load(case, adapter, {"project": f"head_{i}"}, "param_")
        distill = distill + direction_gap(*adapter(student, teacher), distance=case.hp["criterion"].lower()).mean()
    return {"loss": reconstruction + distill, "loss_reconstruction": reconstruction, "loss_distill": distill}


@adapter("llava_kd_relation")
def llava_kd_relation(case: Case) -> Tensor:
    """The paper's relation term on visual tokens, the batch mean."""
    return TokenRelation(normalise=case.hp["normalize_tokens"])(case.student, case.teacher).mean()


@adapter("mgd")
def mgd(case: Case) -> Tensor:
    """mmrazor's connector and loss, the mask given."""
    loss = MGD()
    loss.setup(case.student, case.teacher)
    if "param_align_weight" in case.inputs:  # there even where the channels agree
        after, before = case["param_align_weight"].shape[:2]
        loss.align = nn.Conv2d(before, after, 1)
    _load(case, loss, {"align": "align", "generation.0": "generation_0", "generation.2": "generation_2"}, "param_")
    error = squared_error(loss.generate(case.student.feature, case["mask"]), case.teacher.feature)
    return case.hp["alpha_mgd"] * error.sum() / len(error)


@adapter("cwd")
def cwd(case: Case) -> Tensor:
    """The authors' `CriterionCWD`; its comparison of means over the positions has a square error of vectors."""
    student, teacher, hp = case["student_logits"], case["teacher_logits"], case.hp
    if hp["norm"] == "channel_mean":
        heat = hp["temperature"] if hp["divergence"] == "kl" else 1.0
        ours, theirs = (student / heat).mean((2, 3)), (teacher / heat).mean((2, 3))
        error = F.kl_div(ours.log(), theirs, reduction="none") if hp["divergence"] == "kl" else squared_error(ours, theirs)
        return heat**2 * error.mean()
    options = {name: hp[name] for name in ("norm", "divergence", "temperature")}
    return channel_divergence(student, teacher, **options, stable=False).mean()


@adapter("transkd")
def transkd(case: Case) -> dict[str, Tensor]:
    """The authors' selective fusion, compared by `hcl`, and squared errors of projected patch embeddings."""
    width = case["param_sk0_conv1_weight"].shape[0]
    loss = TransKD(width=width, variant="official")
    loss.setup(case.student, case.teacher)
    fusion = {"squeeze.0": "fc", "squeeze.1": "fc_bn", "single": "fc1", "branches.0": "branch0", "branches.1": "branch1"}
    names = {"enter.0": "conv1", "enter.1": "bn1", "leave.0": "conv2", "leave.1": "bn2", **{f"fusion.{k}": v for k, v in fusion.items()}}
    for i, stage in enumerate(loss.review.stages):
        _load(case, stage, names, f"param_sk{i}_")
    feature = case.hp["feature_weight"] * loss(case.student, case.teacher).mean()
    embedding = feature.new_zeros(())
    tokens = zip(case.series("student_embeddings"), case.series("teacher_embeddings"), case.hp["embed_weights"], strict=True)
    for i, (student, teacher, weight) in enumerate(tokens):
        project = Linear()
        project.setup(student, teacher)
        _load(case, project, {"project": f"embed{i}"}, "param_")
        embedding = embedding + weight * squared_error(*project(student, teacher)).mean()
    return {"loss": feature + embedding, "loss_feature": feature, "loss_embedding": embedding}


def _load(case: Case, module: nn.Module, names: Mapping[str, str], prefix: str) -> None:
    """Gives the layers of `module` (path to name) the inputs `PREFIXname_weight` and `PREFIXname_bias`, where there are such."""
    found = {f"{path}.{kind}": f"{prefix}{name}_{kind}" for path, name in names.items() for kind in ("weight", "bias")}
    case.load(module, {path: name for path, name in found.items() if name in case.inputs})
