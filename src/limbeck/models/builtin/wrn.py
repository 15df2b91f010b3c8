"""Wide residual networks for small images: 6n + 4 layers in three stages.

Reference: Zagoruyko, Komodakis, "Wide Residual Networks", BMVC 2016, arXiv:1605.07146, table 1.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from ...errors import ModelError
from ._stage import stage
from .base import Builtin, image_shape, positive_integer


class WRN(Builtin):
    """Wide residual network, normalised before each convolution; taps: `conv1`, `layer1`, `layer2`, `layer3` (and `layer1.0`, ...), `head`.

    Args:
        num_outputs: size of the output.
        input_shape: `(channels, height, width)`; 8x8 upwards.
        depth: number of layers, 10, 16, 22, 28, 34, 40, ...
        width: multiplier k of the paper's 16, 32 and 64 channels.
    """

    def __init__(self, *, num_outputs: int, input_shape: Sequence[int], depth: int = 16, width: int = 2) -> None:
        super().__init__()
        blocks, rest = divmod(positive_integer("wrn", "depth", depth) - 4, 6)
        if rest or blocks < 1:
            raise ModelError(f"wrn: depth must be 6n + 4, such as 10, 16, 22, 28 or 40, got {depth!r}.")
        w = 16 * positive_integer("wrn", "width", width)
        self.conv1 = nn.Conv2d(image_shape("wrn", input_shape)[0], 16, 3, padding=1, bias=False)
        self.layer1 = stage(_Block, 16, w, blocks, 1)
        self.layer2 = stage(_Block, w, 2 * w, blocks, 2)
        self.layer3 = stage(_Block, 2 * w, 4 * w, blocks, 2)
        self.norm = nn.BatchNorm2d(4 * w)
        self.head = nn.Linear(4 * w, num_outputs)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """`(batch, channels, height, width)` to `(batch, num_outputs)`."""
        x = self.layer3(self.layer2(self.layer1(self.conv1(x))))
        return self.head(F.relu(self.norm(x)).mean((2, 3)))


class _Block(nn.Module):
    """Norm, ReLU, convolution, twice, and a shortcut; where the shape changes, the shortcut begins behind the first ReLU."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(before)
        self.conv1 = nn.Conv2d(before, after, 3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(after)
        self.conv2 = nn.Conv2d(after, after, 3, padding=1, bias=False)
        same = stride == 1 and before == after
        self.shortcut = None if same else nn.Conv2d(before, after, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(x))
        beside = x if self.shortcut is None else self.shortcut(y)
        return beside + self.conv2(F.relu(self.bn2(self.conv1(y))))
