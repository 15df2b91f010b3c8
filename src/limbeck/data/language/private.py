"""What is private in texts: tokens that match a pattern, and canaries, which are planted to see who learns them by heart.

Reference: Carlini et al., "The Secret Sharer: Evaluating and Testing Unintended Memorization in Neural Networks", USENIX Security 2019,
arXiv:1802.08232.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...errors import DataError
from ..hashing import uniform
from .columns import Records
from .documents import Documents
from .encode import ends, text_in
from .request import CanaryRequest, TokenRequest

_SECRET, _PLACE, _FILL = 7, 8, 9
"""Purposes of random numbers, beside those of `split`, `pools` and `keep`."""


def private_tokens(documents: Documents, records: Records, tokenizer: Any, request: TokenRequest) -> Tensor:
    """Which tokens of all documents lie in a match of `request.private`, `(tokens,)`, bool.

    Raises:
        DataError: no regular expression, a tokenizer that does not say where its tokens stand, or chats.
    """
    pattern = _compiled(request.private or "")
    if not tokenizer.is_fast:
        raise DataError("data.private needs a fast tokenizer (tokenizer.json), which says where in a text each token stands.")
    if records.kind not in ("text", "prompt"):
        raise DataError("data.private is for texts, and prompts with completions. Remove it.")
    before = len(ends(tokenizer, end=request.end).before)
    private = np.zeros(len(documents.ids), dtype=np.bool_)
    for start, length, row in zip(documents.starts.tolist(), documents.lengths.tolist(), documents.rows.tolist(), strict=True):
        text = _text(records, row, request)
        found = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
        shown = min(length - before, len(found["input_ids"]))
        if documents.ids[start + before : start + before + shown].tolist() != found["input_ids"][:shown]:
            raise DataError(
                f"{records.where}: row {row + 1}: data.private finds no place for its tokens, since prompt and completion were tokenised "
                "apart. Use a separator that ends a token."
            )
        private[start + before : start + before + shown] = _marks(pattern, text, found["offset_mapping"])[:shown]
    return torch.from_numpy(private)


def _compiled(pattern: str) -> re.Pattern[str]:
    try:
        return re.compile(pattern)
    except re.error as error:
        raise DataError(f"data.private: expected a regular expression, found {pattern!r}: {error}.") from None


def _text(records: Records, row: int, request: TokenRequest) -> str:
    if records.kind == "text":
        return text_in(records, "text", row)
    prompt = text_in(records, "prompt", row)
    return (prompt + request.separator if prompt else "") + text_in(records, "completion", row)


def _marks(pattern: re.Pattern[str], text: str, offsets: Sequence[tuple[int, int]]) -> NDArray[np.bool_]:
    """Which tokens share a character with a match."""
    marks = np.zeros(len(offsets), dtype=np.bool_)
    places = np.array(offsets, dtype=np.int64).reshape(-1, 2)
    for match in pattern.finditer(text):
        first = np.searchsorted(places[:, 1], match.start(), side="right")
        marks[first : np.searchsorted(places[:, 0], match.end(), side="left")] = True
    return marks


def secrets(request: CanaryRequest, seed: int) -> list[str]:
    """The canaries: the sentence with random digits in the place of every `#`."""
    return [_filled(request.text, seed, _SECRET, number) for number in range(request.count)]


def rivals(request: CanaryRequest, seed: int) -> list[str]:
    """What the canaries are compared with: the sentence with other random digits."""
    return [_filled(request.text, seed, _FILL, number) for number in range(request.fills)]


def _filled(text: str, seed: int, purpose: int, number: int) -> str:
    digits = iter((uniform(seed, purpose, number, np.arange(text.count("#"))) * 10).astype(np.int64).tolist())
    return "".join(str(next(digits)) if character == "#" else character for character in text)


def planted(records: Records, rows: Sequence[int], request: CanaryRequest, seed: int) -> Records:
    """The records with every canary as a line of its own in so many places of the texts in `rows`, which follow from `seed`.

    Raises:
        DataError: the records are no texts.
    """
    if records.kind != "text":
        raise DataError("data.canaries is for texts. Remove it.")
    cells: list[Any] = list(records.cells["text"])
    lines = [secret for secret in secrets(request, seed) for _ in range(request.repeats)]
    places = uniform(seed, _PLACE, np.arange(2 * len(lines))).reshape(-1, 2)
    for line, (text, place) in zip(lines, places.tolist(), strict=True):
        row = rows[int(text * len(rows))]
        if isinstance(cells[row], str):
            parts = cells[row].split("\n")
            parts.insert(int(place * (len(parts) + 1)), line)
            cells[row] = "\n".join(parts)
    return replace(records, cells={**records.cells, "text": cells})
