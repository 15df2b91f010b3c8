"""Questions whose answers are spans of a text."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, final

import torch
from torch import Tensor

from ...errors import DataError
from ...types import Batch
from .columns import Records
from .documents import Collector
from .encode import EMPTY, WINDOWS, Tally, text_in
from .rows import Key, LanguageExamples, TokenRows, epoch_of

_AT_ONCE = 256
"""Questions that are tokenised in one call."""
CUT_ANSWERS = "whose answer lies in no window as a whole"


def answer_in(records: Records, row: int) -> tuple[int, int] | None:
    """Where the first answer of a row begins and ends in its context, in characters; None where the question has none.

    Answers are those of SQuAD, `{text: [...], answer_start: [...]}` or a list of `{text, answer_start}`; or a text with its place in the
    column `answer_start`, which may be left out where the text occurs once.

    Raises:
        DataError: it is none of these, or does not stand there.
    """
    cell, context = records.cells["answers"][row], text_in(records, "context", row)
    text, start = _first(cell, records, row)
    if text is None:
        return None
    where = f"{records.where}: row {row + 1}: the answer {text[:40]!r}"
    if start is None and "answer_start" in records.cells:
        start = records.cells["answer_start"][row]
    if start is None:
        if context.count(text) != 1:
            raise DataError(f"{where} occurs {context.count(text)} times in its context. Say which by a column answer_start.")
        start = context.index(text)
    place = int(start) if isinstance(start, int | float | str) and str(start).removesuffix(".0").isdigit() else -1
    if place < 0 or context[place : place + len(text)] != text:
        raise DataError(f"{where} does not stand at {start!r} in its context, counted in characters from 0.")
    return place, place + len(text)


def _first(cell: Any, records: Records, row: int) -> tuple[str | None, Any]:
    """Text and place of the first answer; no text where there is none, no place where it is not said."""
    if isinstance(cell, Mapping) and isinstance(cell.get("text"), list | tuple):
        starts = cell.get("answer_start") or [None]
        cell = {"text": cell["text"][0], "answer_start": starts[0]} if cell["text"] else None
    elif isinstance(cell, list | tuple):
        cell = cell[0] if cell else None
    if isinstance(cell, Mapping) and isinstance(cell.get("text"), str):
        return cell["text"] or None, cell.get("answer_start")
    if cell is None or isinstance(cell, str):
        return cell or None, None
    raise DataError(
        f"{records.where}: row {row + 1}: {records.names['answers']!r} must be a text, or text and answer_start, found {str(cell)[:40]!r}."
    )


class Windows:
    """What is known of every window beside its tokens."""

    def __init__(self) -> None:
        self.labels: list[tuple[int, int]] = []
        """First and last token of the answer; the first token of all where the window holds none."""
        self.contexts: list[tuple[int, int]] = []
        """First token of the context, and the one after its last."""
        self.types: list[list[int]] = []
        """Of tokenizers that tell question and context apart."""


def encode_answers(
    records: Records, rows: Sequence[int], tokenizer: Any, max_length: int, stride: int, into: Collector, tally: Tally
) -> Windows:
    """Questions with their contexts, in windows of the context that repeat `stride` tokens.

    Raises:
        DataError: answers that do not stand in their context, or a question that leaves no room for it.
    """
    if not tokenizer.is_fast:
        raise DataError("spans need a fast tokenizer (tokenizer.json), which says where its tokens stand in the text.")
    known = Windows()
    for begin in range(0, len(rows), _AT_ONCE):
        part = rows[begin : begin + _AT_ONCE]
        filled = [row for row in part if text_in(records, "question", row).strip() and text_in(records, "context", row).strip()]
        tally.add(EMPTY, len(part) - len(filled))
        if not filled:
            continue
        found = _pairs(records, filled, tokenizer, max_length, stride)
        owners: list[int] = found["overflow_to_sample_mapping"]
        whole: set[int] = set()
        for number, owner in enumerate(owners):
            row = filled[owner]
            answer = answer_in(records, row)
            sides, offsets = found.sequence_ids(number), found["offset_mapping"][number]
            context = [place for place, side in enumerate(sides) if side == 1]
            bounds = (context[0], context[-1] + 1) if context else (0, 0)
            span = _tokens(offsets, bounds, answer)
            whole |= {owner} if span is not None or answer is None else set()
            ids = found["input_ids"][number]
            into.add(ids, b"\1" * len(ids), row)
            known.labels.append(span or (0, 0))
            known.contexts.append(bounds)
            if "token_type_ids" in found:
                known.types.append(found["token_type_ids"][number])
        tally.add(WINDOWS, sum(owners.count(owner) > 1 for owner in set(owners)))
        tally.add(CUT_ANSWERS, len(filled) - len(whole))
    return known


def _pairs(records: Records, rows: Sequence[int], tokenizer: Any, max_length: int, stride: int) -> Any:
    """Questions and contexts in windows, as the tokenizer gives them."""
    questions, contexts = ([text_in(records, role, row) for row in rows] for role in ("question", "context"))
    special = tokenizer.num_special_tokens_to_add(pair=True)
    for row, ids in zip(rows, tokenizer(questions, add_special_tokens=False)["input_ids"], strict=True):
        room = max_length - special - len(ids)
        if room <= stride:
            raise DataError(
                f"{records.where}: row {row + 1}: a question of {len(ids)} tokens leaves {max(room, 0)} of data.max_length {max_length} to "
                f"its context, which must be more than data.stride {stride}. Raise max_length, or lower stride."
            )
    return tokenizer(
        questions,
        contexts,
        truncation="only_second",
        max_length=max_length,
        stride=stride,
        return_overflowing_tokens=True,
        return_offsets_mapping=True,
        return_attention_mask=False,
    )


def _tokens(offsets: Sequence[tuple[int, int]], context: tuple[int, int], answer: tuple[int, int] | None) -> tuple[int, int] | None:
    """First and last token of an answer; None where the window does not hold all of it."""
    if answer is None or context[0] == context[1] or offsets[context[0]][0] > answer[0] or offsets[context[1] - 1][1] < answer[1]:
        return None
    inside = [place for place in range(*context) if offsets[place][1] > answer[0] and offsets[place][0] < answer[1]]
    return (inside[0], inside[-1]) if inside else None


@final
class SpanExamples(LanguageExamples):
    """Questions with windows of their contexts; labels are the first and the last token of the answer, `(batch, 2)`.

    `Batch.extra["allowed"]` says where an answer may lie, `(batch, max_length)`: in the context, or on the first token of all, which
    means that the window holds none; `extra["questions"]` which question each window is of, by its row in the source.

    Args:
        store: the windows.
        labels: `(windows, 2)`, int64.
        contexts: first token of each context, and the one after its last, `(windows, 2)`, int64.
        types: kind of every token of all windows, where the tokenizer tells question and context apart.
    """

    def __init__(self, store: TokenRows, labels: Tensor, contexts: Tensor, types: Tensor | None) -> None:
        super().__init__(store)
        self.labels, self.contexts, self.types = labels, contexts, types

    def of(self, store: TokenRows) -> SpanExamples:
        """Examples of the same kind in other rows."""
        return SpanExamples(store, self.labels, self.contexts, self.types)

    def some(self, rows: Tensor) -> SpanExamples:
        """Some of the examples, in the order of `rows`."""
        return SpanExamples(self.store.some(rows), self.labels[rows], self.contexts[rows], self.types)

    def batch(self, index: Tensor, key: Key | None) -> Batch:
        """The examples at `index`; nothing is random in them."""
        found = self.store.tokens(index)
        inputs, _ = self.store.inputs(found)
        if self.types is not None:
            kinds = torch.zeros_like(inputs["input_ids"])
            kinds.view(-1)[found.place] = self.types[found.source].long()
            inputs["token_type_ids"] = kinds
        place = torch.arange(self.store.max_length)
        first, stop = self.contexts[index].T[:, :, None]
        allowed = (place >= first) & (place < stop) | (place == 0)
        questions = self.store.documents.rows[self.store.layout.document[index]]
        return Batch(inputs, self.labels[index], index, {"allowed": allowed, "questions": questions}, epoch_of(key))

    def fingerprint(self, view: str | None = None) -> str:
        """SHA-256 of the windows and of where the answers lie."""
        digest = hashlib.sha256(super().fingerprint(view).encode())
        digest.update(self.labels.numpy().tobytes())
        return digest.hexdigest()


def span_examples(store: TokenRows, known: Windows) -> SpanExamples:
    """Examples of windows and of what is known of them."""
    types = torch.tensor([kind for own in known.types for kind in own], dtype=torch.int8) if known.types else None
    labels, contexts = (torch.tensor(pairs, dtype=torch.int64).reshape(-1, 2) for pairs in (known.labels, known.contexts))
    return SpanExamples(store, labels, contexts, types)
