"""What a run found: every model judged on the test split, what they cost, how alike they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from . import assemble
from .appraisal import appraise
from .assemble import ALONE
from .beginnings import before, flips, recovered
from .config.term_schema import Alike
from .data.loader import BatchStream
from .domains import of_domains, of_parts
from .endings import endings
from .engine.evaluation import Collected
from .errors import NonFinite, ShapeMismatch
from .evaluate.cost import model_cost
from .evaluate.similarity import cka_matrix
from .fusing import fused_entries
from .rollouts import counts_of
from .session import Session
from .settling import settled
from .speaking import BEFORE, speak
from .taps.blocks import block_paths
from .taps.path import parse_tap
from .taps.suggest import with_aliases
from .taps.tapped import Tapped
from .types import labelled
from .version import __version__

SIMILARITY_EXAMPLES = 512
"""Examples on which the similarity of representations is measured."""


def collect_results(session: Session, *, command: str, source: str, started: str) -> dict[str, Any]:
    """The contents of results.json."""
    recipe, splits = session.recipe, session.data()
    known = labelled(splits.train.labels)
    said = {name: _said(session, name) for name in _judged(session)}
    teacher = next((name for name in assemble.teacher_models(recipe, allow_code=session.allow_code) if said.get(name) is not None), None)
    models = {name: _model(session, name, said, teacher) for name in said}
    for name, model in models.items():
        model.update(endings(session, name))
    models["student"]["flips"] = flips(session, said, teacher)
    _gained(session, models, teacher, said[teacher] if teacher is not None else None)
    _appraised(session, models, said, teacher)
    models |= fused_entries(session, said)
    spoken = speak(session, [name for name in models if name not in said or said[name] is not None])
    for name, share in spoken.exact_match.items():
        (models["student"]["before"] if name == BEFORE else models[name])["metrics"]["exact_match"] = share
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
        "generations": spoken.generations,
        "adapters": session.adapters,
        "similarity": similarity(session),
        "files": {"student": "student/model.safetensors", "recipe": "recipe.yaml", "metrics": "metrics.jsonl"},
    }


def _appraised(session: Session, models: dict[str, dict[str, Any]], said: Mapping[str, Collected | None], teacher: str | None) -> None:
    """Adds what the recipe asks for to the models that answer for these data."""
    able = {name: own for name, own in said.items() if own is not None and models[name]["metrics"]}
    for name, more in appraise(session, able, teacher).items():
        own = models[name]
        own["metrics"], own["cost"] = own["metrics"] | more.metrics, own["cost"] | more.cost
        if more.agreement:
            own["agreement"] = (own["agreement"] or {}) | more.agreement
        own |= more.sections


def _judged(session: Session) -> list[str]:
    """Teachers that some stage listened to (or that were trained), then peers, the student alone, and the student."""
    teachers = [name for name in assemble.teacher_models(session.recipe, allow_code=session.allow_code) if name in session.models]
    alone = [ALONE] if session.recipe.baseline else []
    return list(dict.fromkeys([*teachers, *_peers(session), *alone, "student"]))


def _peers(session: Session) -> list[str]:
    """Models that learned together with the learner of a stage."""
    return list(dict.fromkeys(name for phase in session.phases for name in phase.peers))


def _said(session: Session, name: str) -> Collected | None:
    """What a model says of the test split; None of a peer that has failed."""
    try:
        return session.collect(name, "test")
    except NonFinite:
        if name not in _peers(session):
            raise
        return None


def _stage(session: Session, item: Any) -> dict[str, Any]:
    outcome = item.outcome
    phase = next(phase for phase in session.phases if phase.name == item.name)
    plain = settled(session, phase)
    written = counts_of(plain)
    tied = {label: plain.objective[label].weight for label, term in phase.objective.items() if isinstance(term.weight, Alike)}
    monitor = phase.train.monitor or session.task.monitor

    def best(value: float | None, step: float | None) -> dict[str, Any] | None:
        return None if value is None else {"step": step, "metric": monitor, "value": value}

    peers = {
        name: {"best": best(end["best"], end["best_step"]), "failed_at": end["failed"], "reason": end["why"]}
        for name, end in outcome.peers.items()
    }
    return {
        "name": item.name,
        "learner": item.learner,
        "round": item.round,
        "train": len(session.data(plain.data).train),
        "updates": outcome.updates,
        "epochs": outcome.epochs,
        "seconds": outcome.seconds,
        "best": best(outcome.best, outcome.best_step),
        **({"weights": tied} if tied else {}),
        **({"rollouts": written} if written is not None else {}),
        **({"peers": peers} if peers else {}),
    }


def _model(session: Session, name: str, said: Mapping[str, Collected | None], teacher: str | None) -> dict[str, Any]:
    own, built = said[name], session.models[name]
    role = {"student": "distilled", ALONE: "alone"}.get(name, "peer" if name in session.recipe.models else "teacher")
    info = session.data().info.shown(built.request.view)
    example = session.task.example(info, batch=1, device=str(session.backend.device))
    if own is None or not _fits(session, own):
        return {
            "role": role,
            "reference": built.request.model,
            "metrics": {},
            "agreement": None,
            "cost": model_cost(built.module, example.inputs),
        }
    theirs = said[teacher] if teacher is not None and name != teacher else None
    matched = theirs is not None and theirs.fits(own)
    details = session.task.details(own.logits, own.labels)
    return {
        "role": role,
        "reference": built.request.model,
        "metrics": _learnt(session, name, role, session.task.report(own.logits, own.labels, own.examples))
        | of_domains(session, own)
        | of_parts(session, own),
        "agreement": session.task.agreement(own.logits, theirs.logits, own.labels) if matched and theirs else None,
        "cost": model_cost(built.module, example.inputs),
        "reliability": details.get("reliability"),
        "confusion": details.get("confusion"),
    }


def _gained(session: Session, models: dict[str, dict[str, Any]], teacher: str | None, said: Collected | None) -> None:
    """Adds to a student of language how it did before its last stage, and what share of the gap to the teacher was recovered."""
    first = before(session, said)
    if first is None:
        return
    models["student"]["before"] = first
    for name in ("student", ALONE):
        if name in models:
            models[name]["recovered"] = recovered(
                first, models[name]["metrics"], models[teacher]["metrics"] if teacher is not None else None
            )


def _learnt(session: Session, name: str, role: str, metrics: dict[str, float]) -> dict[str, float]:
    """The metrics of a model; of a teacher of some of several data sets, those of the data sets that it learnt or is asked about."""
    if role != "teacher" or not session.data().info.shares:
        return metrics
    own: set[str | None] = set()
    for phase in session.phases:
        for label, spec in phase.objective.items():
            heard = spec.from_ == name and assemble.build_term(label, spec, allow_code=session.allow_code).loss.needs.teacher
            own |= {spec.only} if heard or phase.learner == name else set()
    return {key: value for key, value in metrics.items() if key.rpartition(".")[0] in own or None in own}


def _fits(session: Session, said: Collected) -> bool:
    """Whether a model answers for the classes of these data; a teacher that only lends its features need not."""
    try:
        session.task.check_head(said.logits, session.data().info)
    except ShapeMismatch:
        return False
    return True


def similarity(session: Session) -> dict[str, Any] | None:
    """Linear CKA between the layers that the student imitated and those of its teachers, on held-out examples."""
    features = {name: _features(session, name, taps) for name, taps in _compared(session).items()}
    mine = features.pop("student", {})
    theirs = {f"{name}: {tap}" if len(features) > 1 else tap: value for name, own in features.items() for tap, value in own.items()}
    if not mine or not theirs:
        return None
    return {"student": list(mine), "teacher": list(theirs), "cka": cka_matrix(list(mine.values()), list(theirs.values()))}


def _compared(session: Session) -> dict[str, list[str]]:
    """The layers that are compared, by model: those that were compared in training, or all blocks."""
    if not session.recipe.evaluate.layers:
        return session.taps
    names = ["student", *assemble.teacher_models(session.recipe, allow_code=session.allow_code)]
    return {name: block_paths(session.models[name].module) for name in names if name in session.models}


def _features(session: Session, name: str, taps: Sequence[str]) -> dict[str, Tensor]:
    """What the layers of a model say about held-out examples, `(examples, values)` each."""
    if name not in session.models:  # a teacher without a model of its own
        return {}
    module = session.models[name].module.eval()
    layers = with_aliases(module)
    there = [tap for tap in taps if parse_tap(tap).path in layers]  # a later stage may have brought another teacher
    if not there:
        return {}
    examples = session.data().test
    rows = list(range(min(SIMILARITY_EXAMPLES, len(examples))))
    batches = BatchStream(examples, [rows[start : start + 128] for start in range(0, len(rows), 128)])
    tapped = Tapped(module, there)
    parts: list[dict[str, Tensor]] = []
    try:
        with torch.no_grad():
            for batch in batches:
                signals = session.call(name)(tapped, batch.to(session.backend.device))
                parts.append({tap: signals.features[tap].flatten(1).float().cpu() for tap in there})
    finally:
        tapped.close()
    return {tap: torch.cat([part[tap] for part in parts]) for tap in there if len({part[tap].shape[1] for part in parts}) == 1}
