"""A small plain convolutional network, quick on a CPU."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from .base import Builtin, image_shape, positive_integer, positive_integers, probability


class ConvNet(Builtin):
    """Stages of 3x3 convolutions, global average pooling, a linear head; taps: `stage1`, `stage2`, ..., `head`.

    Every stage after the first halves height and width.

    Args:
        num_outputs: size of the output.
        input_shape: `(channels, height, width)`; any height and width.
        channels: width of each stage.
        blocks: convolutions (each with batch norm and ReLU) in a stage.
        dropout: probability of dropping a pooled feature before the head.
    """

    def __init__(
        self,
        *,
        num_outputs: int,
        input_shape: Sequence[int],
        channels: Sequence[int] = (16, 32),
        blocks: int = 1,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        widths = [image_shape("convnet", input_shape)[0], *positive_integers("convnet", "channels", channels)]
        blocks = positive_integer("convnet", "blocks", blocks)
        self.stages = [f"stage{i}" for i in range(1, len(widths))]
        for i, name in enumerate(self.stages):
            layers = [_Block(widths[i] if j == 0 else widths[i + 1], widths[i + 1], 2 if i and not j else 1) for j in range(blocks)]
            self.add_module(name, nn.Sequential(*layers))
        self.dropout = probability("convnet", "dropout", dropout)
        self.head = nn.Linear(widths[-1], num_outputs)

    def forward(self, x: Tensor) -> Tensor:
        """`(batch, channels, height, width)` to `(batch, num_outputs)`."""
        for name in self.stages:
            x = getattr(self, name)(x)
        x = x.mean((2, 3))
        if self.dropout:
            x = F.dropout(x, self.dropout, self.training)
        return self.head(x)


class _Block(nn.Module):
    """Convolution, batch norm, ReLU."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(before, after, 3, stride=stride, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(after)
        self.activation = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.activation(self.norm(self.conv(x)))
