"""Masked language models: which tokens are hidden, and by what."""

from __future__ import annotations

from typing import final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...types import Batch
from ..hashing import uniform
from .layout import Gathered
from .rows import Key, LanguageExamples, TokenRows, epoch_of, numbered

_CHOICE, _FATE, _TOKEN = 0, 1, 2
"""Purposes of the random numbers of a token."""


@final
class MaskedExamples(LanguageExamples):
    """Some tokens are to be predicted: of these 80% are hidden by the mask token, 10% replaced by any token, 10% left as they are.

    Which, and by what, is a pure function of the seed, the number of the augmentation, the document and the place in it; without an
    augmentation it is always the same. At least one token of every document is predicted.

    Reference: Devlin et al., "BERT", NAACL 2019, arXiv:1810.04805, section 3.1.

    Args:
        store: the documents; `trained` says which tokens may be hidden.
        mask: the mask token.
        vocabulary: number of tokens, among which a replacement is drawn.
        share: of the tokens that are predicted.
        seed: of the choice without an augmentation.
    """

    def __init__(self, store: TokenRows, *, mask: int, vocabulary: int, share: float, seed: int) -> None:
        super().__init__(store)
        self.mask, self.vocabulary, self.share, self.seed = mask, vocabulary, share, seed

    def of(self, store: TokenRows) -> MaskedExamples:
        """Examples of the same kind in other rows."""
        return MaskedExamples(store, mask=self.mask, vocabulary=self.vocabulary, share=self.share, seed=self.seed)

    def batch(self, index: Tensor, key: Key | None) -> Batch:
        """The examples at `index`."""
        store, found = self.store, self.store.tokens(index)
        inputs, ids = store.inputs(found)
        seed, epoch = (self.seed, 0) if key is None else key
        target, shown = self._hidden(found, ids, seed, epoch)
        inputs["input_ids"].view(-1)[found.place] = shown
        return Batch(inputs, ids[target], index, numbered(found, target), epoch_of(key), rows=found.place[target])

    def _hidden(self, found: Gathered, ids: Tensor, seed: int, epoch: int | NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        """Which tokens are to be predicted, and all tokens as the model sees them."""
        piece = found.piece.numpy()
        turn = epoch if isinstance(epoch, int) else epoch[piece]
        counters = (seed, turn, found.pieces.numpy()[piece], found.within.numpy())
        maskable = self.store.documents.trained[found.source].numpy()
        draw = np.where(maskable, uniform(*counters, _CHOICE), 2.0)
        least = np.minimum.reduceat(draw, np.flatnonzero(found.within.numpy() == 0))
        target = maskable & ((draw < self.share) | (draw == least[piece]) & (least[piece] >= self.share))
        fate = uniform(*counters, _FATE)
        other = (uniform(*counters, _TOKEN) * self.vocabulary).astype(np.int64)
        shown = ids.numpy().copy()
        shown[target & (fate < 0.8)] = self.mask
        replaced = target & (fate >= 0.8) & (fate < 0.9)
        shown[replaced] = other[replaced]
        return torch.from_numpy(target), torch.from_numpy(shown)
