"""Hidden states and heads on which the fused loss is compared with the plain one."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

TOKENS, VOCABULARY, WIDTH, THEIRS = 23, 61, 12, 17


@dataclass
class World:
    """Hidden states and heads, and the loss written out."""

    student: Tensor
    weight: Tensor
    bias: Tensor
    hidden: Tensor
    theirs: Tensor
    labels: Tensor
    weights: Tensor

    @classmethod
    def make(cls, dtype: torch.dtype = torch.float64) -> World:
        g = torch.Generator().manual_seed(0)

        def draw(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=g, dtype=torch.float64).to(dtype)

        labels = torch.randint(0, VOCABULARY, (TOKENS,), generator=g)
        labels[4] = -100
        weights = torch.rand(TOKENS, generator=g, dtype=torch.float64)
        weights[::3] = 0
        return cls(
            draw(TOKENS, WIDTH),
            draw(VOCABULARY, WIDTH),
            draw(VOCABULARY),
            draw(TOKENS, THEIRS),
            0.5 * draw(VOCABULARY, THEIRS),
            labels,
            weights,
        )

    def leaves(self) -> list[Tensor]:
        return [x.clone().requires_grad_() for x in (self.student, self.weight, self.bias)]


def logits(hidden: Tensor, weight: Tensor, bias: Tensor | None = None, scale: float = 1.0, cap: float | None = None) -> Tensor:
    z = scale * (hidden @ weight.T + (0 if bias is None else bias))
    return z if cap is None else cap * torch.tanh(z / cap)


def relative(found: Tensor | None, expected: Tensor | None) -> float:
    assert found is not None
    assert expected is not None
    return ((found.double() - expected.double()).norm() / expected.double().norm()).item()
