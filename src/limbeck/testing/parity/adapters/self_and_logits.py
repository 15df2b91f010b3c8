"""Further losses on logits, and losses without a teacher."""

from __future__ import annotations

import torch
from torch import Tensor

from ....losses.cross_entropy import CrossEntropy
from ....losses.ctkd import CTKD
from ....losses.dho import fuse, search_fusion, second_head_loss
from ....losses.kd import KD
from ....losses.mlkd import three_levels, unsure_shares
from ....losses.ofa import explicit_cross_entropy
from ....losses.ps_kd import refined_cross_entropy, refined_targets
from ....losses.sinkd import SinKD, prediction_costs
from ....losses.skd import SKD, direction_gap, instance_gap
from ....losses.uskd import USKD
from ....losses.wa_kd import WAKD
from ....ops.sinkhorn import transport_plan
from ....targets.logit_standardization import LogitStandardization
from ....types import Signals
from ..case import Case, adapter


@adapter("mlkd", "logit_std_mlkd")
def mlkd(case: Case) -> dict[str, Tensor]:
    """The authors' sum over a weak and a strong view: of the strong one they count three temperatures of the instance level only."""
    weak, strong = ((Signals(case[f"student_logits_{view}"]), Signals(case[f"teacher_logits_{view}"])) for view in ("weak", "strong"))
    of_examples, of_classes = unsure_shares(weak[1].logits)
    standardize = LogitStandardization(variant="official") if case.method == "logit_std_mlkd" else None

    def levels(view: tuple[Signals, Signals], temperatures: list[float]) -> Tensor:
        raw = [three_levels(view[0].logits, view[1].logits, temperature=t) for t in temperatures]
        if standardize is None:
            return torch.stack([torch.stack(item) for item in raw]).sum(0)
        student, teacher = standardize(*view)
        soft = [three_levels(student.logits, teacher.logits, temperature=t)[0] for t in temperatures]
        return torch.stack([torch.stack([first, *rest]) for first, (_, *rest) in zip(soft, raw, strict=True)]).sum(0)

    first = [case.hp["temperature"], 3.0, 5.0]
    instance, batch, classes = levels(weak, [*first, 2.0, 6.0])
    instance = of_examples * instance + levels(strong, first)[0] + levels(weak, [2.0, 6.0])[0]
    hard = torch.stack([CrossEntropy()(*view, case.labels).mean() for view in (weak, strong)]).sum()
    kd, outputs = case.hp["kd_weight"], {"loss_ce": case.hp["ce_weight"] * hard}
    outputs |= {"loss_kd": kd * instance, "loss_cc": kd * of_classes * classes, "loss_bc": kd * of_examples * batch}
    return {"loss": torch.stack(list(outputs.values())).sum(), **outputs}


@adapter("ctkd")
def ctkd(case: Case) -> dict[str, Tensor]:
    """The authors' lambda is what the gradient is multiplied by: negative where ours is positive."""
    ends = {"temperature": case.hp["t_start"], "temperature_range": case.hp["t_end"]}
    loss = CTKD(**ends, reversal=-case.hp["lambda"], variant="official")
    loss.setup(case.student, case.teacher)
    case.load(loss, {"theta": "param_global_temperature"})
    return {"loss": loss(case.student, case.teacher).mean(), "temperature": loss.current()}


@adapter("sinkd_sinkhorn")
def sinkd_sinkhorn(case: Case) -> dict[str, Tensor]:
    """The temperature that the authors' class is given it does not use."""
    loss = SinKD(variant="official")
    costs = prediction_costs(case["student_logits"], case["teacher_logits"], temperature=loss.temperature, chunk=loss.chunk)
    return {"loss": loss(case.student, case.teacher), "plan": transport_plan(costs, epsilon=loss.epsilon, rounds=loss.rounds)}


@adapter("ofa", "ofa__loss")
def ofa(case: Case) -> Tensor:
    """The authors' loss of one pair of logits."""
    power, temperature = case.hp["eps"], case.hp["temperature"]
    logits = case["student_logits"], case["teacher_logits"]
    return explicit_cross_entropy(*logits, case["labels"], temperature=temperature, epsilon=power).mean()


@adapter("ofa__total")
def ofa_total(case: Case) -> dict[str, Tensor]:
    """With cross-entropy; the exits' logits are given. Exits without a power of their own are left out, and the last power counts twice."""

    def term(logits: Tensor, power: float) -> Tensor:
        given = logits, case["teacher_logits"], case["labels"]
        return explicit_cross_entropy(*given, temperature=case.hp["temperature"], epsilon=power).mean()

    powers = case.hp["stage_eps"]
    exits = [term(logits, power) for logits, power in zip(case.series("student_exit_logits"), powers, strict=False)]
    outputs = {
        "loss_gt": case.hp["gt_loss_weight"] * CrossEntropy()(case.student, case.teacher, case.labels).mean(),
        "loss_kd": case.hp["kd_loss_weight"] * term(case["student_logits"], powers[-1]),
        "loss_ofa": case.hp["ofa_loss_weight"] * torch.stack(exits).sum(),
    }
    return {"loss": torch.stack(list(outputs.values())).sum(), **outputs}


