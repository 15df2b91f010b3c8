"""Residual networks for small images: 6n + 2 layers in three stages.

Reference: He et al., "Deep Residual Learning for Image Recognition", CVPR 2016, arXiv:1512.03385, section 4.2.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from ...errors import ModelError
from ._stage import stage
from .base import Builtin, image_shape, positive_integer

DEPTHS = (8, 14, 20, 32, 44, 56, 110)


class ResNet(Builtin):
    """CIFAR-style residual network; taps: `conv1`, `layer1`, `layer2`, `layer3` (and `layer1.0`, ...), `head`.

    Shortcuts that change shape are 1x1 convolutions with batch norm (the paper's option B).

    Args:
        num_outputs: size of the output.
        input_shape: `(channels, height, width)`; 8x8 upwards.
        depth: number of layers: 8, 14, 20, 32, 44, 56 or 110.
        width: multiplier of the paper's 16, 32 and 64 channels.
        stem: channels of the first convolution; those of the first stage where absent.
    """

    def __init__(self, *, num_outputs: int, input_shape: Sequence[int], depth: int = 20, width: int = 1, stem: int | None = None) -> None:
        super().__init__()
        if depth not in DEPTHS:
            raise ModelError(f"resnet: depth must be one of {', '.join(map(str, DEPTHS))}, got {depth!r}.")
        w = 16 * positive_integer("resnet", "width", width)
        first = w if stem is None else positive_integer("resnet", "stem", stem)
        self.conv1 = nn.Conv2d(image_shape("resnet", input_shape)[0], first, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(first)
        blocks = (depth - 2) // 6
        self.layer1 = stage(_Block, first, w, blocks, 1)
        self.layer2 = stage(_Block, w, 2 * w, blocks, 2)
        self.layer3 = stage(_Block, 2 * w, 4 * w, blocks, 2)
        self.head = nn.Linear(4 * w, num_outputs)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """`(batch, channels, height, width)` to `(batch, num_outputs)`."""
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.head(x.mean((2, 3)))


class _Block(nn.Module):
    """Two 3x3 convolutions and a shortcut."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, after, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(after)
        self.conv2 = nn.Conv2d(after, after, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(after)
        self.activation = nn.ReLU()
        same = stride == 1 and before == after
        self.shortcut = nn.Identity() if same else nn.Sequential(nn.Conv2d(before, after, 1, stride, bias=False), nn.BatchNorm2d(after))

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return self.activation(y + self.shortcut(x))
