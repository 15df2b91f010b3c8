"""What is stored of a teacher's answers, byte by byte, and mixed inputs."""

from __future__ import annotations

import re

import torch
from torch import Tensor

from ....data.mixing.mixup import blend
from ....losses.ps_kd import refined_cross_entropy
from ....store.codecs.tinyvit import TinyViT, pack, unpack
from ....store.codecs.topk import Completion, complete
from ..case import Case, adapter

LABEL_TYPES: dict[str, Completion] = {"hard": "hard", "smoothing": "smoothing", "marginal_renorm": "renormalised"}
"""FKD's names of our completions; `marginal_smoothing_kN` is `tail`."""


@adapter("fkd")
def fkd(case: Case) -> dict[str, Tensor]:
    """The number of classes in the authors' name of the label is how many of the stored probabilities are read."""
    kind = case.hp["label_type"]
    match = re.fullmatch(r"(marginal_\w+?)_k(\d+)", kind)
    stored = case["label_index"].shape[1]
    kept = min(int(match[2]), stored) if match else stored
    completion = LABEL_TYPES.get(match[1] if match else kind, "tail")
    index, value = case["label_index"][:, :kept], case["label_value"][:, :kept]
    return _soft(case, complete(index, value, classes=case.hp["num_classes"], completion=completion), "soft_label")


@adapter("tinyvit_fastkd")
def tinyvit_fastkd(case: Case) -> dict[str, Tensor]:
    """Through our codec; the seed of a record is the authors' instead of the example's position."""
    teacher = case["teacher_logits"]
    codec = TinyViT(k=case.hp["topk"])
    _, index, value = unpack(codec.encode(teacher, torch.arange(len(teacher)))["record"])
    records = pack(case["seeds"], index, value)
    targets = complete(index, value, classes=teacher.shape[1], completion=codec.completion)
    return {**_soft(case, targets, "soft_target"), "indices": index, "values": value, "bytes": records.long()}


def _soft(case: Case, targets: Tensor, name: str) -> dict[str, Tensor]:
    """A float16 may round the stored probabilities to a sum above 1; then the rest is below 0, as it is for the authors."""
    return {"loss": refined_cross_entropy(case["student_logits"], targets).mean(), name: targets}


@adapter("mix_kd_mixup")
def mix_kd_mixup(case: Case) -> dict[str, Tensor]:
    """The authors permute both partners; the random draws are given."""
    first, second = case["perm_1"], case["perm_2"]
    share = case["lam"].clone()
    if case.hp["partial"]:
        share[case["unmixed_indices"]] = 1.0
    inputs, labels = case["inputs"], case["labels"]
    classes = case.expected["targets"].shape[1]
    targets = torch.nn.functional.one_hot(labels, classes).to(inputs.dtype)
    return {name: blend(value[first], value[second], share) for name, value in (("inputs", inputs), ("targets", targets))}
