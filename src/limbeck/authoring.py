"""What a teacher writes, taken down as data: its answers to prompts, or texts from nothing. `limbeck generate --out`.

A student that learns these texts by cross-entropy is distilled on the level of sequences, which needs no probabilities and no common
tokenizer. Reference: Kim and Rush, "Sequence-Level Knowledge Distillation", EMNLP 2016, arXiv:1606.07947.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from .data.sources.jsonl import Jsonl
from .errors import DataError, did_you_mean
from .teachers._server import Server

BATCH = 64
"""Questions that are asked and written down together."""
COLUMNS = ("messages", "prompt", "instruction", "question", "query", "input", "source", "text")
"""Where prompts are looked for where no column is named, the first of these that a file has."""


@dataclass(frozen=True)
class Question:
    """What a teacher goes on from: a text, the turns of a chat up to its own, or nothing."""

    prompt: str = ""
    messages: tuple[Mapping[str, Any], ...] = ()

    @property
    def key(self) -> str:
        """By which a question is known in a file that was begun."""
        return json.dumps([*self.messages] or self.prompt, ensure_ascii=False, sort_keys=True)

    def row(self, answer: str) -> dict[str, Any]:
        """Question and answer as the data of a language model are."""
        if self.messages:
            return {"messages": [*self.messages, {"role": "assistant", "content": answer}]}
        return {"prompt": self.prompt, "completion": answer} if self.prompt else {"text": answer}

    def turns(self) -> list[Mapping[str, Any]]:
        """The same as a chat."""
        return [*self.messages] or [{"role": "user", "content": self.prompt}]


Author = Callable[[Sequence[Question]], Sequence[str | None]]
"""Answers some questions; None where an answer was cut off before its end."""


@dataclass(frozen=True)
class Written:
    """What became of the questions."""

    rows: int
    """Lines of the file."""
    asked: int
    """Questions that were asked now."""
    cut: int
    """Of these, answers that were cut off, which were left out."""
    empty: int
    """Of these, answers without a text, which were left out."""


def read_questions(path: str | Path, column: str | None = None) -> list[Question]:
    """Prompts, or chats up to their last answer, of a file with a JSON object a line.

    Args:
        path: the file (or `.gz`).
        column: which of its keys holds them; the usual one where absent.

    Raises:
        DataError: with the row, for what is neither a text nor a list of messages.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"{path}: there is no such file of prompts.")
    cells = Jsonl().load(path)
    if column is not None and column not in cells:
        raise DataError(f"{path}: no column is called {column!r}.{did_you_mean(column, cells)} Columns: {', '.join(cells)}.")
    name = column or next((name for name in COLUMNS if name in cells), None)
    if name is None:
        raise DataError(f"{path}: which column holds the prompts? Name it with --column: {', '.join(cells)}.")
    return [_question(cell, f"{path}: row {row}: {name!r}") for row, cell in enumerate(cells[name], 1)]


def _question(cell: Any, where: str) -> Question:
    if isinstance(cell, str) and cell:
        return Question(cell)
    if not isinstance(cell, list) or not all(isinstance(turn, dict) and {"role", "content"} <= turn.keys() for turn in cell):
        raise DataError(f"{where} must be a text, or a list of messages with role and content, found {type(cell).__name__}.")
    turns = cell[:-1] if cell and cell[-1]["role"] == "assistant" else cell
    if not turns or turns[-1]["role"] == "assistant":
        raise DataError(f"{where} has no turn that could be answered.")
    return Question(messages=tuple(turns))


def write_down(
    questions: Sequence[Question],
    author: Author,
    path: str | Path,
    *,
    batch: int = BATCH,
    told: Callable[[int, int], None] = lambda done, whole: None,
) -> Written:
    """Asks every question that the file does not answer yet, and adds a line for each answer.

    Called again it goes on where it ended; a line that was cut off by a kill is dropped. Answers that were cut off, or are empty, are left
    out, because a student would learn to end there; the next call asks them again.

    Raises:
        DataError: where the file holds answers to other questions.
    """
    path = Path(path)
    known = _known(path)
    left, missing = Counter(known), list[Question]()
    for question in questions:
        if left[question.key] > 0:
            left[question.key] -= 1
        else:
            missing.append(question)
    if other := next((key for key, count in left.items() if count > 0), None):
        raise DataError(f"{path}: it answers other questions already, such as {other[:80]}. Name another --out.")
    rows, cut, empty = sum(known.values()), 0, 0
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        for start in range(0, len(missing), batch):
            some = missing[start : start + batch]
            for question, answer in zip(some, author(some), strict=True):
                if answer is None or not answer.strip():
                    cut, empty = cut + (answer is None), empty + (answer is not None)
                    continue
                file.write(json.dumps(question.row(answer), ensure_ascii=False) + "\n")
                rows += 1
            file.flush()
            told(min(start + batch, len(missing)), len(missing))
    return Written(rows, len(missing), cut, empty)


def _known(path: Path) -> Counter[str]:
    """How often each question is answered; the file is cut behind its last whole line."""
    found = Counter[str]()
    if not path.exists():
        return found
    raw = path.read_bytes()
    whole = raw[: raw.rfind(b"\n") + 1]
    if len(whole) < len(raw):
        path.write_bytes(whole)
    for number, line in enumerate(whole.decode("utf-8").split("\n")[:-1], 1):
        try:
            row = json.loads(line)
            if "messages" in row:
                question = Question(messages=tuple(row["messages"][:-1]))
            else:
                question = Question("" if "text" in row else row["prompt"])
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(f"{path}:{number}: this is no line that limbeck generate wrote: {line[:60]!r}. Name another --out.") from error
        found[question.key] += 1
    return found


@dataclass(frozen=True)
class RemoteAuthor:
    """A model on a server that speaks OpenAI's protocol: `chat/completions`, or `completions` of plain texts."""

    server: Server
    served: str
    """Name of the model on the server."""
    tokens: int
    """Most tokens of an answer."""
    temperature: float = 0.0
    """0 asks for the likeliest answer; 1 samples from what the model says."""
    chat: bool = True
    """Whether prompts are put as turns of a chat."""
    further: Mapping[str, Any] = field(default_factory=dict)
    """What else is asked, such as `{"top_p": 0.9}`."""

    def __call__(self, questions: Sequence[Question]) -> Sequence[str | None]:
        """The answers, some of them under way at a time."""
        return list(self._all(questions))

    def _all(self, questions: Sequence[Question]) -> Iterator[str | None]:
        path = "chat/completions" if self.chat else "completions"
        bodies = [self._body(question) for question in questions]
        return self.server.all([partial(self.server.ask, path, body, self._read) for body in bodies])

    def _body(self, question: Question) -> dict[str, Any]:
        if not self.chat and question.messages:
            raise DataError("these prompts are chats; ask the server for chats (--chat).")
        asked = {"messages": question.turns()} if self.chat else {"prompt": question.prompt}
        return {"model": self.served, **asked, "max_tokens": self.tokens, "temperature": self.temperature, **self.further}

    def _read(self, answer: Any) -> str | None:
        choice = answer["choices"][0]
        text = choice["message"]["content"] if self.chat else choice["text"]
        if not isinstance(text, str):
            raise ValueError(f"the answer is no text but {type(text).__name__}")  # asked for again
        return None if choice.get("finish_reason") == "length" else text
