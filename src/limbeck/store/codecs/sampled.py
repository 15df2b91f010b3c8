r"""An unbiased sample of the class distribution: classes drawn with replacement, and how often each was drawn.

With n draws from :math:`p` the estimate of :math:`p_i` is the share of draws that hit i; its expectation is :math:`p_i`, so the expected
cross-entropy (and its gradient) is that of the whole distribution, which no top-k has.

Reference: Anshumann et al., "Sparse Logit Sampling: Accelerating Knowledge Distillation in LLMs", ACL 2025, arXiv:2503.16870.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from ...errors import LimbeckError
from ...types import NonNegativeInt, Positive, PositiveInt
from .base import Codec, Layout

_FLOOR = 1e-12


@final
@dataclass(frozen=True, kw_only=True)
class Sampled(Codec):
    """A few draws of each example; read back as log-probabilities, whose softmax is the estimate."""

    draws: PositiveInt = 50
    """Number n of draws."""
    temperature: Positive = 1.0
    """Softmax temperature of the distribution that is drawn from."""
    seed: NonNegativeInt = 0
    """Seed of the draws; an example's draws depend on it and on the example's index only."""

    def layout(self, shape: tuple[int, ...]) -> Layout:
        """One class a draw."""
        if len(shape) != 1:
            raise LimbeckError(
                f"the codec sampled stores class distributions (classes,), found a signal of shape {list(shape)}; use dense."
            )
        return {"index": (torch.uint16 if shape[0] <= 2**16 else torch.int32, (self.draws,))}

    def encode(self, signal: Tensor, index: Tensor) -> dict[str, Tensor]:
        """Draws by inverting the cumulative distribution."""
        kind = self.layout(tuple(signal.shape[1:]))["index"][0]
        probabilities = (signal.detach().double().cpu() / self.temperature).softmax(1)
        cumulative = probabilities.cumsum(1)
        generator = torch.Generator()
        rows = [torch.rand(self.draws, dtype=torch.float64, generator=generator.manual_seed(self._seed(i))) for i in index.tolist()]
        drawn = torch.stack(rows) * cumulative[:, -1:] if rows else torch.zeros(0, self.draws, dtype=torch.float64)
        where = torch.searchsorted(cumulative, drawn, right=True).clamp_max(signal.shape[1] - 1)
        return {"index": where.sort(1).values.to(kind)}

    def _seed(self, index: int) -> int:
        return (self.seed * 1_000_003 + index * 2_654_435_761 + 12345) % 2**63

    def decode(self, arrays: Mapping[str, Tensor], shape: tuple[int, ...]) -> Tensor:
        """Logarithms of the shares."""
        index = arrays["index"].to(torch.int64)
        share = torch.zeros(len(index), shape[0]).scatter_add_(1, index, torch.full(index.shape, 1 / self.draws))
        return share.clamp_min(_FLOOR).log() * self.temperature
