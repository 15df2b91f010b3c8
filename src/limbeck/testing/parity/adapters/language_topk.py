"""A teacher of whom the likeliest tokens are stored, and what else DistillKit and axolotl compare."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ....losses.kd import KD
from ....losses.mse import squared_error
from ....losses.ranking_kd import preferences
from ....ops.divergence import Divergence
from ....ops.geometry import cosines
from ....ops.reduce import token_mean
from ....ops.topk import tempered, topk_divergence
from ..case import Case, adapter

_KINDS: dict[str, Divergence] = {"kl": "forward", "jsd": "js", "tvd": "tv"}


@adapter("distillkit_kl", "distillkit_jsd", "distillkit_tvd")
def distillkit(case: Case) -> Tensor:
    """All of them times T^2, where ours of the total variation is times T."""
    kind, temperature = _KINDS[case.method.removeprefix("distillkit_")], case.hp["temperature"]
    values = KD(temperature=temperature, divergence=kind)(case.student, case.teacher)  # pyright: ignore[reportArgumentType]
    counted = case["mask"] if case.hp["use_mask"] else None
    return (temperature if kind == "tv" else 1) * token_mean(values, counted, divisor=case.hp["num_items_in_batch"])


@adapter("distillkit_kl_topk", "distillkit_jsd_topk", "distillkit_tvd_topk")
def distillkit_topk(case: Case) -> Tensor:
    """Their ZERO is our `teacher`, their SYMMETRIC_UNIFORM our `tail`."""
    hp, temperature = case.hp, case.hp["temperature"]
    tail = hp["missing"] != "ZERO"
    power = hp["target_generation_temperature"] / temperature
    log_p = tempered(case["teacher_topk_values"], power=power, tail=tail and hp["log_target"])
    values = topk_divergence(
        log_p,
        case["teacher_topk_ids"],
        case["student_logits"] / temperature,
        rest="tail" if tail else "teacher",
        kind=_KINDS[case.method.split("_")[1]],
        weight=0.5,
    )
    return temperature**2 * token_mean(values, case["mask"], divisor=hp["num_items_in_batch"])


@adapter("distillkit_hinge_topk", "distillkit_ranking_topk")
def distillkit_ranking(case: Case) -> Tensor:
    """The mean over the pairs of all tokens."""
    form, least = ("gap", 1e-8) if "hinge" in case.method else ("logistic", 1e-9)
    known = case["teacher_topk_values"].exp(), case["teacher_topk_ids"]
    total, count = preferences(case["student_logits"], *known, form=form, margin=case.hp.get("margin"), least=least)
    return token_mean(total, case["mask"], divisor=float((count * case["mask"]).sum()) + least)


@adapter("axolotl_kd_topk")
def axolotl(case: Case) -> Tensor:
    """The mean over the known classes of all tokens, not over the tokens; only the student has the temperature."""
    log_p, student = case["teacher_topk_values"], case["student_logits"][:, : case["teacher_topk_values"].shape[1]]
    values = topk_divergence(log_p, case["teacher_topk_ids"], student / case.hp["temperature"], rest="partial", kind="forward", weight=0)
    items = case.hp["num_items_in_batch"]
    return token_mean(values, case["mask"], divisor=items if items > 0 else float(case["mask"].sum() * log_p.shape[-1]))


@adapter("distillkit_hs_mse", "distillkit_hs_cosine")
def distillkit_hidden(case: Case) -> Tensor:
    """The mean over the pairs of layers, each with a projection of its own."""
    student, teacher, values = case.series("student_features"), case.series("teacher_features"), list[Tensor]()
    for i, (ours, theirs) in enumerate(case.hp["layer_mapping"]):
        state = student[ours]
        if case.hp["use_projection"]:
            projection = nn.Linear(state.shape[-1], len(case[f"param_projection_{i}"]), bias=False)
            case.load(projection, {"weight": f"param_projection_{i}"})
            state = projection(state)
        values.append(token_mean(token_gap(state, teacher[theirs], case.method), case["mask"] if case.hp["use_mask"] else None))
    return torch.stack(values).mean()


def token_gap(student: Tensor, teacher: Tensor, name: str) -> Tensor:
    """The mean squared error or the cosine distance of every token, by the end of the `name`."""
    return 1 - cosines(student, teacher) if name.endswith(("cos", "cosine")) else squared_error(student, teacher).mean(-1)
