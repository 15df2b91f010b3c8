"""The transparency card of a run: what was taught by whom, on what, how it was judged, what it cost, and what nobody has said.

A card has every field of `FIELDS`, so that what is missing is seen: it then says `not stated` or `not measured`.

References: the kinds of answers that a student has from its teacher are those of Xu et al., "A Survey on Knowledge Distillation of Large
Language Models", 2024, arXiv:2402.13116, section 3.1. That the openness of a distillation be listed item by item is an idea of Huang et
al., "O1 Replication Journey, Part 2", 2024, arXiv:2411.16489, whose own items are not repeated.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..survey import beside, elicitation_of

UNSAID, UNMEASURED = "not stated", "not measured"

FIELDS = {
    "purpose": "What the run is for, and the paper that it follows",
    "data": "Source, licence, how many examples to learn from, with a label, to validate and to test on",
    "preparation": "How examples were split, selected, augmented and mixed",
    "teachers": "Each teacher: what it is, where its weights come from, its size",
    "answers": "What the student had from its teachers: labels, features, texts, or of itself",
    "student": "What the student is, how it began, its size",
    "objective": "Terms, weights and settings",
    "training": "Stages, updates, optimizer, seed",
    "selection": "How the weights were picked; when the test examples were read",
    "results": "Metrics of all models on the test examples",
    "groups": "Metrics by group",
    "checks": "What else the student was checked for, and what it was not",
    "cost": "Time, size, operations, latency, energy",
    "machine": "Devices and versions",
    "repeat": "How to run it again",
    "use": "What the student may be relied on for",
}
"""The fields of every card and what they answer."""

LICENCES = {
    "sklearn:digits": "CC BY 4.0 (UCI Optical Recognition of Handwritten Digits)",
    "sklearn:strokes": "CC BY 4.0 (UCI Optical Recognition of Handwritten Digits)",
    "sklearn:iris": "CC BY 4.0 (UCI Iris)",
    "sklearn:wine": "CC BY 4.0 (UCI Wine)",
    "sklearn:breast_cancer": "CC BY 4.0 (UCI Breast Cancer Wisconsin)",
}
"""Of data that come with a library; of others the card says that it was not told."""
_SAID = {
    "self-knowledge": "self-knowledge: answers of an earlier or averaged student",
    "labelling": "labelling: answers that were written down before",
    "feature": "feature: what the teacher says of each example, read during training",
}
_BESIDE = {
    "feedback": "feedback: the teacher learns from what became of the student",
    "curation": "curation: examples that were chosen",
}
CHECKS = {
    "robustness": "robustness to corrupted inputs",
    "fairness": "groups of examples",
    "membership": "membership inference",
    "canaries": "exposure of planted secrets",
    "train": "training examples, beside those of the test split",
    "reliability": "calibration",
}
"""Entries of a model in results.json beside its metrics, and what is checked there."""


def card(results: Mapping[str, Any], recipe: Mapping[str, Any], machine: Mapping[str, Any]) -> dict[str, Any]:
    """The card of a finished run.

    Args:
        results: the contents of its results.json.
        recipe: its resolved recipe as plain values.
        machine: the contents of its environment.json.
    """
    about, data, found = results["about"], recipe["data"], results["models"]
    teachers = {name: spec for name, spec in {"teacher": recipe.get("teacher"), **(recipe.get("teachers") or {})}.items() if spec}
    counts = {key: results["data"][key] for key in ("train", "labelled", "valid", "test") if key in results["data"]}
    groups = {name: model["fairness"] for name, model in found.items() if model.get("fairness")}
    return {
        "purpose": {key: about.get(key) or UNSAID for key in ("title", "claim", "paper", "notes")},
        "data": {"source": data["source"], "licence": LICENCES.get(data["source"], UNSAID), **counts},
        "preparation": {
            **{
                key: data[key]
                for key in ("split", "label_fraction", "wrong", "select", "rollouts", "transforms", "mix", "pool")
                if data.get(key)
            },
            "notes": results["data"].get("notes", []),
        },
        "teachers": {name: _model(spec, found.get(name)) for name, spec in teachers.items()} or "none",
        "answers": _answers(recipe, teachers),
        "student": _model(recipe["student"], found.get("student")),
        "objective": {stage["name"]: _terms(recipe, stage["name"]) for stage in results["stages"]},
        "training": {
            "seed": results["seed"],
            "stages": [{key: stage.get(key) for key in ("name", "learner", "updates", "epochs", "seconds")} for stage in results["stages"]],
            "optimizer": (recipe.get("train") or {}).get("optimizer") or UNSAID,
        },
        "selection": {
            "weights": (recipe.get("train") or {}).get("select", "best"),
            "validation_examples": counts.get("valid", 0),
            "test": "read once, when training was over",
        },
        "results": {name: model.get("metrics", {}) for name, model in found.items()},
        "groups": groups or UNMEASURED,
        "checks": {text: "measured" if found.get("student", {}).get(key) else UNMEASURED for key, text in CHECKS.items()},
        "cost": {
            "seconds": results["seconds"],
            "models": {name: model.get("cost", {}) for name, model in found.items()},
            "energy": _energy(found),
        },
        "machine": dict(machine),
        "repeat": {"command": results["command"], "recipe": results["recipe"], "limbeck": results["limbeck"]},
        "use": "Judged on the test examples of these data only. Nothing is known of other data, groups that were not measured, or misuse.",
    }


def _model(spec: Mapping[str, Any], found: Mapping[str, Any] | None) -> dict[str, Any]:
    cost = (found or {}).get("cost", {})
    return {
        "model": spec.get("model") or spec.get("kind") or UNSAID,
        "args": spec.get("args") or {},
        "weights": str(spec.get("weights") or spec.get("stored") or "trained in this run, or of the student"),
        "parameters": cost.get("parameters", UNMEASURED),
    }


def _answers(recipe: Mapping[str, Any], teachers: Mapping[str, Any]) -> list[str]:
    """Kinds of knowledge that the student had."""
    kinds = {"labelling" if spec.get("stored") else elicitation_of(str(spec.get("kind") or "frozen")) for spec in teachers.values()}
    said = [text for kind, text in _SAID.items() if kind in kinds]
    if recipe.get("peers"):
        said.append("self-knowledge: answers of peers that learn in the same updates")
    said += [_BESIDE[kind] for kind in beside(recipe)]
    return said or ["none: the labels alone"]


def _terms(recipe: Mapping[str, Any], stage: str) -> Any:
    own = (recipe.get("stages") or {}).get(stage) or {}
    return own.get("objective") or recipe.get("objective") or UNSAID


def _energy(found: Mapping[str, Any]) -> Any:
    """Joules an example, of the models of which they were counted."""
    known = {name: joules for name, model in found.items() if (joules := model.get("cost", {}).get("energy_j")) is not None}
    return known or UNMEASURED


def markdown(content: Mapping[str, Any]) -> str:
    """The card as text."""
    lines = ["# Transparency card", ""]
    for name, question in FIELDS.items():
        lines += [f"## {name.capitalize()}", "", f"*{question}.*", "", *_listed(content[name], 0), ""]
    return "\n".join(lines)


def _listed(value: Any, depth: int) -> list[str]:
    """A value as lines of nested lists."""
    indent = "  " * depth
    if isinstance(value, Mapping) and value:
        lines: list[str] = []
        for key, inner in value.items():
            if isinstance(inner, Mapping | list) and inner:
                lines += [f"{indent}- {key}:", *_listed(inner, depth + 1)]
            else:
                lines.append(f"{indent}- {key}: {_short(inner)}")
        return lines
    if isinstance(value, list) and value:
        return [line for item in value for line in (_listed(item, depth) if isinstance(item, Mapping) else [f"{indent}- {_short(item)}"])]
    return [f"{indent}- {_short(value)}"]


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return "none" if value is None or value in ([], {}) else str(value)
