"""A tag for every word."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, final

import torch
from torch import Tensor

from ...errors import DataError
from ...types import Batch
from .columns import Records
from .documents import Collector, running
from .encode import CUT, EMPTY, UNTRAINED, Tally
from .rows import Key, LanguageExamples, TokenRows, epoch_of, numbered

_AT_ONCE = 512
"""Sentences that are tokenised in one call."""


def tag_names(records: Records, rows: Sequence[int]) -> tuple[str, ...]:
    """The tags of some rows in sorted order, numbers by their size.

    Raises:
        DataError: fewer than two, or a row whose words and tags do not fit.
    """
    found = {tag for row in rows for tag in tags_in(records, row) if tag is not None}
    if len(found) < 2:
        raise DataError(
            f"{records.where}: {records.names['tags']!r} needs at least two different tags, found {', '.join(found) or 'none'}."
        )
    return tuple(sorted(found, key=lambda tag: (not tag.isdigit(), int(tag) if tag.isdigit() else 0, tag)))


def unseen_tags(records: Records, rows: Sequence[int], names: Sequence[str]) -> list[str]:
    """A note where the training `rows` lack some of the tags."""
    missing = set(names).difference(*(tags_in(records, row) for row in rows))
    return [f"tags that are in no training example: {', '.join(sorted(missing)[:10])}."] if missing else []


def words_in(records: Records, row: int) -> list[str]:
    """The words of a row; a text is divided at white space.

    Raises:
        DataError: they are neither.
    """
    cell = records.cells["words"][row]
    words = cell.split() if isinstance(cell, str) else [] if cell is None else cell
    if not isinstance(words, list | tuple) or not all(isinstance(word, str) for word in words):
        raise DataError(f"{records.where}: row {row + 1}: {records.names['words']!r} must be a list of words, found {str(cell)[:40]!r}.")
    return list(words)


def tags_in(records: Records, row: int) -> list[str | None]:
    """The tags of a row, one for every word; None where a word has none.

    Raises:
        DataError: they are no list, or as many as there are words.
    """
    words, cell = words_in(records, row), records.cells["tags"][row]
    tags = cell.split() if isinstance(cell, str) else [] if cell is None else cell
    if not isinstance(tags, list | tuple):
        raise DataError(f"{records.where}: row {row + 1}: {records.names['tags']!r} must be a list of tags, found {str(cell)[:40]!r}.")
    if len(tags) != len(words):
        raise DataError(f"{records.where}: row {row + 1}: {len(words)} words have {len(tags)} tags. Mend the row.")
    return [None if tag is None else str(tag) for tag in tags]


def encode_tags(
    records: Records, rows: Sequence[int], tokenizer: Any, max_length: int, names: Mapping[str, int], into: Collector, tally: Tally
) -> Tensor:
    """Sentences whose words' first tokens are trained, and the tag of each of these, int64.

    Raises:
        DataError: a tokenizer that takes no words.
    """
    if not tokenizer.is_fast:
        raise DataError("tags need a fast tokenizer (tokenizer.json), which says which word each token is of.")
    values: list[Tensor] = []
    for start in range(0, len(rows), _AT_ONCE):
        part = rows[start : start + _AT_ONCE]
        filled = [row for row in part if words_in(records, row)]
        tally.add(EMPTY, len(part) - len(filled))
        words = [words_in(records, row) for row in filled]
        for row, own, (ids, places) in zip(filled, words, _tokens(tokenizer, words, max_length), strict=True):
            tags = tags_in(records, row)
            first = [place is not None and place != before for place, before in zip(places, [None, *places], strict=False)]
            kept = [(at, tags[place]) for at, place in enumerate(places) if first[at] and place is not None and tags[place] is not None]
            if places and max((place for place in places if place is not None), default=-1) < len(own) - 1:
                tally.add(CUT)
            if not kept:
                tally.add(UNTRAINED)
                continue
            trained = bytearray(len(ids))
            for at, _ in kept:
                trained[at] = 1
            into.add(ids, trained, row)
            values.append(torch.tensor([names[tag] for _, tag in kept if tag is not None], dtype=torch.int16))
    return torch.cat(values) if values else torch.zeros(0, dtype=torch.int16)


def _tokens(tokenizer: Any, words: list[list[str]], max_length: int) -> list[tuple[list[int], list[int | None]]]:
    """Tokens of each sentence, and the word of each token."""
    if not words:
        return []
    try:
        found = tokenizer(words, is_split_into_words=True, truncation=True, max_length=max_length, return_attention_mask=False)
    except (AssertionError, ValueError, TypeError) as error:
        raise DataError(f"the tokenizer takes no words ({error}). Save it with add_prefix_space=True.") from error
    return [(ids, found.word_ids(number)) for number, ids in enumerate(found["input_ids"])]


@final
class TagExamples(LanguageExamples):
    """The first token of every word is trained on the word's tag.

    Args:
        store: the sentences.
        tags: of every trained token of all sentences, in their order.
    """

    def __init__(self, store: TokenRows, tags: Tensor) -> None:
        super().__init__(store)
        self.tags = tags
        self.rank = running(store.documents.trained).to(torch.int32)

    def of(self, store: TokenRows) -> TagExamples:
        """Examples of the same kind in other rows."""
        return TagExamples(store, self.tags)

    def batch(self, index: Tensor, key: Key | None) -> Batch:
        """The examples at `index`; nothing is random in them."""
        found = self.store.tokens(index)
        inputs, _ = self.store.inputs(found)
        target = self.store.documents.trained[found.source]
        labels = self.tags[self.rank[found.source[target]].long()].long()
        return Batch(inputs, labels, index, numbered(found, target), epoch_of(key), rows=found.place[target])
