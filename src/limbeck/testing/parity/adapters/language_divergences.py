"""Divergences between whole vocabularies, as libraries for language models have them: one engine, and each one's reduction."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ....losses.akl import AKL
from ....losses.cosine import cosine_distance
from ....losses.cross_entropy import CrossEntropy
from ....losses.kd import KD
from ....ops import divergence as engine
from ....ops.divergence import Divergence, common_support, jensen_shannon, kl, log_softmax, relative_entropy, skewed_kl, smoothed_entropy
from ....ops.reduce import token_mean
from ....types import IGNORE, Signals
from ..case import Case, adapter


def _per_token(case: Case, kind: Divergence, *, weight: float = 0.5, temperature: float = 1.0, teacher: float = 1.0) -> Tensor:
    return engine.divergence(*_logarithms(case, temperature, teacher), kind=kind, weight=weight)


def _logarithms(case: Case, temperature: float, teacher: float) -> tuple[Tensor, Tensor]:
    """Of the probabilities of teacher and student, where neither rules a class out; `teacher` is a further temperature of the teacher."""
    log_p = log_softmax(case["teacher_logits"] / temperature / teacher)
    return common_support(log_p, log_softmax(case["student_logits"] / temperature))


_DISTILLM: dict[str, Divergence] = {
    "distillm_fkl": "cross_entropy",
    "distillm_rkl": "reverse",
    "distillm_js": "js",
    "distillm_tvd": "tv",
    "distillm_skew_rkl": "skew_reverse",
}


@adapter(*_DISTILLM)
def distillm(case: Case) -> Tensor:
    """The forward divergence without the teacher's entropy; in their js the weight is the student's."""
    kind, weight = _DISTILLM[case.method], case.hp.get("lam", 0.0)
    return token_mean(_per_token(case, kind, weight=1 - weight if kind == "js" else weight), case["labels"] != IGNORE)


@adapter("distillm_skew_fkl")
def distillm_skew_fkl(case: Case) -> Tensor:
    """Without the teacher's entropy, which is added to the divergence here."""
    entropy = engine.cross_entropy(case["teacher_logits"], case["teacher_logits"])
    return token_mean(_per_token(case, "skew_forward", weight=case.hp["lam"]) + entropy, case["labels"] != IGNORE)


@adapter("distillm_sym_kl", "torchtune_skl", "torchtune_skl_chunked")
def mixed(case: Case) -> Tensor:
    """A mixture of the forward cross-entropy and the reverse divergence; DistiLLM's weight is that of the second."""
    forward = case.hp["sym_kd_ratio"] if "sym_kd_ratio" in case.hp else 1 - case.hp["lam"]
    values = forward * _per_token(case, "cross_entropy") + (1 - forward) * _per_token(case, "reverse")
    return _torchtune(case, values)


@adapter("torchtune_fkl", "torchtune_fkl_chunked", "torchtune_rkl", "torchtune_rkl_chunked")
def torchtune(case: Case) -> Tensor:
    """Their forward divergence is the cross-entropy. Chunks change nothing but memory."""
    return _torchtune(case, _per_token(case, "reverse" if "_rkl" in case.method else "cross_entropy"))


def _torchtune(case: Case, values: Tensor) -> Tensor:
    counted = case["labels"] != case.hp.get("ignore_index", IGNORE)
    return token_mean(values, counted, divisor=None if case.hp.get("normalize", True) else 1)


_DSKD: dict[str, Divergence] = {
    "dskd_fkl": "forward",
    "dskd_rkl": "reverse",
    "dskd_skew_fkl": "skew_forward",
    "dskd_skew_rkl": "skew_reverse",
}


@adapter(*_DSKD)
def dskd(case: Case) -> Tensor:
    """The sum over the tokens, which their trainer divides."""
    values = _per_token(case, _DSKD[case.method], weight=case.hp["skew_lambda"], **_temperatures(case))
    return token_mean(values, case["labels"] != IGNORE, divisor=1)


@adapter("dskd_js")
def dskd_js(case: Case) -> Tensor:
    """With 1e-9 inside of every logarithm."""
    p, q = (log.exp() for log in _logarithms(case, **_temperatures(case)))
    values = (smoothed_entropy(p, (p + q) / 2, epsilon=1e-9) + smoothed_entropy(q, (p + q) / 2, epsilon=1e-9)) / 2
    return token_mean(values, case["labels"] != IGNORE, divisor=1)


@adapter("dskd_akl")
def dskd_akl(case: Case) -> Tensor:
    """Their alpha is the share of the tail, which they count from the least likely class upwards."""
    how = _temperatures(case)
    loss = AKL(head=1 - case.hp["adaptive_kl_alpha"], variant="dskd")
    values = loss(
        Signals(case["student_logits"] / how["temperature"]), Signals(case["teacher_logits"] / how["temperature"] / how["teacher"])
    )
    return token_mean(values, case["labels"] != IGNORE, divisor=1)