@adapter("dho_loss")
def dho_loss(case: Case) -> dict[str, Tensor]:
    """Half the cross-entropy of the first head, and half the means of the second over labelled and over unlabelled examples."""
    hard = CrossEntropy()(Signals(case["student_logits_ce"]), Signals(), case.labels).mean()
    pairs = [(case["student_logits_kd" + kind], case["teacher_logits" + kind]) for kind in ("", "_unlabeled")]
    known, unknown = (second_head_loss(*pair, temperature=case.hp["temperature"]).mean() for pair in pairs)
    total = 0.5 * hard + 0.5 * (known + unknown)
    return {"loss": total, "loss_ce": hard, "loss_kd_labeled": known, "loss_kd_unlabeled": unknown}


@adapter("dho_fusion")
def dho_fusion(case: Case) -> dict[str, Tensor]:
    """The authors count in percent."""
    heads, labels = (case["logits_ce"], case["logits_kd"]), case["labels"]
    if case.hp["search"]:
        accuracy, alpha, beta = search_fusion(*heads, labels)
    else:
        alpha, beta = case.hp["alpha"], case.hp["beta"]
        accuracy = float((fuse(*heads, alpha=alpha, beta=beta).max(-1).indices == labels).double().mean())
    return {name: torch.tensor(value) for name, value in (("accuracy", 100 * accuracy), ("alpha", alpha), ("beta", beta))}


@adapter("uskd", "uskd_mixed_labels")
def uskd(case: Case) -> Tensor:
    """The authors' loss, with labels or with shares of two labels."""
    loss = USKD(alpha=case.hp["alpha"], beta=case.hp["beta"], mu=case.hp["mu"], variant="official")
    loss.setup(case.student, Signals())
    case.load(loss, {"weak.weight": "param_fc_weight", "weak.bias": "param_fc_bias"})
    return loss(case.student, Signals(), case.labels)


@adapter("ps_kd")
def ps_kd(case: Case) -> dict[str, Tensor]:
    """What the student said one epoch ago is given; the share grows by a step after each epoch."""
    share = case.hp["alpha_T"] * (case.hp["epoch"] + 1) / case.hp["total_epochs"]
    targets = refined_targets(case["teacher_probs"], case["labels"], alpha=case["teacher_probs"].new_full((len(case["labels"]), 1), share))
    return {"loss": refined_cross_entropy(case["student_logits"], targets).mean(), "soft_targets": targets}


@adapter("skd")
def skd(case: Case) -> dict[str, Tensor]:
    """The authors' loss, with cross-entropy; both terms have the same weight."""
    pair, weight = (case["student_logits"], case["teacher_logits"]), case.hp["kd_weight"]
    outputs = {
        "loss_ce": case.hp["ce_weight"] * CrossEntropy()(case.student, case.teacher, case.labels).mean(),
        "loss_kd": weight * instance_gap(*pair, temperature=case.hp["temperature"], variant="official"),
        "loss_bc": weight * direction_gap(*pair, tikhonov=case.hp["tikhonov"], variant="official"),
    }
    return {"loss": torch.stack(list(outputs.values())).sum(), **outputs}


@adapter("skd_instance")
def skd_instance(case: Case) -> Tensor:
    """torchdistill's modes: `code` is our `zoo`."""
    variant = "paper" if case.hp["mode"] == "paper" else "zoo"
    return SKD(temperature=case.hp["temperature"], direction_weight=0.0, variant=variant)(case.student, case.teacher)


@adapter("skd_direction")
def skd_direction(case: Case) -> Tensor:
    """torchdistill's modes: of this term `code` is the authors' code."""
    variant = "paper" if case.hp["mode"] == "paper" else "zoo"
    return SKD(tikhonov=case.hp["tikhonov"], instance_weight=0.0, variant=variant)(case.student, case.teacher)


@adapter("mix_kd_loss")
def mix_kd_loss(case: Case) -> dict[str, Tensor]:
    """No loss of its own: its temperature is the deviation of the logits, so it is distillation of standardized logits."""
    student, teacher = LogitStandardization(epsilon=1e-30, variant="official")(case.student, case.teacher)
    hard = case.hp["gamma"] * refined_cross_entropy(student.logits, case["soft_targets"]).mean()
    soft = case.hp["alpha"] * KD(temperature=1.0)(student, teacher).mean()
    return {"loss": hard + soft, "loss_cls": hard, "loss_kd": soft}


@adapter("wa_kd")
def wa_kd(case: Case) -> dict[str, Tensor]:
    """Cross-entropy and distillation, weighted by the shares of new and of old classes."""
    share = case["teacher_logits"].shape[1] / case["student_logits"].shape[1]
    hard = CrossEntropy()(case.student, case.teacher, case.labels).mean()
    soft = WAKD(temperature=case.hp["temperature"])(case.student, case.teacher).mean()
    return {"loss": (1 - share) * hard + share * soft, "loss_ce": hard, "loss_kd": soft}
