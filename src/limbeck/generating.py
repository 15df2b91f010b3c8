"""What the student of a run, or any model, writes after prompts: `limbeck generate`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from .assemble import own_tokenizer
from .authoring import Question
from .company import Company, members, tokenizer_of
from .config.model_schema import ModelSpec
from .data.language.seq2seq import start_token
from .data.language.vocabulary import padding_token, size_of
from .data.text import load_tokenizer
from .errors import RunError
from .evaluate.generation import Manner, drafts
from .export.student import load_student
from .models.base import ModelRequest
from .models.build import build_model, is_local_code
from .types import WRITES, DataInfo


def generate(
    run: str | Path,
    prompts: Sequence[str],
    *,
    tokens: int = 64,
    company: Company | None = None,
    device: str = "cpu",
    allow_code: bool = False,
) -> list[str]:
    """What the student writes after each prompt, always the likeliest token.

    Args:
        run: a finished run of a language model.
        prompts: texts; each is read with what the tokenizer puts before a text, such as `<s>`, and none of what it puts behind.
        tokens: most tokens that are written.
        company: a large model that the student steers, and what the student was before it learnt; the student alone where absent.
        device: where.
        allow_code: whether a student that is code of the user's own may be imported.

    Raises:
        RunError: where the run holds no student that writes texts.
        ShapeMismatch: where those that write together have not one vocabulary.
    """
    writer = writer_of_run(run, tokens=tokens, company=company, device=device, allow_code=allow_code)
    return [answer.text for answer in writer.answers(prompts)]


@dataclass(frozen=True)
class Answer:
    """What was written after a prompt."""

    text: str
    cut: bool
    """Whether it ended because no more tokens were allowed."""


@dataclass
class Writer:
    """A model with its tokenizer. Called with questions it is an author (`limbeck.authoring`)."""

    module: nn.Module
    tokenizer: Any
    outputs: int
    """How many tokens the tokenizer has."""
    tokens: int = 64
    """Most tokens that are written."""
    temperature: float = 0.0
    """0 takes always the likeliest token; 1 draws from what the model says."""
    top_k: int | None = None
    """Draw from so many of the likeliest tokens; from all where absent."""
    seed: int = 0
    """Of the draws; that of each further call is one more."""
    reads: bool = False
    """Whether it is an encoder-decoder."""
    chat: bool = False
    """Whether prompts are put as turns of a chat, by the tokenizer's template."""

    def __call__(self, questions: Sequence[Question]) -> list[str | None]:
        """The answers; None where one was cut off. Texts from nothing have no end that they could miss."""
        said = self._said([self._asked(question) for question in questions])
        return [
            None if answer.cut and (question.prompt or question.messages) else answer.text
            for question, answer in zip(questions, said, strict=True)
        ]

    def answers(self, prompts: Sequence[str]) -> list[Answer]:
        """What is written after each prompt."""
        return self._said([self._asked(Question(prompt)) for prompt in prompts])

    def _asked(self, question: Question) -> torch.Tensor:
        if question.messages or (self.chat and question.prompt):
            return _turns(self.tokenizer, question)
        return _ids(self.tokenizer, question.prompt, whole=self.reads)

    def _said(self, asked: list[torch.Tensor]) -> list[Answer]:
        tokenizer = self.tokenizer
        manner = Manner(
            self.tokens,
            temperature=self.temperature,
            top_k=self.top_k,
            seed=self.seed,
            ends=[tokenizer.eos_token_id] if tokenizer.eos_token_id is not None else [],
            fill=padding_token(tokenizer),
            start=start_token(tokenizer, None) if self.reads else None,
            outputs=self.outputs,
        )
        said = [draft.ids for draft in drafts(self.module, asked, manner)]
        self.seed += 1
        pairs = zip(asked, said, strict=True)
        return [Answer(_text(tokenizer, [] if self.reads else ids.tolist(), own), len(own) >= self.tokens) for ids, own in pairs]


def writer_of_run(
    run: str | Path, *, tokens: int = 64, company: Company | None = None, device: str = "cpu", allow_code: bool = False
) -> Writer:
    """The student of a finished run, by itself or with the company that it steers.

    Raises:
        RunError: where the run holds no student that writes texts.
        ShapeMismatch: where those that write together have not one vocabulary.
    """
    student = load_student(Path(run), allow_code=allow_code)
    if student.info.language not in WRITES:
        raise RunError(f"{run}: its student (task {student.card.get('task')}) writes no texts; this is for {' and '.join(WRITES)}.")
    tokenizer = tokenizer_of(student)
    module: nn.Module = student.module
    if company is not None:
        module = members(student, tokenizer, company, allow_code=allow_code).writer(student.info.num_outputs)
    reads = student.info.language == "seq2seq_lm"
    return Writer(module.to(device), tokenizer, student.info.num_outputs, tokens=tokens, reads=reads)


def writer_of_model(reference: str, tokenizer: str | None, *, tokens: int = 64, device: str = "cpu", allow_code: bool = False) -> Writer:
    """A model by reference, such as `hf:FOLDER`, that predicts the next token, with its own weights.

    Args:
        reference: of the model.
        tokenizer: hub id or folder; the model's own where absent.
        tokens: most tokens that are written.
        device: where.
        allow_code: whether a model that is code of the user's own may be imported.

    Raises:
        LimbeckError: where it, or its tokenizer, cannot be loaded.
    """
    own = load_tokenizer(tokenizer or own_tokenizer(ModelSpec(model=reference)))
    info = DataInfo("text", "token", size_of(own), (1,), language="causal_lm")
    request = ModelRequest(reference, weights=None if is_local_code(reference) else "pretrained", dtype="auto")
    built = build_model(request, info, allow_code=allow_code)
    return Writer(built.module.to(device), own, info.num_outputs, tokens=tokens)


def _turns(tokenizer: Any, question: Question) -> torch.Tensor:
    """A chat by the tokenizer's template, up to where the answer begins."""
    if not tokenizer.chat_template:
        raise RunError("these prompts are chats, and the tokenizer has no chat template. Give texts, or another tokenizer.")
    ids = tokenizer.apply_chat_template(question.turns(), add_generation_prompt=True, return_dict=False)
    return torch.tensor(ids)


def _ids(tokenizer: Any, text: str, *, whole: bool) -> torch.Tensor:
    from .data.language.encode import own_ends

    around = own_ends(tokenizer)
    body = tokenizer(text, add_special_tokens=False)["input_ids"]
    ids = [*around.before, *body, *(around.after if whole else [])]
    if not ids:
        raise RunError("a prompt has no tokens: give at least one character.")
    return torch.tensor(ids)


def _text(tokenizer: Any, before: list[int], ids: list[int]) -> str:
    """The text of tokens that follow others, whose first space a tokenizer would leave out by itself."""
    first = tokenizer.decode(before, skip_special_tokens=True) if before else ""
    whole = tokenizer.decode([*before, *ids], skip_special_tokens=True)
    return whole[len(first) :] if whole.startswith(first) else tokenizer.decode(ids, skip_special_tokens=True)