def _temperatures(case: Case) -> dict[str, float]:
    teacher = case.hp["teacher_temperature"] if case.hp["use_teacher_temperature"] else 1.0
    return {"temperature": case.hp["kd_temperature"], "teacher": teacher}


@adapter("gkd_jsd")
def gkd_jsd(case: Case) -> Tensor:
    """TRL's; a beta of 0 or 1 stands for the forward or the reverse divergence."""
    hp, student = case.hp, case["student_logits"]
    values = _generalised(student / hp["temperature"], case["teacher_logits"] / hp["temperature"], hp["beta"])
    counted = case["labels"] != IGNORE if hp["use_labels"] else torch.ones_like(values)
    if hp["num_items_in_batch"] is not None:
        return token_mean(values, counted, divisor=hp["num_items_in_batch"])
    if hp["reduction"] == "mean":
        return token_mean(values, counted) / student.shape[-1]
    whole = 1 if hp["reduction"] == "sum" else None
    return token_mean(values, counted, divisor=whole if hp["use_labels"] or whole else len(values))


def _generalised(student: Tensor, teacher: Tensor, beta: float) -> Tensor:
    if beta in (0, 1):
        return kl(student, teacher) if beta else kl(teacher, student)
    return jensen_shannon(teacher, student, mixture=beta)


@adapter("liger_jsd", "liger_cosine")
def liger(case: Case) -> dict[str, Tensor]:
    """Liger's: both heads are part of it; a larger vocabulary of the teacher meets zeros; a cosine counts the ignored tokens as well."""
    hp, labels = case.hp, case["labels"]
    student = F.linear(case["student_features"], case["param_student_weight"], case.inputs.get("param_student_bias"))
    teacher = F.linear(case["teacher_features"], case["param_teacher_weight"], case.inputs.get("param_teacher_bias"))
    padded = F.pad(student, (0, max(0, teacher.shape[-1] - student.shape[-1])))
    counted = labels != IGNORE
    if case.method == "liger_cosine":
        soft = hp["beta"] * cosine_distance(padded, teacher).sum() / counted.sum().clamp_min(1)
    else:
        soft = token_mean(_generalised(padded / hp["temperature"], teacher / hp["temperature"], hp["beta"]), counted)
    hard = CrossEntropy()(Signals(student), Signals(), labels).sum() / counted.sum().clamp_min(1)
    return {"loss": hp["weight_hard_loss"] * hard + hp["weight_soft_loss"] * soft, "loss_soft": soft, "loss_hard": hard}


@adapter("kd_fidelity_fkl", "kd_fidelity_rkl")
def kd_fidelity(case: Case) -> Tensor:
    """Epsilon is added to the probabilities that weigh, outside of the logarithm's own; all sequences count alike."""
    temperature, epsilon = case.hp["temperature"], case.hp["epsilon"]
    logits = [case["teacher_logits"] / temperature, case["student_logits"] / temperature]
    p, q = logits if case.method.endswith("fkl") else logits[::-1]
    values = relative_entropy((p.softmax(-1) + epsilon).log(), log_softmax(q))
    return temperature**2 * token_mean(values, case["mask"], over="sequences")


@adapter("kd_fidelity_jsd")
def kd_fidelity_jsd(case: Case) -> Tensor:
    """Their mixture has the weights of the two divergences swapped."""
    beta, temperature = case.hp["beta"], case.hp["temperature"]
    student, teacher = case["student_logits"] / temperature, case["teacher_logits"] / temperature
    values = beta * skewed_kl(teacher, student, skew=1 - beta) + (1 - beta) * skewed_kl(student, teacher, skew=beta)
    counted = case["labels"] != IGNORE
    if case.hp["reduction"] == "mean":
        return token_mean(values, counted) / student.shape[-1]
    return token_mean(values, counted, divisor=1 if case.hp["reduction"] == "sum" else None)


@adapter("llava_kd_rkl_nomask", "llava_kd_skew_rkl_nomask")
def llava_kd(case: Case) -> Tensor:
    """The mean over all tokens."""
    return token_mean(_per_token(case, "skew_reverse", weight=case.hp.get("lam", 0.0)))


@adapter("ssb")
def ssb(case: Case) -> Tensor:
    """The mean over the tokens of the replies."""
    return token_mean(KD(temperature=case.hp["temperature"])(case.student, case.teacher), case["mask"])


@adapter("mu_encdec_kd")
def mu_encdec_kd(case: Case) -> Tensor:
    """The teacher's predictions of the reply, in as much of both vocabularies as they share."""
    student, teacher = case["student_logits"], case["teacher_logits"]
    first, shared = case.hp["encoder_len"] - 1, min(student.shape[-1], teacher.shape[-1])
    reply = teacher[:, first : first + case.hp["decoder_len"], :shared]
    return token_mean(KD(temperature=1.0)(Signals(student[..., :shared]), Signals(reply)))
