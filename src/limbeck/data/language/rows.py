"""Examples of language models: rows of tokens, and which of them are trained."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...documents import KEY_BYTES, document_key
from ...errors import DataError, UnknownName
from ...types import Batch
from ..base import Examples
from ..stores import Store
from .documents import Documents
from .layout import Gathered, Layout, gather, pack, some

Key = tuple[int, int | NDArray[np.int64]]


class TokenRows(Store):
    """Rows of tokens that are filled up to the longest of a batch.

    Args:
        documents: the documents.
        layout: how they lie in rows.
        fill: the token that short rows are filled with; the attention mask hides it.
        max_length: longest row that can occur.
        left: rows are filled at their beginning; positions then count from the first token.
        packed: several documents may lie in a row; positions begin anew with each, and `segments` tells them apart.
    """

    def __init__(self, documents: Documents, layout: Layout, *, fill: int, max_length: int, left: bool, packed: bool) -> None:
        self.documents, self.layout, self.fill, self.max_length = documents, layout, fill, max_length
        self.left, self.packed = left, packed
        self.starts = documents.starts

    def __len__(self) -> int:
        return len(self.layout)

    @property
    def shape(self) -> tuple[int, ...]:
        """The longest row, `(tokens,)`."""
        return (self.max_length,)

    def gather(self, rows: Tensor) -> dict[str, Tensor]:
        """`input_ids` and `attention_mask`, `(rows, tokens)`, and what packing or filling on the left asks for."""
        return self.inputs(self.tokens(rows))[0]

    def tokens(self, rows: Tensor) -> Gathered:
        """Where the tokens of `rows` come from and where they go."""
        return gather(self.layout, self.starts, rows, left=self.left)

    def inputs(self, found: Gathered) -> tuple[dict[str, Tensor], Tensor]:
        """What a model reads, and the tokens, flat, in the order of the rows."""
        ids = self.documents.ids[found.source].long()
        size = found.shape[0] * found.shape[1]

        def laid(values: Tensor | int, filled_with: int) -> Tensor:
            out = torch.full((size,), filled_with, dtype=torch.int64)
            out[found.place] = values
            return out.view(found.shape)

        inputs = {"input_ids": laid(ids, self.fill), "attention_mask": laid(1, 0)}
        if self.packed or self.left:
            inputs["position_ids"] = laid(found.within, 0)
        if self.packed:
            inputs["segments"] = laid(found.segment[found.piece], -1)
        return inputs, ids

    def some(self, rows: Tensor) -> TokenRows:
        """Some of the rows, where each holds one document or a window of one, in the order of `rows`."""
        return TokenRows(
            self.documents, some(self.layout, rows), fill=self.fill, max_length=self.max_length, left=self.left, packed=self.packed
        )

    def filled(self) -> TokenRows:
        """The same documents, as many in a row as fit."""
        layout = pack(self.layout, self.max_length)
        return TokenRows(self.documents, layout, fill=self.fill, max_length=self.max_length, left=self.left, packed=True)

    def unpacked(self) -> TokenRows:
        """The same documents, each in a row of its own."""
        if not self.packed:
            return self
        alone = replace(self.layout, bounds=torch.arange(len(self.layout.length) + 1))
        return TokenRows(self.documents, alone, fill=self.fill, max_length=self.max_length, left=self.left, packed=False)

    def numbers(self, rows: Tensor) -> Tensor:
        """Numbers of the documents that lie in `rows`, in their order, `(documents,)`."""
        return self.layout.document[self.tokens(rows).pieces]

    def content(self, rows: Tensor) -> Iterator[bytes]:
        """The tokens of every row, which are trained, and where its pieces begin."""
        for part in rows.split(1024):
            found = self.tokens(part)
            yield self.documents.ids[found.source].to(torch.int32).numpy().tobytes()
            yield self.documents.trained[found.source].numpy().tobytes()
            yield self.layout.length[found.pieces].numpy().tobytes()


class LanguageExamples(Examples, ABC):
    """Examples of a language model, one a row.

    `Batch.rows` and `Batch.labels` hold the trained tokens; `Batch.extra` says of each of them the number of its document (`documents`;
    of a window, where a text is read in several) and the how-manieth trained token of that document it is (`within`).
    """

    store: TokenRows
    renderings: Mapping[str, LanguageExamples]
    """Further views by name: the documents of `store` after other prompts, in their order, each in a row of its own."""

    def __init__(self, store: TokenRows) -> None:
        super().__init__(store, torch.zeros(len(store), dtype=torch.int64))
        self.renderings = {}

    def __getitems__(self, indices: Sequence[int] | NDArray[np.int64]) -> Batch:
        """The examples at `indices`, in that order, as one batch."""
        index = torch.as_tensor(indices, dtype=torch.int64)
        return self._rendered(self.batch(index, self._key))

    def shown(self, index: Tensor, seed: int, epoch: int | NDArray[np.int64]) -> Batch:
        """The augmented examples at `index`, as one batch."""
        return self._rendered(self.batch(index, (seed, epoch)))

    def _rendered(self, batch: Batch) -> Batch:
        """The batch with the further views of its documents, which of a packed row lie in rows of their own."""
        numbers = self.store.numbers(batch.index) if self.renderings else batch.index
        for name, own in self.renderings.items():
            shown = own.batch(numbers, None)
            if shown.rows is None or batch.labels is None or shown.labels is None or not torch.equal(shown.labels, batch.labels):
                raise DataError(f"data.views.{name}: what is to be predicted is not the same as in the examples themselves.")
            batch.views[name], batch.view_rows[name] = shown.inputs, shown.rows
        return batch

    def rendering(self, view: str) -> LanguageExamples:
        """The documents as a view shows them.

        Raises:
            UnknownName: where the data have no such view.
        """
        if view not in self.renderings:
            raise UnknownName("view of the data", view, self.renderings)
        return self.renderings[view]

    @property
    def replies(self) -> Documents:
        """The documents in which the trained tokens stand."""
        return self.store.documents

    def fingerprint(self, view: str | None = None) -> str:
        """SHA-256 of the tokens (or of those of a view), and of which are trained."""
        return super().fingerprint() if view is None else self.rendering(view).fingerprint()

    def augmented(self, seed: int, epoch: int) -> LanguageExamples:
        """The same examples; what is random in them is a pure function of `seed`, `epoch` and each document's number."""
        return self._again(self.store, (seed, epoch))

    def over(self, store: TokenRows) -> LanguageExamples:
        """The same documents in other rows."""
        return self._again(store, self._key)

    def _again(self, store: TokenRows, key: tuple[int, int] | None) -> LanguageExamples:
        examples = self.of(store)
        examples._key = key  # noqa: SLF001 - of the same class
        examples.renderings = self.renderings
        examples.domains = self.domains if len(store) == len(self.store) else None
        return examples

    @abstractmethod
    def of(self, store: TokenRows) -> LanguageExamples:
        """Examples of the same kind in other rows."""

    def some(self, rows: Tensor) -> LanguageExamples:
        """Some of the examples, in the order of `rows`; of those that are not packed."""
        return self._again(self.store.some(rows), self._key)

    @abstractmethod
    def batch(self, index: Tensor, key: Key | None) -> Batch:
        """The examples at `index`; `key` is the seed and the number of the augmentation (or one for each example)."""

    def documents(self, view: str | None = None) -> SplitDocuments:
        """The documents by themselves, as a teacher answers about them that sees `view`; of masked ones, those of this augmentation."""
        return SplitDocuments(self._again(self.store.unpacked(), self._key), view)


