"""Hidden states, attention, scores of candidates, and what else toolkits for language models compare."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ....data.replies import align_replies
from ....losses.attention_kd import Heads, attention_divergence, attention_errors
from ....losses.cosine import cosine_distance
from ....losses.cross_entropy import CrossEntropy
from ....losses.fsp import flow_gap
from ....losses.kd import KD
from ....losses.margin_mse import margin_gap
from ....losses.mft import MFT, corrected
from ....losses.mgd import MGD
from ....losses.mse import MSE, squared_error
from ....losses.soft_cross_entropy import SoftCrossEntropy
from ....ops.divergence import cross_entropy
from ....ops.fusion import scaled_sum
from ....ops.geometry import cosines
from ....ops.ranks import first_hit
from ....ops.reduce import token_mean
from ....ops.selection import highest
from ....ops.temperatures import disagreement, temperatures, uncertainty
from ....types import Signals
from ..case import Case, adapter
from .language_topk import token_gap


def _mask(case: Case) -> Tensor | None:
    return case["mask"] if case.hp["use_mask"] else None


@adapter("textbrewer_kd_ce", "textbrewer_kd_mse")
def textbrewer_kd(case: Case) -> Tensor:
    """Without T^2."""
    temperature = case.hp["temperature"]
    loss = SoftCrossEntropy(temperature=temperature) if case.method.endswith("ce") else MSE()
    return loss(case.student, case.teacher).mean() / temperature**2


@adapter("textbrewer_kd_ce_flsw", "textbrewer_kd_ce_cwsm")
def textbrewer_kd_ce_by_example(case: Case) -> dict[str, Tensor]:
    """A temperature for each example."""
    student, teacher = case["student_logits"], case["teacher_logits"]
    hardness = disagreement(student, teacher, gamma=case.hp["gamma"]) if case.method.endswith("flsw") else uncertainty(student)
    found = temperatures(hardness, base=case.hp["temperature"], beta=case.hp["beta"])
    values = cross_entropy(teacher / found.unsqueeze(-1), student / found.unsqueeze(-1))
    return {"loss": values.mean(), "temperatures": found}


_HEADS: dict[str, Heads] = {"sum": "sum", "mean": "mean"}


@adapter("textbrewer_att_mse", "textbrewer_att_mse_sum", "textbrewer_att_ce", "textbrewer_att_ce_mean")
def textbrewer_attention(case: Case) -> Tensor:
    """The mean over the valid scores, or over the queries; without a mask, negative scores count as masked."""
    student, teacher, mask = case["student_attention"], case["teacher_attention"], _mask(case)
    heads = _HEADS.get(case.method.rsplit("_", 1)[1], "each")
    least = -1e-3 if mask is None else -torch.inf
    if "_mse" in case.method:
        known = None if mask is None else mask.bool()
        both = None if known is None else known[:, :, None] & known[:, None]
        total, count = attention_errors(student, teacher, heads=heads, least=least, counted=both)
        return total.sum() / torch.as_tensor(count).expand_as(total).sum().clamp_min(1)
    shape = (len(student), 1, 1, -1) if heads == "each" else (len(student), 1, -1)
    keys = None if mask is None else mask.reshape(shape)
    values = attention_divergence(student, teacher, heads=heads, least=least, kind="cross_entropy", keys=keys)
    counted = None if keys is None else keys.squeeze(-2)
    counted = None if counted is None else counted.expand_as(values).flatten(1)
    return token_mean(values.flatten(1), counted)


@adapter("textbrewer_hid_mse", "textbrewer_cos")
def textbrewer_states(case: Case) -> Tensor:
    """The mean over the valid tokens."""
    return token_mean(token_gap(case["student_features"], case["teacher_features"], case.method), _mask(case))


@adapter("textbrewer_pkd")
def textbrewer_pkd(case: Case) -> Tensor:
    """Between vectors of length 1 the squared distance is twice the distance of cosines."""
    first = (x[:, 0] if x.ndim == 3 else x for x in (case["student_features"], case["teacher_features"]))
    return 2 * cosine_distance(*first).mean()


@adapter("textbrewer_fsp")
def textbrewer_fsp(case: Case) -> Tensor:
    """Tokens are the positions; the mean over the valid ones."""
    mask, pair = _mask(case), [case.series("student_features"), case.series("teacher_features")]
    if mask is not None:
        valid = mask.unsqueeze(-1) * (mask.shape[1] / mask.sum(1)).reshape(-1, 1, 1)
        pair = [[first * valid, second * mask.unsqueeze(-1)] for first, second in pair]
    return flow_gap(*pair, pooling="average", variant="zoo").mean()


@adapter("textbrewer_nst")
def textbrewer_nst(case: Case) -> Tensor:
    """Their Gram matrices of tokens: a flow whose channels are the tokens, and whose positions the width; the mean over the valid pairs."""
    mask, pair = _mask(case), [case.series("student_features"), case.series("teacher_features")]
    tokens = pair[0][0].shape[1]
    if mask is not None:
        pair = [[x * mask.unsqueeze(-1) for x in layers] for layers in pair]
    counted = len(pair[0][0]) * tokens**2 if mask is None else mask.sum(1).square().sum()
    return flow_gap(*([x.mT for x in layers] for layers in pair), pooling="average", variant="zoo").sum() * tokens**2 / counted


@adapter("modelopt_logits_kd")
def modelopt_kd(case: Case) -> dict[str, Tensor]:
    """With T^2; the reduction `mean` divides by the classes as well."""
    values = KD(temperature=case.hp["temperature"])(case.student, case.teacher).flatten()
    divisor = {"mean": case["student_logits"].numel(), "batchmean": len(values)}.get(case.hp["reduction"], 1)
    return {"loss": values.sum() / divisor, "unreduced": values}


@adapter("modelopt_mft")
def modelopt_mft(case: Case) -> dict[str, Tensor]:
    """The batch mean."""
    temperature, threshold = case.hp["temperature"], case.hp["threshold"]
    loss = MFT(temperature=temperature, threshold=threshold)(case.student, case.teacher, case.labels).mean()
    targets = corrected((case["teacher_logits"] / temperature).softmax(-1), case["labels"], threshold=threshold)
    return {"loss": loss, "corrected_targets": targets}


@adapter("modelopt_mgd")
def modelopt_mgd(case: Case) -> Tensor:
    """The mean over all entries; what is drawn above 1 - lambda is masked."""
    loss, names = MGD(), {"generation.0": "gen1", "generation.2": "gen2"}
    loss.setup(case.student, case.teacher)
    names |= {"align": "align"} if isinstance(loss.align, nn.Conv2d) else {}
    case.load(loss, {f"{ours}.{part}": f"param_{theirs}_{part}" for ours, theirs in names.items() for part in ("weight", "bias")})
    keep = (case["mask_uniform"] <= 1 - case.hp["lambda"]).float()
    return case.hp["alpha"] * squared_error(loss.generate(case["student_features"], keep), case["teacher_features"]).mean()


@adapter("miniplm_vanilla_kd", "miniplm_pretrain_kd")
def miniplm_kd(case: Case) -> dict[str, Tensor]:
    """Cross-entropies with the next token and with the teacher, all sequences alike."""
    ratio, counted = case.hp["kd_ratio"], case["mask"]
    hard = token_mean(CrossEntropy()(case.student, case.teacher, case.labels), counted, over="sequences")
    soft = token_mean(SoftCrossEntropy()(case.student, case.teacher), counted, over="sequences")
    least = token_mean(SoftCrossEntropy()(case.teacher, case.teacher), counted, over="sequences")
    parts = {"loss_lm": hard, "loss_kd": soft, "teacher_entropy": least, "lm_loss": hard, "kd_loss": soft, "kd_entropy": least}
    return {"loss": (1 - ratio) * hard + ratio * soft, **parts}


@adapter("miniplm_difference_sampling", "miniplm_select")
def miniplm_select(case: Case) -> dict[str, Tensor]:
    """By how much the reference's loss is above the teacher's."""
    kind = "losses" if case.method == "miniplm_difference_sampling" else "nll"
    scores = case[f"reference_{kind}"] - case[f"teacher_{kind}"]
    return {"scores": scores, "difference_scores": scores, "indices": highest(scores, ratio=case.hp["ratio"])}


@adapter("panda")
def panda(case: Case) -> dict[str, Tensor]:
    """The mean squared error is divided by the batch once more, and its weight by ten."""
    error = squared_error(case["student_logits"], case["teacher_logits"]).mean() / len(case["student_logits"])
    hard = CrossEntropy()(case.student, case.teacher, case.labels).mean()
    return {"loss": hard + 0.1 * case.hp["beta"] * error, "loss_mse": error}


@adapter("scalearn")
def scalearn(case: Case) -> dict[str, Tensor]:
    """Without dropout."""
    normalise = "mean" if case.hp["take_mean"] else "softmax" if case.hp["take_softmax"] else "none"
    fused = scaled_sum(case["student_features"], case["param_omega"], normalise=normalise)
    fused = fused + case["residual"] if case.hp["residual"] else fused
    return {"loss": (fused * case["probe"]).sum(), "fused": fused}


@adapter("sinkd_kd_anneal")
def sinkd_kd_anneal(case: Case) -> Tensor:
    """A temperature that falls to 1, and no factor."""
    start = case.hp["temperature"]
    temperature = start + (1 - start) * case.hp["epoch"] / (case.hp["total_epochs"] - 1)
    loss = MSE() if case.hp["mode"] == "regression" else SoftCrossEntropy(temperature=temperature)
    return loss(case.student, case.teacher).mean() / temperature**2


@adapter("skd_map")
def skd_map(case: Case) -> dict[str, Tensor]:
    """The mean over the ends of a span; the weight is how early the teacher's list of positions has the right one."""
    temperature, kind = case.hp["temperature"], case.hp["kl_type"][:2]
    near = {"before": 5, "after": 4} if case.hp["coefficient"] == "map" else {"before": 0, "after": 0}
    loss = KD(temperature=temperature, divergence={"fw": "forward", "rv": "reverse"}.get(kind, "symmetric"))  # pyright: ignore[reportArgumentType]
    values, hits = list[Tensor](), list[Tensor]()
    for end in ("start", "end"):
        teacher = case[f"teacher_{end}_logits"]
        values.append((2 if kind == "sy" else 1) * loss(Signals(case[f"student_{end}_logits"]), Signals(teacher)).mean())
        hits.append(first_hit((teacher / temperature).softmax(-1), case[f"{end}_positions"], **near, top=10).mean())
    total, weight = torch.stack(values).mean(), torch.stack(hits).mean()
    weight = torch.ones_like(weight) if case.hp["coefficient"] == "none" else weight
    return {"loss": weight * total, "kl": total, "coefficient": weight}


