"""Replies that a model has written for the training questions (`data.rollouts`): the file of them, and how they take the data's place."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import DataError
from ...files import write_text
from .columns import Records
from .encode import text_in

RIGHT, WRONG = "right", "wrong"
"""Columns that views may name: a right and a wrong reply that the model has written."""


@dataclass(frozen=True)
class Written:
    """A question that is kept."""

    row: int
    """Of the source."""
    prompt: str
    completion: str
    """The reply that is trained."""
    right: str
    wrong: str
    """Empty where all replies are right, or nobody looked."""


def write_replies(path: Path, replies: Iterable[Written]) -> None:
    """Writes the questions that are kept, a JSON object a line; the file appears as a whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, "".join(json.dumps(vars(reply), ensure_ascii=False) + "\n" for reply in replies))


def read_replies(path: Path) -> list[Written]:
    """The questions in a file.

    Raises:
        DataError: where there is none, or not one of these.
    """
    try:
        lines = path.read_text(encoding="utf-8").split("\n")  # a text may hold other line breaks
    except OSError as error:
        raise DataError(f"data.rollouts.file: {path} cannot be read: {error.strerror}.") from None
    found: list[Written] = []
    for number, line in enumerate(lines[: None if lines[-1] else -1], 1):
        try:
            reply = Written(**json.loads(line))
            if type(reply.row) is not int or not all(isinstance(text, str) for name, text in vars(reply).items() if name != "row"):
                raise TypeError
        except (ValueError, TypeError):
            text = f"{path}:{number}: expected a line that a run has written, with row, prompt, completion, right and wrong"
            raise DataError(f"data.rollouts.file: {text}; found {line[:60]!r}.") from None
        found.append(reply)
    return found


def questions_in(own: Records, rows: Sequence[int]) -> dict[int, tuple[str, str]]:
    """Prompt and reply of some rows, as they stand in the data."""
    return {row: (text_in(own, "prompt", row), text_in(own, "completion", row)) for row in rows}


def with_replies(
    own: Records, cells: Mapping[str, Sequence[Any]], train: NDArray[np.int64], file: str | None
) -> tuple[Records, Mapping[str, Sequence[Any]], NDArray[np.int64]]:
    """The data with what a model has written in the place of the training replies, and the columns `right` and `wrong`.

    Where nothing is written, as in what is held out, `right` is the data's own reply and `wrong` that of another row. Training rows
    without a line in the file are left out.

    Args:
        own: what is in the rows of the source.
        cells: the columns of the source.
        train: rows that are trained.
        file: what was written; None before anything is.

    Returns:
        Records, columns and training rows.

    Raises:
        DataError: where the data are no prompts with replies, or the file is of other questions.
    """
    if own.kind != "prompt":
        raise DataError(
            "data.rollouts: replies are written after prompts, and these texts are "
            f"{'chats' if own.kind == 'chat' else 'no prompts with completions'}. Name the columns of both: "
            "data.columns: {prompt: NAME, completion: NAME}."
        )
    for name in (RIGHT, WRONG):
        if name in cells:
            raise DataError(f"data.rollouts: the column {name!r} is for what is written, and {own.where} has one of that name. Rename it.")
    replies = list(own.cells["completion"])
    columns = {RIGHT: list(replies), WRONG: _others(replies)}
    if file is None:
        return own, {**cells, **columns}, train
    known = set(train.tolist())
    rows: list[int] = []
    for written in read_replies(Path(file)):
        if written.row not in known or text_in(own, "prompt", written.row) != written.prompt:
            raise DataError(
                f"data.rollouts.file: {file} is of other training questions, such as {written.prompt[:60]!r} in row {written.row + 1}. "
                "Compare data.source, data.split and data.limit, or write anew."
            )
        rows.append(written.row)
        replies[written.row] = written.completion
        columns[RIGHT][written.row], columns[WRONG][written.row] = written.right, written.wrong
    if not rows:
        raise DataError(f"data.rollouts.file: {file} holds no question.")
    return replace(own, cells={**own.cells, "completion": replies}), {**cells, **columns}, np.array(sorted(rows), dtype=np.int64)


def _others(replies: Sequence[Any]) -> list[Any]:
    """For every reply the next one that differs, from the first again behind the last; itself where all are alike."""
    found = list(replies)
    following: Any = next((reply for reply in replies if reply and reply != replies[-1]), None) if replies else None
    for place in reversed(range(len(replies))):
        if following is not None:
            found[place] = following
        if place and replies[place] and replies[place - 1] != replies[place]:
            following = replies[place]
    return found
