"""Texts with mistakes: letters that are swapped, lost, doubled or replaced, or words that are lost."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping

from torch import Tensor

from .stores import TokenStore
from .text import load_tokenizer, tokenise

LETTERS = "abcdefghijklmnopqrstuvwxyz"


def with_typos(text: str, share: float, seed: str) -> str:
    """A text in which that share of the letters is mistyped: swapped with the next, lost, doubled or another letter, each as often."""
    draw = random.Random(seed)
    out: list[str] = []
    position = 0
    while position < len(text):
        letter = text[position]
        if not letter.isalpha() or draw.random() >= share:
            out.append(letter)
        elif (mistake := draw.randrange(4)) == 0 and position + 1 < len(text):
            out += [text[position + 1], letter]
            position += 1
        elif mistake == 1:
            pass  # lost
        elif mistake == 2:
            out += [letter, letter]
        else:
            out.append(draw.choice(LETTERS))
        position += 1
    return "".join(out)


def without_words(text: str, share: float, seed: str) -> str:
    """A text that has lost that share of its words; one always stays."""
    draw = random.Random(seed)
    words = text.split()
    kept = [word for word in words if draw.random() >= share]
    return " ".join(kept or words[:1])


TEXTS: Mapping[str, Callable[[str, float, str], str]] = {"typos": with_typos, "dropped_words": without_words}
"""What a corruption does to a text, with its strength and a seed."""


def misspelt(
    store: TokenStore, rows: Tensor, change: Callable[[str, float, str], str], strength: float, *, seed: int, tokenizer: str | None
) -> TokenStore:
    """Some rows of a store of texts, each changed by itself and read by the tokenizer again; a text that loses all stays as it is.

    Args:
        store: the texts as tokens; pairs are told apart by `token_type_ids`.
        rows: which of them.
        change: what is done to a text.
        strength: how much.
        seed: what is random follows from it and the row.
        tokenizer: as `load_tokenizer` takes it.
    """
    reader = load_tokenizer(tokenizer)
    frame = set(reader.all_special_ids) - {reader.unk_token_id}  # an unknown word stays one
    texts: list[tuple[str, ...]] = []
    for row in rows.tolist():
        start, length = int(store.starts[row]), int(store.lengths[row])
        ids = store.columns["input_ids"][start : start + length]
        types = store.columns.get("token_type_ids")
        parts = [ids] if types is None else [ids[types[start : start + length] == number] for number in (0, 1)]
        spoken = [reader.decode([token for token in part.tolist() if token not in frame]) for part in parts if len(part)]
        texts.append(tuple(change(text, strength, f"{seed} {row} {place}") or text for place, text in enumerate(spoken)))
    pairs = any(len(text) == 2 for text in texts)
    plain = [(text[0], text[1] if len(text) == 2 else "") for text in texts] if pairs else [text[0] for text in texts]
    return tokenise(plain, tokenizer, store.max_length)
