"""A multi-layer perceptron, for tables of numbers and for small images."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from .base import Builtin, activation, positive_integers, probability


class MLP(Builtin):
    """Fully connected layers; taps: `hidden1`, `hidden2`, ... (after the activation), `head`.

    Args:
        num_outputs: size of the output.
        input_shape: shape of one input; it is flattened.
        hidden: width of each hidden layer.
        activation: `relu`, `gelu`, `silu` or `tanh`.
        dropout: probability of dropping a hidden unit.
    """

    def __init__(
        self,
        *,
        num_outputs: int,
        input_shape: Sequence[int],
        hidden: Sequence[int] = (64, 64),
        activation: str = "relu",
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        widths = [math.prod(input_shape), *positive_integers("mlp", "hidden", hidden)]
        self.layers = [f"hidden{i}" for i in range(1, len(widths))]
        for name, before, after in zip(self.layers, widths, widths[1:], strict=False):
            self.add_module(name, _Layer(before, after, activation, probability("mlp", "dropout", dropout)))
        self.head = nn.Linear(widths[-1], num_outputs)

    def forward(self, x: Tensor) -> Tensor:
        """`(batch, ...)` to `(batch, num_outputs)`."""
        x = x.flatten(1)
        for name in self.layers:
            x = getattr(self, name)(x)
        return self.head(x)


class _Layer(nn.Module):
    """Linear map, activation, dropout."""

    def __init__(self, before: int, after: int, kind: str, dropout: float) -> None:
        super().__init__()
        self.linear, self.act, self.dropout = nn.Linear(before, after), activation("mlp", kind), dropout

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.linear(x))
        return F.dropout(x, self.dropout, self.training) if self.dropout else x
