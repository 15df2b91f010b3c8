"""How models do on corrupted test inputs."""

from __future__ import annotations

from statistics import fmean
from typing import Any

from ..assemble import data_request
from ..data.corruptions import corrupted, kinds_of
from .desk import Panel


def robustness(panel: Panel) -> None:
    """Adds `corrupted_METRIC`, the mean over all corruptions and severities, and the section `robustness` to every model."""
    session, wish = panel.session, panel.wish
    splits, metric = session.data(), session.task.monitor
    kinds, tokenizer = kinds_of(wish.corruptions, splits.info.kind), data_request(session.recipe.data, session.recipe).tokenizer
    values: dict[str, dict[str, list[float]]] = {name: {kind: [] for kind in kinds} for name in panel.said}
    for kind in kinds:
        for severity in wish.severities:
            seed = session.seed(f"corruption-{kind}")
            examples = corrupted(splits.test, splits.info, kind, severity, seed=seed, tokenizer=tokenizer)
            for name in panel.said:
                said = session.ask(name, examples, range(len(examples)))
                values[name][kind].append(session.task.report(said.logits, said.labels, said.examples)[metric])
    for name, own in values.items():
        mean = fmean(value for row in own.values() for value in row)
        panel.found[name].metrics[f"corrupted_{metric}"] = mean
        section: dict[str, Any] = {"metric": metric, "severities": list(wish.severities), "mean": mean, "kinds": own}
        panel.found[name].sections["robustness"] = section
