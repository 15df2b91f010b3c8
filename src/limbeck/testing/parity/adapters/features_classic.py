"""Losses on features: hints, attention, selectivity, flow, factors, boundaries, variational bounds, affinities."""

from __future__ import annotations

from torch import Tensor

from ....adapters.conv_regressor import ConvRegressor
from ....losses._factors import factor_gap
from ....losses.ab import AB
from ....losses.affinity import Affinity
from ....losses.at import AT
from ....losses.fsp import FSP
from ....losses.ft import FT, attended_gap
from ....losses.hint import Hint
from ....losses.nst import NST
from ....losses.ofd import OFD, margin_of_normal, partial_distance
from ....losses.vid import VID
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


@adapter("ft")
def ft(case: Case) -> Tensor:
    """torchdistill's `FTLoss` on factors."""
    return _factors(case, case["student_factors"], case["teacher_factors"], q=2)


@adapter("ft_zoo")
def ft_zoo(case: Case) -> Tensor:
    """RepDistiller's `FactorTransfer`."""
    gap = attended_gap(case["student_factors"], case["teacher_factors"], power=case.hp["p1"], norm=case.hp["p2"])
    return case.hp["weight"] * gap.mean()


@adapter("ft_connectors")
def ft_connectors(case: Case) -> Tensor:
    """mmrazor's connectors and `FTLoss`, with a paraphraser that does not learn."""
    factors, channels = case["param_translator_encoder_6_weight"].shape[0], case["teacher_features"].shape[1]
    loss = FT(rate=factors / channels, reconstruction=0, variant="official")
    loss.setup(case.student, case.teacher)
    names = {f"translator.{i}": f"param_translator_encoder_{i}" for i in (0, 1, 3, 4, 6, 7)}
    names |= {f"paraphraser.encoder.{2 * i}": f"param_paraphraser_encoder_{3 * i}" for i in range(3)}
    case.load(loss, {f"{ours}.{kind}": f"{theirs}_{kind}" for ours, theirs in names.items() for kind in ("weight", "bias")})
    return case.hp["loss_weight"] * loss(case.student, case.teacher).mean()


@adapter("kta")
def kta(case: Case) -> Tensor:
    """torchdistill's `KTALoss` on features that are already adapted."""
    return _factors(case, case["student_features"], case["teacher_features"], q=case.hp["q"])


@adapter("ab")
def ab(case: Case) -> Tensor:
    """RepDistiller's `ABLoss`."""
    return AB(margin=case.hp["margin"], variant="zoo")(case.student, case.teacher).mean()


@adapter("ab_torchdistill")
def ab_torchdistill(case: Case) -> Tensor:
    """torchdistill's `AltActTransferLoss`."""
    return _reduced(case, AB(margin=case.hp["margin"])(case.student, case.teacher))


@adapter("affinity")
def affinity(case: Case) -> Tensor:
    """torchdistill's `AffinityLoss`."""
    return _reduced(case, Affinity(variant="torchdistill")(case.student, case.teacher))


@adapter("ofd")
def ofd(case: Case) -> dict[str, Tensor]:
    """The authors' code, which knows the teacher's batch norms."""
    loss, outputs, total = OFD(), {}, 0.0
    loss.setup(case.student, case.teacher)
    layers = list(zip(loss.connectors, case.series("student_features"), case.series("teacher_features"), strict=True))
    for i, (connector, student, teacher) in enumerate(layers):
        names = {"0.weight": f"param_conv_{i}_weight", "1.weight": f"param_bn_{i}_weight", "1.bias": f"param_bn_{i}_bias"}
        case.load(connector, names)
        outputs[f"margin_{i}"] = margin_of_normal(case[f"teacher_bn_bias_{i}"], case[f"teacher_bn_weight_{i}"].abs())
        gap = partial_distance(connector(student), teacher, outputs[f"margin_{i}"])
        total = total + gap.mean() / 2 ** (len(layers) - i - 1)
    return {"loss": total / case.hp["divisor"], **outputs}


@adapter("vid")
def vid(case: Case) -> Tensor:
    """RepDistiller's `VIDLoss`, which pools the larger map."""
    student, teacher = _pooled(case)
    hidden = case["param_regressor_0_weight"].shape[0] / teacher.feature.shape[1]
    loss = VID(hidden=hidden, epsilon=case.hp["eps"], variant="official")
    loss.setup(student, teacher)
    case.load(loss, {"log_scale": "param_log_scale", **{f"regressor.{i}.weight": f"param_regressor_{i}_weight" for i in (0, 2, 4)}})
    return loss(student, teacher).mean()


def _reduced(case: Case, values: Tensor) -> Tensor:
    return case.hp["weight"] * (values.mean() if case.hp["reduction"] == "mean" else values.sum())


def _factors(case: Case, student: Tensor, teacher: Tensor, *, q: float) -> Tensor:
    """torchdistill's reductions: with p = 1 its mean is over the elements, else over the examples."""
    p = case.hp["p"]
    gap = factor_gap(student, teacher, p=p, q=q)
    if case.hp["reduction"] != "mean":
        return gap.sum()
    return gap.mean() / (student[0].numel() if p == 1 else 1)


def _pooled(case: Case) -> tuple[Signals, Signals]:
    """The features, of each pair the larger pooled to the height of the smaller."""
    pairs = [square_pool(*pair) for pair in zip(case.series("student_features"), case.series("teacher_features"), strict=True)]
    return Signals.of(*(s for s, _ in pairs)), Signals.of(*(t for _, t in pairs))
