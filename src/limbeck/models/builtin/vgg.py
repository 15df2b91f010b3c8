"""VGG networks with batch norm for small images, as the collections of methods for CIFAR have them.

Reference: Simonyan, Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition", ICLR 2015, arXiv:1409.1556, table 1.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from ...errors import ModelError
from .base import Builtin, image_shape

CHANNELS = (64, 128, 256, 512, 512)
CONVOLUTIONS = {8: (1, 1, 1, 1, 1), 11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}
"""By depth: how many 3x3 convolutions each of the five groups has."""


class VGG(Builtin):
    """VGG with batch norm, global average pooling and one linear layer; taps: `stem`, `layer1`, `layer2`, `layer3`, `layer4`, `head`.

    The first three groups (`stem`, `layer1`, `layer2`) each end before a pooling that halves height and width; images of 64 pixels and
    more are halved once more before `layer4`.

    Args:
        num_outputs: size of the output.
        input_shape: `(channels, height, width)`; 8x8 upwards.
        depth: number of layers of the paper: 8, 11, 13, 16 or 19.
    """

    def __init__(self, *, num_outputs: int, input_shape: Sequence[int], depth: int = 8) -> None:
        super().__init__()
        if depth not in CONVOLUTIONS:
            raise ModelError(f"vgg: depth must be one of {', '.join(map(str, CONVOLUTIONS))}, got {depth!r}.")
        channels, height, _ = image_shape("vgg", input_shape)
        self.large = height >= 64
        widths = (channels, *CHANNELS)
        self.stem, self.layer1, self.layer2, self.layer3, self.layer4 = (
            _group(before, after, count) for before, after, count in zip(widths, CHANNELS, CONVOLUTIONS[depth], strict=False)
        )
        self.head = nn.Linear(CHANNELS[-1], num_outputs)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """`(batch, channels, height, width)` to `(batch, num_outputs)`."""
        for group in (self.stem, self.layer1, self.layer2):
            x = F.max_pool2d(group(x), 2)
        x = self.layer3(x)
        if self.large:
            x = F.max_pool2d(x, 2)
        return self.head(self.layer4(x).mean((2, 3)))


def _group(before: int, after: int, count: int) -> nn.Sequential:
    return nn.Sequential(*[_Block(before if i == 0 else after, after) for i in range(count)])


class _Block(nn.Module):
    """Convolution, batch norm, ReLU."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(before, after, 3, padding=1)
        self.norm = nn.BatchNorm2d(after)
        self.activation = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.activation(self.norm(self.conv(x)))