@final
class SplitDocuments:
    """The documents of a split, each in a row of its own (`limbeck.documents.Documents`).

    Args:
        examples: not packed.
        view: by which they are known, since the teacher reads it; the examples themselves where it is None.
    """

    def __init__(self, examples: LanguageExamples, view: str | None = None) -> None:
        self.examples, self.view = examples, view
        self._seen = examples if view is None else examples.rendering(view)

    def __len__(self) -> int:
        return len(self.examples)

    def lengths(self, numbers: NDArray[np.int64]) -> NDArray[np.int64]:
        """How many tokens each has, `(numbers,)`."""
        if self.view is not None:
            numbers = self.examples.store.numbers(torch.from_numpy(numbers)).numpy()
        return self._seen.store.layout.length.numpy()[numbers]

    def shown(self, numbers: NDArray[np.int64]) -> Batch:
        """These documents as one batch, a row each, in that order."""
        return self.examples.__getitems__(numbers)

    def keys(self, numbers: NDArray[np.int64]) -> NDArray[np.uint8]:
        """What they are known by, `(numbers, 32)`."""
        parts = [self._keys(numbers[start : start + 256]) for start in range(0, len(numbers), 256)]
        return np.concatenate(parts) if parts else np.zeros((0, KEY_BYTES), dtype=np.uint8)

    def _keys(self, numbers: NDArray[np.int64]) -> NDArray[np.uint8]:
        batch = self.shown(numbers).shown(self.view)
        inputs = {name: value.numpy() for name, value in batch.inputs.items()}
        decoder = "decoder_input_ids" in inputs
        ids, mask = (
            (inputs["decoder_input_ids"], inputs["decoder_attention_mask"]) if decoder else (inputs["input_ids"], inputs["attention_mask"])
        )
        flags = np.zeros(ids.size, dtype=np.bool_)
        if batch.rows is not None:
            flags[batch.rows.numpy()] = True
        out = np.empty((len(numbers), KEY_BYTES), dtype=np.uint8)
        for row, own in enumerate(flags.reshape(ids.shape)):
            there = mask[row] == 1
            source = inputs["input_ids"][row][inputs["attention_mask"][row] == 1] if decoder else None
            out[row] = np.frombuffer(document_key(ids[row][there], own[there], source), dtype=np.uint8)
        return out


