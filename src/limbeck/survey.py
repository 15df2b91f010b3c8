"""Which entries of a survey's taxonomy the registered parts cover, and which pairs of them the recipes train.

The axes are those of Xu et al., "A Survey on Knowledge Distillation of Large Language Models", 2024, arXiv:2402.13116, section 3: how
knowledge is elicited from a teacher, and how a student learns it. What a part covers follows from what it says of itself: a kind of
teacher from where its model comes from (`source`), a loss from what it reads (`Doc.family`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from .data.selection import SELECTIONS
from .describe import describe
from .registry import LOSSES, STEPS, TEACHERS

ELICITATION = {
    "labelling": "the teacher's answers to given inputs, written down",
    "expansion": "new inputs like given ones, made by the teacher",
    "curation": "data chosen or made for the student",
    "feature": "what the teacher says or computes inside, read while the student learns",
    "feedback": "the teacher judges what the student does",
    "self-knowledge": "the student, or a version of it, is its own teacher",
}
"""How knowledge is elicited, and what that means here."""

ALGORITHMS = {
    "supervised fine-tuning": "labels, texts that a teacher wrote, or what the student itself says; no teacher is asked",
    "divergence": "between what both predict",
    "similarity": "of inner layers",
    "reinforcement learning": "a reward from the teacher's preferences",
    "rank optimisation": "preferences between answers, without a reward",
}
"""How the student learns it."""

_SOURCES = {"none": "labelling", "own": "feature", "members": "feature", "learner": "self-knowledge"}
_FAMILIES = {
    "alone": "supervised fine-tuning", "logits": "divergence", "features": "similarity", "relations": "similarity", "dense": "similarity"
}  # fmt: skip


@dataclass(frozen=True)
class Covered:
    """An entry of the taxonomy and the parts that cover it, by registry."""

    name: str
    meaning: str
    parts: Mapping[str, tuple[str, ...]]


def elicitation_of(teacher: str) -> str:
    """How a kind of teacher elicits knowledge; local code is taken to be read while the student learns."""
    return _SOURCES[TEACHERS.get(teacher).source] if teacher in TEACHERS.files() else "feature"


def algorithm_of(loss: str) -> str:
    """How a student learns by a registered loss."""
    return _FAMILIES[describe(LOSSES, loss).family]


def elicitations() -> list[Covered]:
    """Every entry of the first axis."""
    kinds: dict[str, dict[str, tuple[str, ...]]] = {name: {} for name in ELICITATION}
    for name, parts in kinds.items():
        if found := tuple(teacher for teacher in TEACHERS.files() if elicitation_of(teacher) == name):
            parts["teachers"] = found
    kinds["curation"]["selections"] = tuple(SELECTIONS.files())
    kinds["feedback"]["steps"] = tuple(name for name in STEPS.files() if name == "feedback")
    return [Covered(name, meaning, kinds[name]) for name, meaning in ELICITATION.items()]


def algorithms() -> list[Covered]:
    """Every entry of the second axis."""
    found = {name: tuple(loss for loss in LOSSES.files() if algorithm_of(loss) == name) for name in ALGORITHMS}
    return [Covered(name, meaning, {"losses": found[name]} if found[name] else {}) for name, meaning in ALGORITHMS.items()]


def cells(recipe: Mapping[str, Any]) -> set[tuple[str, str]]:
    """The pairs of elicitation and algorithm that a resolved recipe trains; `labels` where a term has no teacher.

    Args:
        recipe: as plain values.
    """
    single = {"teacher": recipe["teacher"]} if recipe.get("teacher") else {}
    teachers = {**single, **(recipe.get("teachers") or {})}
    found: set[tuple[str, str]] = set()
    for term in _terms(recipe):
        loss, source = str(term.get("loss")), str(term.get("from") or term.get("from_") or "teacher")
        if loss not in LOSSES.files():
            continue
        algorithm = algorithm_of(loss)
        kind = (teachers.get(source) or {}).get("kind", "frozen")
        found.add(("labels" if algorithm == "supervised fine-tuning" else elicitation_of(kind), algorithm))
    return found | {(kind, algorithm) for kind in beside(recipe) for _, algorithm in found}


def beside(recipe: Mapping[str, Any]) -> list[str]:
    """How knowledge is elicited in a resolved recipe besides by its teachers: `feedback` by its steps, `curation` by what it
    selects, or has a model write and verifies."""
    owners = [recipe, *(stage or {} for stage in (recipe.get("stages") or {}).values())]
    feedback = any("feedback" in str((owner.get("train") or {}).get("step") or "") for owner in owners)
    chosen = any((owner.get("data") or {}).get("select") or (owner.get("data") or {}).get("rollouts") for owner in owners)
    return [*(["feedback"] if feedback else []), *(["curation"] if chosen else [])]


def _terms(recipe: Mapping[str, Any]) -> Iterable[Mapping[str, Any]]:
    """All terms, of the recipe and of its stages."""
    stages = [stage or {} for stage in (recipe.get("stages") or {}).values()]
    for owner in (recipe, *stages):
        yield from (term for term in (owner.get("objective") or {}).values() if isinstance(term, Mapping))
