"""Losses on features with connectors that learn, losses of dense maps and of transformers."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from ....losses.hcl import HCL
from ....losses.kd import KD
from ....losses.pad import adaptive_gap
from ....losses.reviewkd import ReviewKD
from ....losses.srd import SRD, log_sum_gap
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


def _load(case: Case, module: nn.Module, names: Mapping[str, str], prefix: str) -> None:
    """Gives the layers of `module` (path to name) the inputs `PREFIXname_weight` and `PREFIXname_bias`, where there are such."""
    found = {f"{path}.{kind}": f"{prefix}{name}_{kind}" for path, name in names.items() for kind in ("weight", "bias")}
    case.load(module, {path: name for path, name in found.items() if name in case.inputs})
