"""The identity of distillation from pruned data: a ridge teacher of all rows against the labels of the rows that are kept.

Page: Ben-Baruch et al., "Distilling the Knowledge in Data Pruning", 2024, arXiv:2403.07854 (linear self-distillation).
"""

from __future__ import annotations

import torch

from limbeck.data.selection.base import Amount, Evidence
from limbeck.data.selection.random import Random


def ridge(x: torch.Tensor, y: torch.Tensor, strength: float) -> torch.Tensor:
    return torch.linalg.solve(x.T @ x + strength * torch.eye(x.shape[1], dtype=x.dtype), x.T @ y)


def test_a_student_of_kept_rows_is_nearer_to_the_truth_with_a_teacher_of_all_rows():
    torch.manual_seed(0)
    rows, columns, strength = 120, 8, 1.0
    errors = []
    for draw in range(200):
        truth = torch.randn(columns, dtype=torch.float64)
        x = torch.randn(rows, columns, dtype=torch.float64)
        y = x @ truth + torch.randn(rows, dtype=torch.float64)
        evidence = Evidence(torch.arange(rows), torch.zeros(rows, dtype=torch.int64))
        kept, _ = Random(seed=draw).choose(evidence, Amount(fraction=0.2))
        teacher = ridge(x, y, strength)
        plain, taught = ridge(x[kept], y[kept], strength), ridge(x[kept], x[kept] @ teacher, strength)
        half = ridge(x[kept], 0.5 * y[kept] + 0.5 * (x[kept] @ teacher), strength)
        torch.testing.assert_close(half, (plain + taught) / 2)  # linear in the targets, so the best weight lies between the two
        errors.append([float((own - truth).norm()) for own in (plain, half, taught, teacher)])
    plain, half, taught, teacher = torch.tensor(errors).mean(0).tolist()
    assert teacher < taught < half < plain
    assert taught < 0.75 * plain
