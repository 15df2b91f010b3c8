"""Losses on features with connectors that learn, losses of dense maps and of transformers."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from ....losses.hcl import HCL
from ....losses.reviewkd import ReviewKD
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


def _load(case: Case, module: nn.Module, names: Mapping[str, str], prefix: str) -> None:
    """Gives the layers of `module` (path to name) the inputs `PREFIXname_weight` and `PREFIXname_bias`, where there are such."""
    found = {f"{path}.{kind}": f"{prefix}{name}_{kind}" for path, name in names.items() for kind in ("weight", "bias")}
    case.load(module, {path: name for path, name in found.items() if name in case.inputs})