def epoch_of(key: Key | None) -> int | Tensor:
    """The number of the augmentation as a batch keeps it."""
    if key is None:
        return 0
    return key[1] if isinstance(key[1], int) else torch.from_numpy(key[1])


def numbered(found: Gathered, target: Tensor) -> dict[str, Any]:
    """The document of every trained token and its place among the trained ones of it; `target` says which tokens are trained."""
    before = target.to(torch.int64).cumsum(0) - target.to(torch.int64)
    within = before - before[found.within == 0][found.piece]
    return {"documents": found.pieces[found.piece][target], "within": within[target]}


@final
class CausalExamples(LanguageExamples):
    """What comes next: the label of a row is the token after it, in the same document.

    `Batch.extra` also says which trained tokens belong to a prompt (`given`, 0 or 1) and, where the data say so, which are `private`.
    """

    def of(self, store: TokenRows) -> CausalExamples:
        """Examples of the same kind in other rows."""
        return CausalExamples(store)

    def batch(self, index: Tensor, key: Key | None) -> Batch:
        """The examples at `index`; nothing is random in them."""
        store, found = self.store, self.store.tokens(index)
        inputs, ids = store.inputs(found)
        layout = store.layout
        position = found.within + layout.start[found.pieces][found.piece]
        target = store.documents.trained[found.source] & (found.within > 0) & (position >= layout.first[found.pieces][found.piece])
        extra = numbered(found, target)
        extra["given"] = (position < store.documents.given[layout.document[found.pieces]][found.piece])[target].float()
        if store.documents.private is not None:
            extra["private"] = store.documents.private[found.source][target].float()
        return Batch(inputs, ids[target], index, extra, epoch_of(key), rows=found.place[target] - 1)
