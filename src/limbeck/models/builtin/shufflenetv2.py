"""ShuffleNet V2 for small images, as the collections of methods for CIFAR have it.

Reference: Ma et al., "ShuffleNet V2: Practical Guidelines for Efficient CNN Architecture Design", ECCV 2018, arXiv:1807.11164, table 5.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...errors import ModelError
from ._shuffle import shuffle
from .base import Builtin, image_shape

CHANNELS = {0.5: (48, 96, 192, 1024), 1: (116, 232, 464, 1024), 1.5: (176, 352, 704, 1024), 2: (244, 488, 976, 2048)}
"""By width: channels of the three stages and of the last convolution."""
BLOCKS = (4, 8, 4)
"""Of each stage, the one that halves among them."""
FIRST = 24
"""Channels of the first convolution."""


class ShuffleNetV2(Builtin):
    """ShuffleNet V2; taps: `conv1`, `layer1`, `layer2`, `layer3` (and `layer1.0`, ...), `conv2`, `head`.

    The first layers are a 1x1 convolution that keeps height and width; every stage halves them.

    Args:
        num_outputs: size of the output.
        input_shape: `(channels, height, width)`; 8x8 upwards.
        width: 0.5, 1, 1.5 or 2 of the paper's table.
    """

    def __init__(self, *, num_outputs: int, input_shape: Sequence[int], width: float = 1) -> None:
        super().__init__()
        if width not in CHANNELS:
            raise ModelError(f"shufflenetv2: width must be one of {', '.join(map(str, CHANNELS))}, got {width!r}.")
        *widths, last = CHANNELS[width]
        self.conv1 = nn.Conv2d(image_shape("shufflenetv2", input_shape)[0], FIRST, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(FIRST)
        self.layer1, self.layer2, self.layer3 = (
            nn.Sequential(_Halving(before, after), *[_Block(after) for _ in range(count - 1)])
            for before, after, count in zip((FIRST, *widths[:2]), widths, BLOCKS, strict=True)
        )
        self.conv2 = nn.Conv2d(widths[-1], last, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(last)
        self.head = nn.Linear(last, num_outputs)

    def forward(self, x: Tensor) -> Tensor:
        """`(batch, channels, height, width)` to `(batch, num_outputs)`."""
        x = F.relu(self.bn1(self.conv1(x)))
        x = F.relu(self.bn2(self.conv2(self.layer3(self.layer2(self.layer1(x))))))
        return self.head(x.mean((2, 3)))


class _Block(nn.Module):
    """Half of the channels pass, the other half goes through three convolutions; then all are shuffled."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        half = channels // 2
        self.branch = _branch(half, half, 1)
        self.activation = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        passed, changed = x.chunk(2, 1)
        # One ReLU over all: what passes is behind one already, and does not change.
        return self.activation(shuffle(torch.cat([passed, self.branch(changed)], 1), 2))


class _Halving(nn.Module):
    """All channels go both ways, each of which halves height and width; then they are shuffled."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        half = after // 2
        self.beside = nn.Sequential(*_depthwise(before, 2), nn.Conv2d(before, half, 1, bias=False), nn.BatchNorm2d(half))
        self.branch = _branch(before, half, 2)
        self.activation = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.activation(shuffle(torch.cat([self.beside(x), self.branch(x)], 1), 2))


def _depthwise(channels: int, stride: int) -> list[nn.Module]:
    """A 3x3 convolution of each channel, without activation."""
    return [nn.Conv2d(channels, channels, 3, stride, 1, groups=channels, bias=False), nn.BatchNorm2d(channels)]


def _branch(before: int, half: int, stride: int) -> nn.Sequential:
    """1x1, 3x3 and 1x1 convolutions, whose last activation is the block's."""
    first = [nn.Conv2d(before, half, 1, bias=False), nn.BatchNorm2d(half), nn.ReLU()]
    return nn.Sequential(*first, *_depthwise(half, stride), nn.Conv2d(half, half, 1, bias=False), nn.BatchNorm2d(half))
