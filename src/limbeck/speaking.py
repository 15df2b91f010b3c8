"""What the models of a run write after held-out prompts: side by side for the report, and how often their answer is the right one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from .answering import PURPOSE, answers, questions, references_of
from .beginnings import as_begun, path_of
from .data.language.prompts import Asked, Prompt
from .errors import ModelError
from .evaluate.answers import exact_match
from .fusing import writer
from .session import Session

BEFORE = "before"
"""The student as its last stage began, among the models."""


@dataclass(frozen=True)
class Spoken:
    """What was written, as plain values."""

    generations: dict[str, Any] | None
    """For results.json: `tokens`, and `examples`, each with its `prompt`, `reference` and the `answers` of the models."""
    exact_match: dict[str, float]
    """Share of right answers by the name of the model; empty where none were asked for."""


def speak(session: Session, names: Sequence[str]) -> Spoken:
    """Lets the models called `names`, and the student as it began, write greedy answers; the first process does it for all."""
    wish, splits = session.recipe.evaluate, session.data()
    seen = {name: session.models[name].request.view for name in names if name in session.models}
    count = max(wish.generations, wish.prompts if wish.answer is not None else 0)
    nothing = Spoken(None, {})
    if session.task.labels != "token" or count == 0 or not session.backend.is_main:
        return nothing
    modules = [writer(session, name) for name in names]
    asked = questions(splits, splits.test, modules, count, seed=session.seed(PURPOSE), tokens=wish.tokens)
    if asked is None:
        return nothing
    written: dict[str, list[str]] = {}
    try:
        for name in names:
            if name == "student" and path_of(session.folder).exists():
                with as_begun(session):
                    written[BEFORE] = _answers(session, "student", asked)
            written[name] = _answers(session, name, asked.shown(seen.get(name)))
    except ModelError as error:  # a finished training is not lost for it
        session.listener.message(f"nothing was generated: {error}")
        return nothing
    return _compared(session, asked, written)


def _compared(session: Session, asked: Asked, written: dict[str, list[str]]) -> Spoken:
    wish, tokenizer = session.recipe.evaluate, session.data().tokenizer
    references = references_of(session.data(), asked)
    right: dict[str, float] = {}
    if wish.answer is not None:
        found = {name: exact_match(said, references, wish.answer) for name, said in written.items()}
        right = {name: share for name, share in found.items() if share is not None}
        if not right:
            session.listener.message(f"evaluate.answer: {wish.answer!r} is found in none of {len(references)} references; no exact match.")
    examples = [
        {
            "prompt": _shown(tokenizer, prompt),
            "reference": references[i],
            "answers": {name: said[i] for name, said in written.items()},
        }
        for i, prompt in enumerate(asked.prompts[: wish.generations])
    ]
    return Spoken({"tokens": wish.tokens, "examples": examples} if examples else None, right)


def _answers(session: Session, name: str, asked: Asked) -> list[str]:
    backend = session.backend
    module = writer(session, name).to(backend.device)
    with backend.autocast():
        return answers(module, session.data(), asked, session.recipe.evaluate.tokens)


def _shown(tokenizer: Any, prompt: Prompt) -> str:
    """The text of a prompt, with the marks of a chat's turns."""
    ids = prompt.ids.tolist()
    if ids[:1] == [tokenizer.bos_token_id]:
        ids = ids[1:]
    return tokenizer.decode(ids, skip_special_tokens=False)
