"""Encoder-decoders: one text is read, another is written."""

from __future__ import annotations

import hashlib
from typing import Any, final

import torch
from torch import Tensor

from ...errors import DataError
from ...types import Batch
from .documents import Documents
from .rows import Key, LanguageExamples, TokenRows, epoch_of, numbered


@final
class Seq2SeqExamples(LanguageExamples):
    """What the decoder writes next: at each of its places it is given the token before, at the first the start token.

    Args:
        store: what the encoder reads.
        written: what the decoder writes, a document for every one of `store`, filled on the right.
        start: the token that the decoder begins with.
    """

    def __init__(self, store: TokenRows, written: TokenRows, start: int) -> None:
        super().__init__(store)
        self.written, self.start = written, start

    def of(self, store: TokenRows) -> Seq2SeqExamples:
        """Examples of the same kind in other rows."""
        return Seq2SeqExamples(store, self.written, self.start)

    def some(self, rows: Tensor) -> Seq2SeqExamples:
        """Some of the examples, in the order of `rows`."""
        own = Seq2SeqExamples(self.store.some(rows), self.written.some(rows), self.start)
        own.renderings = self.renderings
        return own

    @property
    def replies(self) -> Documents:
        """What the decoder writes."""
        return self.written.documents

    def batch(self, index: Tensor, key: Key | None) -> Batch:
        """The examples at `index`; nothing is random in them."""
        inputs, _ = self.store.inputs(self.store.tokens(index))
        found = self.written.tokens(index)
        own, ids = self.written.inputs(found)
        given = torch.where(found.within == 0, self.start, ids.roll(1))
        own["input_ids"].view(-1)[found.place] = given
        inputs |= {"decoder_input_ids": own["input_ids"], "decoder_attention_mask": own["attention_mask"]}
        target = self.written.documents.trained[found.source]
        return Batch(inputs, ids[target], index, numbered(found, target), epoch_of(key), rows=found.place[target])

    def fingerprint(self, view: str | None = None) -> str:
        """SHA-256 of what is read and what is written."""
        if view is not None:
            return super().fingerprint(view)
        digest = hashlib.sha256(super().fingerprint().encode())
        for part in self.written.content(torch.arange(len(self))):
            digest.update(part)
        return digest.hexdigest()


def start_token(tokenizer: Any, asked: str | None) -> int:
    """The token that a decoder begins with: the one that is named; the padding token, as of T5; or the end token where there is a `<s>`,
    as of BART.

    Raises:
        DataError: where there is no such token.
    """
    if asked is not None:
        found = tokenizer.get_vocab().get(asked)
        if found is None:
            raise DataError(f"data.decoder_start: the tokenizer has no token {asked!r}.")
        return int(found)
    token = tokenizer.eos_token_id if tokenizer.bos_token_id is not None else tokenizer.pad_token_id
    if token is None:
        token = tokenizer.eos_token_id
    if token is None:
        raise DataError(
            "data.decoder_start: the tokenizer has neither a padding nor an end token; name the token that decoders begin with."
        )
    return token
