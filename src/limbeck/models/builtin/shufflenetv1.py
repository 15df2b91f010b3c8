"""ShuffleNet for small images, as the collections of methods for CIFAR have it.

Reference: Zhang et al., "ShuffleNet: An Extremely Efficient Convolutional Neural Network for Mobile Devices", CVPR 2018,
arXiv:1707.01083, table 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...errors import ModelError
from ._shuffle import shuffle
from ._stage import stage
from .base import Builtin, image_shape

CHANNELS = {1: 144, 2: 200, 3: 240}
"""By number of groups: channels of the first stage; each further one has twice as many."""
FIRST = 24
"""Channels of the first convolution."""


class ShuffleNetV1(Builtin):
    """ShuffleNet of width 1; taps: `conv1`, `layer1`, `layer2`, `layer3` (and `layer1.0`, ...), `head`.

    The first layers are a 1x1 convolution that keeps height and width; every stage halves them.

    Args:
        num_outputs: size of the output.
        input_shape: `(channels, height, width)`; 8x8 upwards.
        groups: of the 1x1 convolutions: 1, 2 or 3, which also sets the channels.
    """

    def __init__(self, *, num_outputs: int, input_shape: Sequence[int], groups: int = 3) -> None:
        super().__init__()
        if groups not in CHANNELS:
            raise ModelError(f"shufflenetv1: groups must be one of {', '.join(map(str, CHANNELS))}, got {groups!r}.")
        w = CHANNELS[groups]
        block = partial(_Block, groups=groups)
        self.conv1 = nn.Conv2d(image_shape("shufflenetv1", input_shape)[0], FIRST, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(FIRST)
        self.layer1 = stage(block, FIRST, w, 4, 2)
        self.layer2 = stage(block, w, 2 * w, 8, 2)
        self.layer3 = stage(block, 2 * w, 4 * w, 4, 2)
        self.head = nn.Linear(4 * w, num_outputs)

    def forward(self, x: Tensor) -> Tensor:
        """`(batch, channels, height, width)` to `(batch, num_outputs)`."""
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.head(x.mean((2, 3)))


class _Block(nn.Module):
    """1x1 convolution in groups, shuffle, 3x3 convolution of each channel, 1x1 in groups; the input is added, or put beside it where it
    is halved."""

    def __init__(self, before: int, after: int, stride: int, *, groups: int) -> None:
        super().__init__()
        made = after - before if stride == 2 else after
        inside = made // 4
        self.groups = 1 if before == FIRST else groups  # so few channels are not divided
        self.halves = stride == 2
        self.conv1 = nn.Conv2d(before, inside, 1, groups=self.groups, bias=False)
        self.bn1 = nn.BatchNorm2d(inside)
        self.conv2 = nn.Conv2d(inside, inside, 3, stride, 1, groups=inside, bias=False)
        self.bn2 = nn.BatchNorm2d(inside)
        self.conv3 = nn.Conv2d(inside, made, 1, groups=groups, bias=False)
        self.bn3 = nn.BatchNorm2d(made)
        self.activation = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        y = shuffle(F.relu(self.bn1(self.conv1(x))), self.groups)
        # The collections have a ReLU behind the 3x3 convolution, too; the paper has none.
        y = self.bn3(self.conv3(F.relu(self.bn2(self.conv2(y)))))
        return self.activation(torch.cat([y, F.avg_pool2d(x, 3, 2, 1)], 1) if self.halves else x + y)
