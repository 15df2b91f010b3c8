"""What a run found: every model judged on the test split, what they cost, how alike they are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from . import assemble
from .assemble import ALONE
from .data.loader import BatchStream
from .engine.evaluation import Collected
from .evaluate.cost import model_cost
from .evaluate.similarity import cka_matrix
from .session import Session
from .taps.tapped import Tapped
from .types import labelled
from .version import __version__

SIMILARITY_EXAMPLES = 512
"""Examples on which the similarity of representations is measured."""


def collect_results(session: Session, *, command: str, source: str, started: str) -> dict[str, Any]:
    """The contents of results.json."""
    recipe, splits = session.recipe, session.data()
    known = labelled(splits.train.labels)
    said = {name: session.collect(name, "test") for name in _judged(session)}
    teacher = next((name for name in said if name not in ("student", ALONE)), None)
    models = {name: _model(session, name, said, teacher) for name in said}
    return {
        "format": 1,
        "limbeck": __version__,
        "task": recipe.task,
        "about": recipe.about.model_dump(),
        "command": command,
        "recipe": source,
        "seed": recipe.seed,
        "started": started,
        "seconds": session.journal.seconds,
        "status": "finished",
        "data": {
            "source": recipe.data.source,
            "train": len(splits.train),
            "labelled": int(known.sum()),
            "valid": len(splits.valid) if splits.valid is not None else 0,
            "test": len(splits.test),
            "classes": list(splits.info.class_names),
            "notes": list(splits.notes),
        },
        "stages": [_stage(session, item) for item in session.done],
        "models": models,
        "adapters": session.adapters,
        "similarity": similarity(session, teacher) if teacher else None,
        "files": {"student": "student/model.safetensors", "recipe": "recipe.yaml", "metrics": "metrics.jsonl"},
    }


def _judged(session: Session) -> list[str]:
    """Teachers that some stage listened to (or that were trained), then the student alone, then the student."""
    teachers = [name for name in assemble.teacher_specs(session.recipe) if name in session.models]
    alone = [ALONE] if session.recipe.baseline else []
    return [*teachers, *alone, "student"]


def _stage(session: Session, item: Any) -> dict[str, Any]:
    outcome = item.outcome
    phase = next(phase for phase in session.phases if phase.name == item.name)
    monitor = phase.train.monitor or session.task.monitor
    best = None if outcome.best is None else {"step": outcome.best_step, "metric": monitor, "value": outcome.best}
    return {
        "name": item.name,
        "learner": item.learner,
        "round": item.round,
        "updates": outcome.updates,
        "epochs": outcome.epochs,
        "seconds": outcome.seconds,
        "best": best,
    }


def _model(session: Session, name: str, said: Mapping[str, Collected], teacher: str | None) -> dict[str, Any]:
    own, built = said[name], session.models[name]
    role = {"student": "distilled", ALONE: "alone"}.get(name, "teacher")
    matched = teacher is not None and name != teacher and said[teacher].logits.shape == own.logits.shape
    example = session.task.example(session.data().info, batch=1, device=str(session.backend.device))
    details = session.task.details(own.logits, own.labels)
    return {
        "role": role,
        "reference": built.request.model,
        "metrics": session.task.report(own.logits, own.labels),
        "agreement": session.task.agreement(own.logits, said[teacher].logits, own.labels) if matched and teacher else None,
        "cost": model_cost(built.module, example.inputs),
        **details,
    }


def similarity(session: Session, teacher: str) -> dict[str, Any] | None:
    """Linear CKA between the layers that the student imitated and those of the teacher, on held-out examples."""
    student_taps, teacher_taps = session.taps["student"], session.taps["teacher"]
    if not student_taps or not teacher_taps:
        return None
    examples = session.data().test
    rows = list(range(min(SIMILARITY_EXAMPLES, len(examples))))
    batches = BatchStream(examples, [rows[start : start + 128] for start in range(0, len(rows), 128)])
    features: dict[str, list[torch.Tensor]] = {}
    for name, taps in (("student", student_taps), (teacher, teacher_taps)):
        module = session.models[name].module.eval()
        tapped = Tapped(module, taps)
        try:
            parts: list[list[torch.Tensor]] = [[] for _ in taps]
            with torch.no_grad():
                for batch in batches:
                    signals = session.call(name)(tapped, batch.to(session.backend.device))
                    for part, tap in zip(parts, taps, strict=True):
                        part.append(signals.features[tap].flatten(1).float().cpu())
            features[name] = [torch.cat(part) for part in parts]
        finally:
            tapped.close()
    return {"student": student_taps, "teacher": teacher_taps, "cka": cka_matrix(features["student"], features[teacher])}


def student_card(session: Session) -> dict[str, Any]:
    """The contents of student/model.json."""
    built, info, recipe = session.models["student"], session.data().info, session.recipe
    norm = built.normalization
    text = {"tokenizer": recipe.data.tokenizer or recipe.student.model.removeprefix("hf:"), "max_length": recipe.data.max_length}
    return {
        "format": 1,
        "task": recipe.task,
        "model": {"model": built.request.model, "args": dict(built.request.args)},
        "normalization": {"mean": list(norm.mean), "std": list(norm.std)} if norm else None,
        "data": {
            "kind": info.kind,
            "labels": info.labels,
            "num_outputs": info.num_outputs,
            "input_shape": list(info.input_shape),
            "class_names": list(info.class_names),
            "mean": list(info.mean) if info.mean else None,
            "std": list(info.std) if info.std else None,
        },
        "text": text if info.kind == "text" else None,
    }
