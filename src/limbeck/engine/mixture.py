"""A mixture of domains that follows what the student has still to learn: every so many updates the next examples are shared out anew.

The losses of student and teacher are taken on a few held-out examples of each domain. All that a restart must know (shares, how far each
domain was read) is in the checkpoint.

Reference: Liu et al., "DDK: Distilling Domain Knowledge for Efficient Large Language Models", NeurIPS 2024, arXiv:2407.16154 (from its
summary: the exact recursion of the shares is not known to us).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..data.base import Examples
from ..data.domains import counts_of, drawn
from ..data.hashing import permutation
from ..data.loader import BatchStream
from ..errors import DataError
from ..evaluate.surprise import surprise
from ..ops.mixture_shares import gap_shares
from ..types import Batch, Signals

_BATCH = 64
_PROBE = 10  # the purpose of the order, beside those of `split`, `pools`, `keep` and `private`


@dataclass
class Mixture:
    """Shares of domains, and the examples that they give.

    Attributes:
        names: of the domains.
        domains: of every training example, `(examples,)`.
        probe: held-out examples.
        probed: domain of each of them, `(examples,)`.
        every: updates between two looks at the losses.
        alpha: how much of the shares follows the gap.
        seed: of the order of the examples.
    """

    names: Sequence[str]
    domains: Tensor
    probe: Examples
    probed: Tensor
    every: int
    alpha: float
    seed: int
    teacher: str = "teacher"
    """Who the learner is compared with."""
    begun: int = -1
    """The update before which the shares were last made; -1 at the beginning."""
    shares: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.float64))
    cursors: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.int64))

    def __post_init__(self) -> None:
        count = len(self.names)
        self.shares = torch.full((count,), 1 / count, dtype=torch.float64)
        self.cursors = torch.zeros(count, dtype=torch.int64)
        self._sizes = torch.bincount(self.domains, minlength=count).numpy()

    @property
    def window(self) -> int:
        """The update at which the present shares came into force."""
        return max(self.begun, 0)

    def due(self, update: int) -> bool:
        """Whether the shares are to be made anew before `update`."""
        return update % self.every == 0 and self.begun != update

    def renew(
        self, update: int, per_update: int, student: Callable[[Batch], Signals], teacher: Callable[[Batch], Signals]
    ) -> dict[str, float]:
        """Makes the shares anew.

        Args:
            update: that comes next.
            per_update: examples of an update.
            student: says what the student says of a batch.
            teacher: likewise.

        Returns:
            For the record: share, and loss of both, of each domain.
        """
        if self.begun >= 0:
            self.cursors = self.cursors + torch.from_numpy(self._counts((update - self.begun) * per_update))
        losses = [self._losses(said) for said in (student, teacher)]
        self.shares, self.begun = gap_shares(losses[0], losses[1], self.shares, alpha=self.alpha), update
        columns = {"share": self.shares, "loss": losses[0], "teacher": losses[1]}
        return {f"{what}.{name}": float(value) for what, values in columns.items() for name, value in zip(self.names, values, strict=True)}

    def order(self, per_update: int) -> NDArray[np.int64]:
        """The examples of the updates until the shares are made anew."""
        counts = self._counts(self.every * per_update)
        return drawn(self.domains.numpy(), counts, self.cursors.numpy(), self.seed)

    def _counts(self, total: int) -> NDArray[np.int64]:
        return counts_of(self.shares.numpy(), total, self._sizes)

    def _losses(self, said: Callable[[Batch], Signals]) -> Tensor:
        """Mean loss of the held-out examples of each domain, `(domains,)`, float64."""
        rows = torch.arange(len(self.probe)).split(_BATCH)
        with torch.no_grad():
            values = torch.cat([surprise(said(batch), batch) for batch in BatchStream(self.probe, [part.tolist() for part in rows])])
        sums = torch.zeros(len(self.names), dtype=torch.float64).index_add_(0, self.probed, values)
        return sums / torch.bincount(self.probed, minlength=len(self.names)).clamp_min(1)

    def state(self) -> Mapping[str, Tensor]:
        """Tensors for a checkpoint."""
        return {"shares": self.shares, "cursors": self.cursors, "begun": torch.tensor(self.begun)}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Restores what `state` gave."""
        self.shares, self.cursors, self.begun = state["shares"], state["cursors"], int(state["begun"])


def probe_of(examples: Examples, domains: Tensor, names: Sequence[str], count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Up to `count` held-out examples of each domain: their numbers, and the domain of each.

    Raises:
        DataError: a domain has none.
    """
    rows: list[Tensor] = []
    for number, name in enumerate(names):
        own = (domains == number).nonzero().flatten()
        if len(own) == 0:
            raise DataError(f"train.mixture: no validation example is of the domain {name!r}. Raise data.split.valid.")
        rows.append(own[torch.from_numpy(permutation(len(own), seed, _PROBE))[:count]])
    chosen = torch.cat(rows)
    return chosen, domains[chosen]
