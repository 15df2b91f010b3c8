"""How far a student follows its teacher on what it was trained on, and on what it was not: fidelity against generalisation."""

from __future__ import annotations

from ..types import labelled
from .desk import Panel


def fidelity(panel: Panel) -> None:
    """Adds `train_METRIC` to every model, and `train_top1` and `train_kl` to the agreement of those that are compared with a teacher.

    The agreement is that on all training examples, also those without a label, which a student may have learnt from its teacher's answers.
    """
    task, metric = panel.session.task, panel.session.task.monitor
    theirs = panel.trained.get(panel.teacher) if panel.teacher is not None else None
    for name, said in panel.trained.items():
        if labelled(said.labels).any():
            found = task.report(said.logits, said.labels, said.examples)
            panel.found[name].metrics[f"train_{metric}"] = found[metric]
            panel.found[name].sections["train"] = {"examples": len(panel.sample[1]), "metrics": found}
        if theirs is not None and name != panel.teacher and theirs.fits(said):
            agreement = task.agreement(said.logits, theirs.logits, said.labels) or {}
            panel.found[name].agreement |= {f"train_{key}": value for key, value in agreement.items() if key in ("top1", "kl")}
