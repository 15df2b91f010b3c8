"""Residual networks for small images: 6n + 2 layers in three stages, and the four-stage networks behind a 3x3 convolution.

Reference: He et al., "Deep Residual Learning for Image Recognition", CVPR 2016, arXiv:1512.03385, section 4.2 and table 1.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from ...errors import ModelError
from ._stage import stage
from .base import Builtin, image_shape, positive_integer

BLOCKS = {depth: ((depth - 2) // 6,) * 3 for depth in (8, 14, 20, 32, 44, 56, 110)} | {
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
}
"""By depth: how many blocks each stage has."""
BOTTLENECKS = (50, 101, 152)
"""Depths of which a block has three layers."""
EXPANSION = 4
"""Channels that a bottleneck gives, as a multiple of those inside."""


class ResNet(Builtin):
    """CIFAR-style residual network; taps: `conv1`, `layer1`, `layer2`, `layer3` (and `layer1.0`, ...), `layer4` of four stages, `head`.

    Every stage after the first halves height and width. Shortcuts that change shape are 1x1 convolutions with batch norm (the paper's
    option B).

    Args:
        num_outputs: size of the output.
        input_shape: `(channels, height, width)`; 8x8 upwards.
        depth: number of layers: 8, 14, 20, 32, 44, 56 or 110 (three stages); 18, 34, 50, 101 or 152 (four, from 50 on of bottlenecks, as
            the collections of methods for CIFAR have them: the paper's, but for the first layers, which keep height and width).
        width: multiplier of the paper's 16, 32 and 64 channels, or of 64, 128, 256 and 512, of which bottlenecks give four times as many.
        stem: channels of the first convolution; those of the first stage (inside its blocks) where absent.
    """

    def __init__(self, *, num_outputs: int, input_shape: Sequence[int], depth: int = 20, width: int = 1, stem: int | None = None) -> None:
        super().__init__()
        if depth not in BLOCKS:
            raise ModelError(f"resnet: depth must be one of {', '.join(map(str, sorted(BLOCKS)))}, got {depth!r}.")
        blocks = BLOCKS[depth]
        w = (16 if len(blocks) == 3 else 64) * positive_integer("resnet", "width", width)
        before = w if stem is None else positive_integer("resnet", "stem", stem)
        block, widening = (_Bottleneck, EXPANSION) if depth in BOTTLENECKS else (_Block, 1)
        self.conv1 = nn.Conv2d(image_shape("resnet", input_shape)[0], before, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(before)
        self.stages = [f"layer{i}" for i in range(1, len(blocks) + 1)]
        for i, (name, count) in enumerate(zip(self.stages, blocks, strict=True)):
            after = widening * w * 2**i
            self.add_module(name, stage(block, before, after, count, 2 if i else 1))
            before = after
        self.head = nn.Linear(before, num_outputs)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """`(batch, channels, height, width)` to `(batch, num_outputs)`."""
        x = F.relu(self.bn1(self.conv1(x)))
        for name in self.stages:
            x = getattr(self, name)(x)
        return self.head(x.mean((2, 3)))


def _shortcut(before: int, after: int, stride: int) -> nn.Module:
    if stride == 1 and before == after:
        return nn.Identity()
    return nn.Sequential(nn.Conv2d(before, after, 1, stride, bias=False), nn.BatchNorm2d(after))


class _Block(nn.Module):
    """Two 3x3 convolutions and a shortcut."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, after, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(after)
        self.conv2 = nn.Conv2d(after, after, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(after)
        self.activation = nn.ReLU()
        self.shortcut = _shortcut(before, after, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return self.activation(y + self.shortcut(x))


class _Bottleneck(nn.Module):
    """A 3x3 convolution, which has the stride, between two of 1x1, on a quarter of the channels, and a shortcut."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        inside = after // EXPANSION
        self.conv1 = nn.Conv2d(before, inside, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(inside)
        self.conv2 = nn.Conv2d(inside, inside, 3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(inside)
        self.conv3 = nn.Conv2d(inside, after, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(after)
        self.activation = nn.ReLU()
        self.shortcut = _shortcut(before, after, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x))))))
        return self.activation(self.bn3(self.conv3(y)) + self.shortcut(x))
