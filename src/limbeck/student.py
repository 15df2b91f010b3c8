"""The exported student: a card that says what it is, and how to get it back."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .errors import RunError
from .files import read_json
from .models.base import BuiltModel, ModelRequest, Normalization
from .models.build import build_model
from .session import Session
from .types import DataInfo


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


def load_student(run: Path, *, allow_code: bool) -> tuple[BuiltModel, Mapping[str, Any]]:
    """The student of a finished run with its weights, and its card.

    Raises:
        RunError: where the run holds no student.
    """
    card_file, weights = run / "student" / "model.json", run / "student" / "model.safetensors"
    if not card_file.exists() or not weights.exists():
        raise RunError(f"{run}: holds no student; it is written when a run is finished. Finish it: limbeck run {run} --resume")
    card = read_json(card_file)
    return built_from_card(card, weights, allow_code=allow_code), card


def built_from_card(card: Mapping[str, Any], weights: Path, *, allow_code: bool) -> BuiltModel:
    """A student from its card and a file of weights."""
    norm = card["normalization"]
    normalize: Any = Normalization(tuple(norm["mean"]), tuple(norm["std"])) if norm else "none"
    request = ModelRequest(card["model"]["model"], str(weights), args=card["model"]["args"], normalize=normalize)
    return build_model(request, info_from_card(card), allow_code=allow_code)


def info_from_card(card: Mapping[str, Any]) -> DataInfo:
    """What the student was trained on."""
    data = card["data"]
    return DataInfo(
        kind=data["kind"],
        labels=data["labels"],
        num_outputs=data["num_outputs"],
        input_shape=tuple(data["input_shape"]),
        class_names=tuple(data["class_names"]),
        mean=tuple(data["mean"]) if data["mean"] else None,
        std=tuple(data["std"]) if data["std"] else None,
    )