@adapter("ssb__alignment")
def ssb_alignment(case: Case) -> dict[str, Tensor]:
    """The collator's tensors."""
    rows = case.series("prompt_ids"), case.series("reply_ids"), case.series("teacher_logits")
    found = align_replies(*rows, max_length=case.hp["max_length"], pad=case.hp["pad_id"])
    return vars(found)


@adapter("st_margin_mse")
def st_margin_mse(case: Case) -> Tensor:
    """The first candidate is the right one; the mean over the examples and the others."""
    scores = _scores(case)
    return margin_gap(scores, case["teacher_scores"], torch.zeros(len(scores), dtype=torch.int64)).mean()


@adapter("st_distill_kl")
def st_distill_kl(case: Case) -> Tensor:
    """The teacher's scores have a temperature of their own; the factor is the square of the student's."""
    ours, theirs = case.hp["student_temperature"], case.hp["teacher_temperature"]
    return KD(temperature=ours)(Signals(_scores(case)), Signals(case["teacher_scores"] * (ours / theirs))).mean()


def _scores(case: Case) -> Tensor:
    """Of the query with every candidate, `(batch, candidates)`."""
    query, *candidates = case.series("student_features")
    alike = cosines if case.hp["similarity"].startswith("cos") else lambda a, b: (a * b).sum(-1)
    return torch.stack([alike(query, candidate) for candidate in candidates], -1)
