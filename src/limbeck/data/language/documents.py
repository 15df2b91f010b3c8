"""Documents as token numbers, end to end in flat columns."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Documents:
    """Token sequences and which of their tokens are trained."""

    ids: Tensor
    """Tokens of all documents, `(tokens,)`, int16 where the vocabulary allows, else int32."""
    trained: Tensor
    """Which of them are to be predicted, `(tokens,)`, bool."""
    lengths: Tensor
    """Tokens of each document, int64."""
    rows: Tensor
    """Row of the source that each document comes from, int64."""
    given: Tensor
    """Leading tokens of each document that are a prompt, int64."""
    private: Tensor | None = None
    """Which tokens are private, `(tokens,)`, bool; None where nothing says so."""

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def starts(self) -> Tensor:
        """Where each document begins, int64."""
        return self.lengths.cumsum(0) - self.lengths


def running(flags: Tensor) -> Tensor:
    """How many of `flags` are set before each place, and in all: `(places + 1,)`, int64."""
    return torch.cat([torch.zeros(1, dtype=torch.int64), flags.cumsum(0)])


class Collector:
    """Gathers documents without an object for each token."""

    def __init__(self) -> None:
        self.ids, self.trained, self.lengths, self.rows, self.given = array("i"), bytearray(), array("q"), array("q"), array("q")

    def add(self, ids: Sequence[int], trained: bytes | bytearray, row: int, given: int = 0) -> None:
        """Another document; `trained` has a byte (0 or 1) for every token, of which `given` begin it as a prompt."""
        self.given.append(given)
        self.ids.extend(ids)
        self.trained += trained
        self.lengths.append(len(ids))
        self.rows.append(row)

    def finish(self) -> Documents:
        """All documents."""
        ids = torch.from_numpy(np.frombuffer(self.ids, dtype=np.int32).copy()) if self.ids else torch.zeros(0, dtype=torch.int32)
        small = len(ids) == 0 or int(ids.max()) < 2**15
        return Documents(
            ids.to(torch.int16) if small else ids,
            torch.tensor(np.frombuffer(self.trained, dtype=np.uint8).astype(np.bool_)),
            torch.tensor(self.lengths, dtype=torch.int64),
            torch.tensor(self.rows, dtype=torch.int64),
            torch.tensor(self.given, dtype=torch.int64),
        )
