"""How models do on groups of test examples."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from ..assemble import data_request
from ..data.grouping import group_names
from ..evaluate.fairness import equalised_odds_gap, parity_gap
from .desk import Panel


def fairness(panel: Panel, column: str) -> None:
    """Adds the gaps between groups to the metrics of every model, and the section `fairness`."""
    session = panel.session
    task, test = session.task, session.data().test
    request = data_request(session.recipe.data, session.recipe)
    every = group_names(request, column, kind=task.data_kind, labels=task.labels, allow_code=session.allow_code)
    own = every[test.rows.numpy()]
    names = sorted(set(own.tolist()))
    numbers = torch.tensor([names.index(name) for name in own.tolist()])
    better = task.better.get(task.monitor, True)
    for model, said in panel.said.items():
        groups: dict[str, Any] = {}
        for number, name in enumerate(names):
            mine = numbers == number
            groups[name] = {"examples": int(mine.sum()), "metrics": task.report(said.logits[mine], said.labels[mine])}
        gaps = gaps_of([group["metrics"] for group in groups.values()])
        found = panel.found[model]
        if task.labels == "class":
            guess = task.predictions(said.logits)
            gaps["equalised_odds"] = found.metrics["equalised_odds_gap"] = equalised_odds_gap(guess, said.labels, numbers)
            gaps["parity"] = found.metrics["parity_gap"] = parity_gap(guess, numbers)
        main = [group["metrics"][task.monitor] for group in groups.values()]
        found.metrics[f"worst_{task.monitor}"] = min(main) if better else max(main)
        found.metrics[f"{task.monitor}_gap"] = gaps[task.monitor]
        found.sections["fairness"] = {"column": column, "groups": groups, "gaps": gaps}


def gaps_of(groups: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Largest difference of every metric between two groups; groups for which a metric has no value say nothing of it."""
    gaps: dict[str, float] = {}
    for key in groups[0]:
        known = [group[key] for group in groups if key in group and math.isfinite(group[key])]
        if known:
            gaps[key] = max(known) - min(known)
    return gaps
