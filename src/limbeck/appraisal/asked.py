"""Which metrics a recipe adds to those of the task."""

from __future__ import annotations

from ..config.evaluate_schema import EvaluateSpec
from ..config.schema import Recipe
from ..evaluate.tokens import PARTS
from ..tasks.base import Task


def asked(recipe: Recipe, task: Task) -> dict[str, bool]:
    """The metrics that a model has beside those of the task, and whether more is better."""
    spec = recipe.evaluate
    main, more = task.monitor, task.better.get(task.monitor, True)
    found: dict[str, bool] = {}
    if spec.corruptions:
        found[f"corrupted_{main}"] = more
    if spec.fidelity:
        found[f"train_{main}"] = more
    if spec.groups is not None:
        found |= {f"worst_{main}": more, f"{main}_gap": False}
        found |= {"equalised_odds_gap": False, "parity_gap": False} if task.labels == "class" else {}
    if spec.membership:
        found |= {"membership_auc": False, "membership_tpr": False}
    if spec.canaries or recipe.data.canaries is not None:
        found["exposure"] = False
    if task.labels == "token" and recipe.data.train_on == "all":
        found |= {f"{part}.{main}": more for part in PARTS}
    if spec.answer is not None:
        found["exact_match"] = True
    if spec.kernel is not None:
        found |= {"kernel_alignment": True, "kernel_alignment_start": True, "kernel_movement": False}
    return found | _costs(spec)


def _costs(spec: EvaluateSpec) -> dict[str, bool]:
    batches = {"throughput": True, "peak_bytes": False, "energy_j": False, "latency_p99_ms": False} if spec.cost else {}
    return batches | ({"first_token_ms": False, "next_token_ms": False} if spec.first_token is not None else {})
