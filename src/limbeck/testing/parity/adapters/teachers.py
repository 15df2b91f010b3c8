"""Teachers that follow the student, teachers of several, and what is reported of them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ....evaluate.flips import flip_report, flips
from ....evaluate.reliability import calibration_error
from ....evaluate.risk import risk_coverage
from ....losses.cross_entropy import CrossEntropy
from ....losses.kd import KD
from ....losses.meal_v2 import critic_for, critic_value
from ....ops.divergence import cross_entropy
from ....teachers.base import Setting, TeacherRequest
from ....teachers.ema import EMATeacher
from ....teachers.ensemble import combined, surest
from ....types import Signals
from ..case import Case, adapter


class _Weights(nn.Module):
    """A model that is one parameter."""

    def __init__(self, value: Tensor) -> None:
        super().__init__()
        self.value = nn.Parameter(value.detach().clone())


def _silent(model: Any, batch: Any) -> Signals:
    return Signals()


def _followed(case: Case, students: Tensor, teacher: Tensor, *, first: int = 0, **fields: Any) -> tuple[Tensor, list[float]]:
    """Our moving average after each row of the student's weights, and the share that it keeps (-1 where it does not move)."""
    average, learner = EMATeacher(**fields), _Weights(students[0] if len(students) else teacher)
    average.open(Setting(TeacherRequest((), True, torch.device("cpu")), _silent, learner=learner))
    average.load_state({"value": teacher, "ema.count": torch.tensor(first), "ema.decays": torch.tensor(0)})
    trajectory, kept = [], []
    for row in students:
        learner.value.data.copy_(row)
        keep = average.keep()
        kept.append(-1.0 if keep is None else keep)
        average.after_step(learner)
        average.after_epoch(learner, False)
        trajectory.append(average.state()["value"].clone())
    return torch.stack(trajectory) if trajectory else students.clone(), kept


@adapter("consistent_teacher__ema")
def consistent_teacher(case: Case) -> dict[str, Tensor]:
    """Parameters only; the authors go on making it slower at every update."""
    fields = {"momentum": case.hp["momentum"], "every": case.hp["interval"], "schedule": "ramp", "warmup": case.hp["warm_up"]}
    slower = {"decay_at": case.hp["decay_intervals"] or (), "decay_factor": case.hp["decay_factor"], "variant": "official"}
    found = _followed(case, case["student_params"], case["teacher_params"], first=case.hp["start_iter"], **fields, **slower, buffers="own")
    return {"teacher_trajectory": found[0], "momentum": torch.tensor(found[1])}


@adapter("geodistill_ema")
def geodistill(case: Case) -> dict[str, Tensor]:
    """Once an epoch, parameters only."""
    students = case["student_param"].expand(case.hp["steps"], *case["student_param"].shape)
    found, _ = _followed(case, students, case["teacher_param"], momentum=case.hp["decay"], per="epoch", buffers="own")
    return {"teacher_param": found[-1] if len(found) else case["teacher_param"]}


@adapter("gkt_dp__weight_interpolation")
def gkt_dp_slow_weights(case: Case) -> dict[str, Tensor]:
    """The whole state, every N batches."""
    fields = {"momentum": case.hp["tau"], "every": case.hp["N"], "buffers": "average"}
    return {"slow_trajectory": _followed(case, case["student_params"], case["teacher_params"], **fields)[0]}


@adapter("hssda__ema")
def hssda(case: Case) -> dict[str, Tensor]:
    """The authors count the step before they move, so that their first is our second."""
    fields = {"momentum": 0.5, "end": 0.9996, "schedule": "linear", "over": 2000, "buffers": "average"}
    first = case.hp["start_step"] + 1
    return {"teacher_trajectory": _followed(case, case["student_params"], case["teacher_params"], first=first, **fields)[0]}


@adapter("obow__ema")
def obow(case: Case) -> dict[str, Tensor]:
    """Parameters only; the cosine turns back."""
    total = case.hp["num_iterations"]
    schedule = {"schedule": "cosine", "over": total} if total else {}
    fields = {"momentum": case.hp["alpha"], "variant": "official", "buffers": "own", **schedule}
    found = _followed(case, case["student_params"], case["teacher_params"], **fields)
    return {"teacher_trajectory": found[0], "alpha": torch.tensor(found[1])}


