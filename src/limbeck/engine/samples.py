"""State that is kept for every example of the training data: past predictions, weights, ranks.

It is addressed by the example's index, so that the order of the data, the number of processes and a restart do not
matter; it is saved with every checkpoint.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


class SampleState:
    """A table with one row an example.

    Args:
        size: number of examples.
        shape: shape of one row.
        fill: initial value.
        gather: joins the rows that all processes write in one update.
    """

    def __init__(
        self,
        size: int,
        shape: tuple[int, ...] = (),
        *,
        dtype: torch.dtype = torch.float32,
        fill: float = 0.0,
        gather: Callable[[Any], list[Any]] | None = None,
    ) -> None:
        self.rows = torch.full((size, *shape), fill, dtype=dtype)
        self.seen = torch.zeros(size, dtype=torch.bool)
        self._gather = gather

    def read(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """Rows of the examples at `index`, and which of them were ever written."""
        return self.rows[index], self.seen[index]

    def write(self, index: Tensor, values: Tensor) -> None:
        """Replaces the rows at `index`, on every process; all processes must call it together."""
        parts = [(index.cpu(), values.detach().to("cpu", self.rows.dtype))]
        for where, what in self._gather(parts[0]) if self._gather else parts:
            self.rows[where] = what
            self.seen[where] = True

    def state(self) -> dict[str, Tensor]:
        """Tensors for a checkpoint."""
        return {"rows": self.rows, "seen": self.seen}

    def load(self, state: dict[str, Tensor]) -> None:
        """Restores what `state` gave."""
        self.rows.copy_(state["rows"])
        self.seen.copy_(state["seen"])
