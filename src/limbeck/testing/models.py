"""Tiny models with the traits that real ones have: in-place activations, shared layers, tuple and mapping outputs."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn


class TinyMLP(nn.Module):
    """Two linear layers; layer paths `hidden`, `act`, `head`."""

    def __init__(self, columns: int = 4, classes: int = 3, width: int = 8) -> None:
        super().__init__()
        self.hidden, self.act, self.head = nn.Linear(columns, width), nn.ReLU(inplace=True), nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        """`(batch, columns)` to `(batch, classes)`."""
        return self.head(self.act(self.hidden(x)))


class TinyCNN(nn.Module):
    """Stem, one residual block with in-place sum and in-place activation, and head.

    Layer paths `stem`, `bn`, `act`, `block`, `pool`, `head`. The output of `bn` is changed in place by `act`, that of `block` by
    the sum and the second activation.
    """

    def __init__(self, channels: int = 3, classes: int = 3, width: int = 4) -> None:
        super().__init__()
        self.stem = nn.Conv2d(channels, width, 3, stride=2, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(width)
        self.act = nn.ReLU(inplace=True)
        self.block = nn.Conv2d(width, width, 3, padding=1)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.dropout = nn.Dropout(0.1)
        self.head = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        """`(batch, channels, height, width)` to `(batch, classes)`."""
        x = self.act(self.bn(self.stem(x)))
        out = self.block(x)
        out += x
        return self.head(self.dropout(self.pool(torch.relu_(out)).flatten(1)))


class SharedLayer(nn.Module):
    """One layer that runs `times` times and stands under two paths, `layer` and `alias`."""

    def __init__(self, columns: int = 4, classes: int = 3, times: int = 3) -> None:
        super().__init__()
        self.layer = nn.Linear(columns, columns)
        self.alias = self.layer
        self.head = nn.Linear(columns, classes)
        self.times = times

    def forward(self, x: Tensor) -> Tensor:
        """`(batch, columns)` to `(batch, classes)`."""
        for i in range(self.times):
            x = torch.tanh((self.layer if i % 2 == 0 else self.alias)(x))
        return self.head(x)


class Outputs(NamedTuple):
    """What `StructuredOutput` gives as a named tuple."""

    hidden: Tensor
    logits: Tensor


class StructuredOutput(nn.Module):
    """A model (and a layer, `body`) that returns its hidden state beside the logits, as a tuple, a named tuple or a mapping."""

    def __init__(self, columns: int = 4, classes: int = 3, kind: Literal["tuple", "named", "mapping"] = "tuple") -> None:
        super().__init__()
        self.body = _Body(columns, classes, kind)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor] | Outputs | dict[str, Tensor]:
        """`(batch, columns)` to hidden state and logits."""
        return self.body(x)


class _Body(nn.Module):
    def __init__(self, columns: int, classes: int, kind: str) -> None:
        super().__init__()
        self.hidden, self.head, self.kind = nn.Linear(columns, 6), nn.Linear(6, classes), kind

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor] | Outputs | dict[str, Tensor]:
        hidden = self.hidden(x)
        logits = self.head(hidden)
        if self.kind == "mapping":
            return {"hidden": hidden, "logits": logits}
        return Outputs(hidden, logits) if self.kind == "named" else (hidden, logits)
