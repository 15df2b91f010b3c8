"""What is left of a finished run for use: the folder `student/`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from . import assemble
from .files import write_json, write_text
from .models.base import BuiltModel
from .models.checkpoints import save_weights
from .models.sources.hf import configuration_of
from .session import Session


def hand_over(session: Session, folder: Path) -> None:
    """Writes the student: its weights, its card, and of a model of transformers its configuration and its tokenizer.

    With these, `from_pretrained` reads the folder, and nothing that the student was made from is needed again.
    """
    module = session.models["student"].module
    save_weights(module, folder / "model.safetensors")
    write_json(folder / "model.json", student_card(session))
    tokenizer = session.data().tokenizer
    special = _special(tokenizer) if tokenizer is not None else {}
    for name, text in configuration_of(module, special, None if tokenizer is None else len(tokenizer)).items():
        write_text(folder / name, text)
    if tokenizer is not None:
        tokenizer.save_pretrained(folder)


def _special(tokenizer: Any) -> dict[str, int | None]:
    return {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}


def _added(built: BuiltModel) -> dict[str, Any]:
    """What is to be known of a prompt, or of a lazy model, to build the model again."""
    prompt, lazy = built.request.prompt, built.request.lazy
    own: dict[str, Any] = {} if prompt is None else {"prompt": {"length": prompt.length, "kind": prompt.kind}}
    return own if lazy is None else {**own, "lazy": lazy}


def student_card(session: Session) -> dict[str, Any]:
    """The contents of student/model.json."""
    built, recipe = session.models["student"], session.recipe
    info = session.data().info.shown(built.request.view)
    norm = built.normalization
    text = {"tokenizer": recipe.data.tokenizer or assemble.own_tokenizer(recipe.student), "max_length": recipe.data.max_length}
    return {
        "format": 1,
        "task": recipe.task,
        "model": {"model": built.request.model, "args": dict(built.request.args), **_added(built)},
        "normalization": {"mean": list(norm.mean), "std": list(norm.std)} if norm else None,
        "data": {
            "kind": info.kind,
            "labels": info.labels,
            "num_outputs": info.num_outputs,
            "language": info.language,
            "input_shape": list(info.input_shape),
            "class_names": list(info.class_names),
            "mean": list(info.mean) if info.mean else None,
            "std": list(info.std) if info.std else None,
        },
        "text": text if info.kind == "text" else None,
    }
