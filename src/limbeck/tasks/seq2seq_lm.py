"""Encoder-decoders: a text is predicted from another."""

from __future__ import annotations

from typing import ClassVar, final

from ._language import Language


@final
class Seq2seqLm(Language):
    """Pairs of texts; each position of the decoder predicts the next token of the second from the whole first."""

    language: ClassVar = "seq2seq_lm"
