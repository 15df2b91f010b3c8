"""How documents lie in the rows of a batch: one each, in windows, or several packed into one row."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .documents import Documents, running


@dataclass(frozen=True)
class Layout:
    """Pieces of documents, in the order of the rows that they lie in; every field is int64."""

    document: Tensor
    """Of each piece, the document that it is cut from."""
    start: Tensor
    """Its first token, counted within its document."""
    length: Tensor
    """Its tokens."""
    first: Tensor
    """The first token that may be trained here, counted within its document: what lies before was trained in an earlier window."""
    bounds: Tensor
    """Where each row begins among the pieces, and the number of pieces: `(rows + 1,)`."""

    def __len__(self) -> int:
        return len(self.bounds) - 1


@dataclass(frozen=True)
class Gathered:
    """The tokens of some rows, flat, in the order of the rows."""

    source: Tensor
    """Place of every token among those of all documents."""
    place: Tensor
    """Its place in the flattened `(batch, tokens)`."""
    piece: Tensor
    """Its piece, counted within the batch."""
    within: Tensor
    """Its place within its piece."""
    pieces: Tensor
    """Numbers of the pieces in the layout."""
    segment: Tensor
    """Number of each piece within its row."""
    shape: tuple[int, int]
    """`(batch, tokens)`."""


def gather(layout: Layout, starts: Tensor, rows: Tensor, *, left: bool) -> Gathered:
    """Where the tokens of `rows` come from and where they go.

    Args:
        layout: of all rows.
        starts: where each document begins.
        rows: which, int64.
        left: short rows are filled at their beginning.
    """
    first, stop = layout.bounds[rows], layout.bounds[rows + 1]
    owner = torch.repeat_interleave(torch.arange(len(rows)), stop - first)
    segment = torch.arange(len(owner)) - torch.repeat_interleave((stop - first).cumsum(0) - (stop - first), stop - first)
    pieces = first[owner] + segment
    length = layout.length[pieces]
    filled = torch.zeros(len(rows), dtype=torch.int64).index_add_(0, owner, length)
    width = int(filled.max()) if len(rows) else 0
    offset = length.cumsum(0) - length
    column = offset - (filled.cumsum(0) - filled)[owner]
    if left:
        column = column + (width - filled)[owner]
    piece = torch.repeat_interleave(torch.arange(len(pieces)), length)
    within = torch.arange(len(piece)) - offset[piece]
    source = (starts[layout.document[pieces]] + layout.start[pieces])[piece] + within
    place = (owner * width + column)[piece] + within
    return Gathered(source, place, piece, within, pieces, segment, (len(rows), width))


def windows(documents: Documents, max_length: int, stride: int) -> tuple[Layout, int]:
    """Every document in windows of at most `max_length` tokens, a row each; and how many documents need several.

    A window begins `stride + 1` tokens before the end of the one before it: the last token of that one is the context from which the
    first new token is predicted. So every token but the first of its document is trained exactly once. Windows without a trained
    token are left out.

    Args:
        documents: the documents.
        max_length: tokens of a row, at least `stride + 2`.
        stride: tokens of context, beyond the one that is needed, that a window repeats.
    """
    lengths = documents.lengths.numpy()
    step = max_length - 1 - stride
    counts = np.where(lengths <= max_length, 1, 1 - (-(lengths - max_length) // step))
    document = np.repeat(np.arange(len(lengths)), counts)
    turn = np.arange(len(document)) - np.repeat(np.cumsum(counts) - counts, counts)
    start = turn * step
    length = np.minimum(lengths[document] - start, max_length)
    first = np.where(turn == 0, 1, start - step + max_length)
    before = running(documents.trained).numpy()
    offset = documents.starts.numpy()[document]
    trained = before[offset + start + length] - before[offset + np.minimum(np.maximum(first, start + 1), start + length)]
    keep = trained > 0
    columns = [document, start, length, first]
    kept = [torch.from_numpy(np.ascontiguousarray(column[keep], dtype=np.int64)) for column in columns]
    return Layout(*kept, bounds=torch.arange(int(keep.sum()) + 1)), int((counts > 1).sum())


def whole(documents: Documents) -> Layout:
    """Every document in a row of its own."""
    count = len(documents)
    nothing = torch.zeros(count, dtype=torch.int64)
    return Layout(torch.arange(count), nothing, documents.lengths, nothing, bounds=torch.arange(count + 1))


def some(layout: Layout, rows: Tensor) -> Layout:
    """Some of the rows of a layout with one piece a row, in the order of `rows`."""
    columns = (layout.document, layout.start, layout.length, layout.first)
    return Layout(*(column[rows] for column in columns), bounds=torch.arange(len(rows) + 1))


def pack(layout: Layout, max_length: int) -> Layout:
    """The same pieces, as many to a row as fit: the longest first, each into the fullest row that has room.

    Rows come in the order of the first piece in them, the pieces of a row in their own order.
    """
    lengths = layout.length.numpy()
    row = np.zeros(len(lengths), dtype=np.int64)
    room: list[list[int]] = [[] for _ in range(max_length + 1)]
    there, rows = 0, 0  # a bit for every amount of room that some row has
    for piece in np.argsort(-lengths, kind="stable").tolist():
        length = int(lengths[piece])
        fitting = there >> length
        if fitting:
            space = length + (fitting & -fitting).bit_length() - 1
            number = room[space].pop()
            if not room[space]:
                there &= ~(1 << space)
        else:
            space, number, rows = max_length, rows, rows + 1
        row[piece] = number
        room[space - length].append(number)
        there |= 1 << (space - length)
    return _in_rows(layout, row, rows)


def _in_rows(layout: Layout, row: NDArray[np.int64], rows: int) -> Layout:
    """The pieces sorted by row, the rows by their first piece."""
    first = np.full(rows, len(row), dtype=np.int64)
    np.minimum.at(first, row, np.arange(len(row)))
    rank = np.empty(rows, dtype=np.int64)
    rank[np.argsort(first)] = np.arange(rows)
    order = torch.from_numpy(np.argsort(rank[row], kind="stable"))
    counts = np.bincount(rank[row], minlength=rows)
    bounds = torch.from_numpy(np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(counts)]))
    columns = [column[order] for column in (layout.document, layout.start, layout.length, layout.first)]
    return Layout(*columns, bounds=bounds)
