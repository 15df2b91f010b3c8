"""What the models of a run write after held-out prompts: side by side for the report, and how often their answer is the right one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from .beginnings import as_begun, path_of
from .data.language.load import padding_token
from .data.language.prompts import Asked, Prompt, prompts_of
from .errors import ModelError
from .evaluate.answers import exact_match
from .evaluate.generation import greedy, positions
from .fusing import writer
from .session import Session

BEFORE = "before"
"""The student as its last stage began, among the models."""
_SHORTEST = 8
"""Tokens that are left for an answer at least, where a model has no more positions."""


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
    count = max(wish.generations, wish.prompts if wish.answer is not None else 0)
    nothing = Spoken(None, {})
    if session.task.labels != "token" or count == 0 or not session.backend.is_main:
        return nothing
    limits = [limit for name in names if (limit := positions(writer(session, name))) is not None]
    longest = max(min([splits.info.input_shape[0], *(limit - min(wish.tokens, _SHORTEST) for limit in limits)]), 1)
    asked = prompts_of(splits.test, count, seed=session.seed("generations"), tokens=wish.tokens, longest=longest)
    if asked is None or not asked.prompts:
        return nothing
    answers: dict[str, list[str]] = {}
    try:
        for name in names:
            if name == "student" and path_of(session.folder).exists():
                with as_begun(session):
                    answers[BEFORE] = _answers(session, "student", asked, wish.tokens)
            answers[name] = _answers(session, name, asked, wish.tokens)
    except ModelError as error:  # a finished training is not lost for it
        session.listener.message(f"nothing was generated: {error}")
        return nothing
    return _compared(session, asked, answers)


def _compared(session: Session, asked: Asked, answers: dict[str, list[str]]) -> Spoken:
    wish, tokenizer = session.recipe.evaluate, session.data().tokenizer
    references = [_text(tokenizer, asked, prompt, prompt.reference.tolist()) for prompt in asked.prompts]
    right: dict[str, float] = {}
    if wish.answer is not None:
        found = {name: exact_match(said, references, wish.answer) for name, said in answers.items()}
        right = {name: share for name, share in found.items() if share is not None}
        if not right:
            session.listener.message(f"evaluate.answer: {wish.answer!r} is found in none of {len(references)} references; no exact match.")
    examples = [
        {
            "prompt": _shown(tokenizer, prompt),
            "reference": references[i],
            "answers": {name: said[i] for name, said in answers.items()},
        }
        for i, prompt in enumerate(asked.prompts[: wish.generations])
    ]
    return Spoken({"tokens": wish.tokens, "examples": examples} if examples else None, right)


def _answers(session: Session, name: str, asked: Asked, tokens: int) -> list[str]:
    splits, backend = session.data(), session.backend
    module = writer(session, name).to(backend.device)
    with backend.autocast():
        said = greedy(
            module,
            [prompt.ids for prompt in asked.prompts],
            tokens=tokens,
            ends=_ends(splits.tokenizer, asked.prompts),
            fill=padding_token(splits.tokenizer),
            start=asked.start,
            outputs=splits.info.num_outputs,
        )
    return [_text(splits.tokenizer, asked, prompt, ids) for prompt, ids in zip(asked.prompts, said, strict=True)]


def _ends(tokenizer: Any, prompts: Sequence[Prompt]) -> list[int]:
    """The end token, and the special tokens with which references end, such as that of a turn in a chat."""
    special = set(tokenizer.all_special_ids)
    final = {int(prompt.reference[-1]) for prompt in prompts if len(prompt.reference)}
    return sorted({token for token in (tokenizer.eos_token_id,) if token is not None} | (final & special - {tokenizer.unk_token_id}))


def _text(tokenizer: Any, asked: Asked, prompt: Prompt, ids: list[int]) -> str:
    """The text of tokens that follow a prompt; tokenizers leave out the first space of a text, so they are given the prompt, too."""
    before = prompt.ids.tolist() if asked.start is None else []
    first = tokenizer.decode(before, skip_special_tokens=True)
    whole = tokenizer.decode([*before, *ids], skip_special_tokens=True)
    return whole[len(first) :] if whole.startswith(first) else tokenizer.decode(ids, skip_special_tokens=True)


def _shown(tokenizer: Any, prompt: Prompt) -> str:
    """The text of a prompt, with the marks of a chat's turns."""
    ids = prompt.ids.tolist()
    if ids[:1] == [tokenizer.bos_token_id]:
        ids = ids[1:]
    return tokenizer.decode(ids, skip_special_tokens=False)
