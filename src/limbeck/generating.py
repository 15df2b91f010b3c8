"""What the student of a run writes after prompts of the user's: `limbeck generate`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from .company import Company, members, tokenizer_of
from .data.language.load import padding_token
from .data.language.seq2seq import start_token
from .errors import RunError
from .evaluate.generation import greedy
from .export.student import load_student

WRITES = ("causal_lm", "seq2seq_lm")


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
    student = load_student(Path(run), allow_code=allow_code)
    if student.info.language not in WRITES:
        raise RunError(f"{run}: its student (task {student.card.get('task')}) writes no texts; this is for {' and '.join(WRITES)}.")
    tokenizer = tokenizer_of(student)
    module: nn.Module = student.module
    if company is not None:
        module = members(student, tokenizer, company, allow_code=allow_code).writer(student.info.num_outputs)
    reads = student.info.language == "seq2seq_lm"
    asked = [_ids(tokenizer, text, whole=reads) for text in prompts]
    said = greedy(
        module.to(device),
        asked,
        tokens=tokens,
        ends=[tokenizer.eos_token_id] if tokenizer.eos_token_id is not None else [],
        fill=padding_token(tokenizer),
        start=start_token(tokenizer, None) if reads else None,
        outputs=student.info.num_outputs,
    )
    return [_text(tokenizer, [] if reads else ids.tolist(), answer) for ids, answer in zip(asked, said, strict=True)]


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