@adapter("gkt_dp", "gkt_dp__multi_teacher")
def gkt_dp(case: Case) -> dict[str, Tensor]:
    """Where a rule is that of flips, the authors compare the teacher with the student as it is; and they count no share for `flip-avg`."""
    student, labels, rule, k = case["student_logits"], case["labels"], case.hp["strategy"], case.hp["k"]
    sources = torch.stack([case["initial_student_logits"], *case.series("teacher_logits")])
    gain, loss = flips(student.argmax(-1), sources[1].argmax(-1), labels)
    if rule.startswith("most-conf"):
        chosen = surest(sources, labels if rule == "most-conf" else None, temperature=1.0)
    else:
        chosen = (~loss if rule == "flip-t" else gain).long()
    target = sources[chosen, torch.arange(len(student))]
    if rule == "flip-avg":
        target = torch.where((gain | loss).unsqueeze(-1), target, torch.stack([sources[1], student]).mean(0))
    kept = sources[1].topk(k).indices if k else torch.arange(student.shape[-1]).expand(student.shape)
    pair = Signals(student.gather(-1, kept)), Signals(target.gather(-1, kept))
    kl = KD(temperature=case.hp["temperature"])(*pair).mean()
    hard = CrossEntropy()(Signals(student.softmax(-1)), Signals(), labels).mean()
    alpha, shown = case.hp["alpha"], rule.startswith("most-conf")
    mask = chosen - 1 if case.method == "gkt_dp__multi_teacher" else chosen * shown
    share = torch.zeros(()) if rule == "flip-avg" else 100 * (chosen > 0).float().mean()
    return {"loss": alpha * kl + (1 - alpha) * hard, "kl_loss": kl, "teacher_mask": mask, "teacher_share": share}


@adapter("gkt_dp__flip_metrics")
def gkt_dp_flips(case: Case) -> dict[str, Tensor]:
    """The authors count in percent."""
    names = {
        "accuracy_change": "dist_delta",
        "positive_flips_change": "pos_flips_delta",
        "negative_flips_change": "neg_flips_delta",
    }
    labels = case["labels"]
    found = flip_report(case["initial_predictions"], case["student_predictions"], case["teacher_predictions"], labels)
    outputs: dict[str, Tensor] = {names.get(name, name): torch.tensor(100 * value) for name, value in found.items()}
    return {**outputs, "student_acc": 100 * (case["student_predictions"] == labels).double().mean()}


@adapter("meal_v2")
def meal_v2(case: Case) -> dict[str, Tensor]:
    """The probabilities of the teachers are averaged for the student, their logits for the critic."""
    student, teachers = case["student_logits"], torch.stack(case.series("teacher_logits"))
    every = torch.ones(len(teachers), 1, student.shape[-1], dtype=torch.bool)
    mean, level = (
        combined(teachers, every, torch.ones(len(teachers)), combine=how, temperature=1.0) for how in ("probabilities", "logits")
    )
    critic = critic_for(student, reduction=case.hp["reduction"], relu=True)
    layers = {f"{2 * i}.{kind}": f"param_conv{i + 1}_{kind}" for i in range(3) for kind in ("weight", "bias")}
    case.load(critic, layers)
    outputs = {"loss_g": cross_entropy(mean, student).mean(), "loss_d": critic_value(critic, student, level).mean()}
    return {"loss": outputs["loss_g"] + outputs["loss_d"], **outputs, "soft_label": mean.softmax(-1)}


@adapter("calibration_ece_aurc")
def calibration(case: Case) -> dict[str, Tensor]:
    """The authors count in percent and in thousandths."""
    probabilities, labels = case["probs"], case["labels"]
    bins = round(1 / case.hp["bin_size"])
    risk = risk_coverage(probabilities.amax(-1), probabilities.argmax(-1) == labels)
    ece = 100 * calibration_error(probabilities.double().log(), labels, bins=bins)
    return {"ece": torch.tensor(ece), **{name: torch.tensor(value) for name, value in risk.items()}}
