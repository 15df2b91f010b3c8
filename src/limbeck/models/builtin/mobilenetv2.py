"""MobileNetV2 for small images, as the collections of methods for CIFAR have it.

Reference: Sandler et al., "MobileNetV2: Inverted Residuals and Linear Bottlenecks", CVPR 2018, arXiv:1801.04381, table 2.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from ...errors import ModelError
from .base import Builtin, image_shape

STAGES = (
    ((1, 16, 1, 1), (6, 24, 2, 1)),
    ((6, 32, 3, 2),),
    ((6, 64, 4, 2), (6, 96, 3, 1)),
    ((6, 160, 3, 2), (6, 320, 1, 1)),
)
"""By stage: expansion, channels, number of blocks and stride of the first, of what each row of the paper's table says."""
FIRST, LAST = 32, 1280
"""Channels of the first and of the last convolution."""
SMALLEST = 0.125
"""Of the widths, below which stages would have next to no channels."""


class MobileNetV2(Builtin):
    """Inverted residuals; taps: `conv1`, `layer1` to `layer4` (and `layer1.0`, ...), whose outputs are linear, `last`, `head`.

    Height and width are halved by `conv1`, `layer2`, `layer3` and `layer4`: the paper's network without the stride of its second row,
    without dropout, and with a 1x1 convolution also in the first block, which expands nothing.

    Args:
        num_outputs: size of the output.
        input_shape: `(channels, height, width)`; 8x8 upwards.
        width: multiplier of the channels, at least 0.125; below 1 the last 1x1 convolution keeps its 1280. The collections take 0.5.
    """

    def __init__(self, *, num_outputs: int, input_shape: Sequence[int], width: float = 1.0) -> None:
        super().__init__()
        if not isinstance(width, int | float) or isinstance(width, bool) or not width >= SMALLEST:
            raise ModelError(f"mobilenetv2: width must be a number of at least {SMALLEST}, got {width!r}.")
        before = int(FIRST * width)
        self.conv1 = _convolution(image_shape("mobilenetv2", input_shape)[0], before, 3, stride=2)
        for i, rows in enumerate(STAGES, 1):
            blocks: list[nn.Module] = []
            for expansion, channels, count, stride in rows:
                for j in range(count):
                    blocks.append(_Block(before, int(channels * width), 1 if j else stride, expansion))
                    before = int(channels * width)
            self.add_module(f"layer{i}", nn.Sequential(*blocks))
        last = int(LAST * max(width, 1))
        self.last = _convolution(before, last, 1)
        self.head = nn.Linear(last, num_outputs)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        nn.init.normal_(self.head.weight, std=0.01)
        nn.init.zeros_(self.head.bias)

    def forward(self, x: Tensor) -> Tensor:
        """`(batch, channels, height, width)` to `(batch, num_outputs)`."""
        x = self.conv1(x)
        for i in range(1, len(STAGES) + 1):
            x = getattr(self, f"layer{i}")(x)
        return self.head(self.last(x).mean((2, 3)))


def _convolution(before: int, after: int, kernel: int, *, stride: int = 1, groups: int = 1, activation: bool = True) -> nn.Sequential:
    """Convolution, batch norm, and ReLU where asked."""
    layers = [nn.Conv2d(before, after, kernel, stride, kernel // 2, groups=groups, bias=False), nn.BatchNorm2d(after)]
    return nn.Sequential(*layers, *([nn.ReLU()] if activation else []))


class _Block(nn.Module):
    """Channels expanded, a 3x3 convolution of each, and a projection without activation; beside it the input, where the shape stays."""

    def __init__(self, before: int, after: int, stride: int, expansion: int) -> None:
        super().__init__()
        inside = expansion * before
        self.expand = _convolution(before, inside, 1)
        self.depthwise = _convolution(inside, inside, 3, stride=stride, groups=inside)
        self.project = _convolution(inside, after, 1, activation=False)
        self.residual = stride == 1 and before == after

    def forward(self, x: Tensor) -> Tensor:
        y = self.project(self.depthwise(self.expand(x)))
        return x + y if self.residual else y
