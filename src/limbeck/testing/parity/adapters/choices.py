"""Scores by which students, teachers and sources are chosen before any training."""

from __future__ import annotations

import torch
from torch import Tensor

from ....evaluate.diswot import Glance, classifier_gradient, diswot
from ....evaluate.neighbours import nearest_vote
from ..case import Case, adapter


@adapter("diswot")
def diswot_score(case: Case) -> dict[str, Tensor]:
    """The script's score of the first example, and the paper's of the batch."""

    def glance(who: str) -> Glance:
        features, weight = case[f"{who}_features"], case[f"{who}_classifier_weight"]
        pooled = features.flatten(2).mean(2) if features.ndim > 2 else features
        return Glance(features, classifier_gradient(pooled, pooled @ weight.T, case["labels"]))

    student, teacher = glance("student"), glance("teacher")
    script, paper = diswot(student, teacher, variant="official"), diswot(student, teacher)
    values = {
        "score_relation": -script.relation,
        "score_semantic": -script.semantic,
        "score": script.score,
        "score_relation_batch": -paper.relation,
        "score_batch": paper.score,
    }
    return {name: torch.tensor(value) for name, value in values.items()}


@adapter("exssnet_knn")
def exssnet_knn(case: Case) -> dict[str, Tensor]:
    """The authors' vote of the nearest."""
    said = nearest_vote(case["train_x"], case["train_y"], case["test_x"], k=case.hp["k"], p=case.hp["p"])
    return {"predictions": said}
