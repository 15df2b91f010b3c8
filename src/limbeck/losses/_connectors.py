"""Parts of the small networks that some losses learn between student and teacher."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import SignalMissing
from ..ops.layouts import as_map
from ..ops.precision import without_autocast
from ..types import Signals
from .base import pairs
from .hcl import context_gap


class BatchNorm(nn.BatchNorm2d):
    """Batch normalisation of maps that takes its running statistics where a batch gives only one value a channel, which has no spread."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - torch's own name
        """`(batch, channels, height, width)`, normalised."""
        if self.training and input.numel() == input.shape[1]:
            return F.batch_norm(input, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
        return super().forward(input)


class VectorNorm(nn.BatchNorm1d):
    """The same for vectors."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - torch's own name
        """`(batch, channels)`, normalised."""
        if self.training and input.numel() == input.shape[1]:
            return F.batch_norm(input, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
        return super().forward(input)


def conv_norm(channels: int, outputs: int, kernel: int, like: Tensor) -> nn.Sequential:
    """Convolution that keeps height and width, then batch normalisation; on the device and in the precision of `like`."""
    where: dict[str, Any] = {"device": like.device, "dtype": like.dtype}
    convolution = nn.Conv2d(channels, outputs, kernel, padding=kernel // 2, bias=False, **where)
    nn.init.kaiming_uniform_(convolution.weight, a=1)
    return nn.Sequential(convolution, BatchNorm(outputs, **where))


class Stage(nn.Module):
    """One stage of a review: brings its map to the common width, mixes in what the deeper stages carry, maps to the teacher's channels.

    Args:
        channels: those of the student's map.
        width: the common number of channels.
        outputs: those of the teacher's map.
        fusion: makes one map of the stage's own and the deeper one, both of `width` channels; None for the deepest stage.
        like: tells device and precision.
    """

    def __init__(self, channels: int, width: int, outputs: int, fusion: nn.Module | None, like: Tensor) -> None:
        super().__init__()
        self.enter = conv_norm(channels, width, 1, like)
        self.leave = conv_norm(width, outputs, 3, like)
        self.fusion = nn.Identity() if fusion is None else fusion

    def forward(self, own: Tensor, deeper: Tensor | None, size: Sequence[int]) -> tuple[Tensor, Tensor]:
        """The map to compare with the teacher's, of height and width `size`, and what is carried on to the next shallower stage."""
        own = self.enter(own)
        if deeper is not None:
            own = self.fusion(own, F.interpolate(deeper, own.shape[2:]))  # to the nearest pixels
        if own.shape[2:] != size:  # mutate: equivalent constant (a map that is resized to its own size stays)
            own = F.interpolate(own, size)
        return self.leave(own), own


class Review(nn.Module):
    """Stages in the order of their maps, shallow ones first; each sees all deeper ones."""

    def __init__(self, stages: Sequence[Stage]) -> None:
        super().__init__()
        self.stages = nn.ModuleList(stages)

    def forward(self, maps: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
        """Hierarchical context loss of what the stages make of the student's maps and the teacher's; pairs of maps to `(batch,)`.

        Raises:
            SignalMissing: where there are not as many pairs as stages.
        """
        if len(maps) != len(self.stages):
            raise SignalMissing(f"the review was set up for {len(self.stages)} layers, found {len(maps)}; name the same layers.")
        values: list[Tensor] = []
        carried = None
        with without_autocast(maps[0][0]):  # mutate: equivalent constant (all are on one device)
            for stage, (own, target) in zip(reversed(self.stages), reversed(maps), strict=True):
                output, carried = stage(own, carried, target.shape[2:])
                values.append(context_gap(output, target))  # mutate: equivalent swapped (symmetric)
        return torch.stack(values).sum(0)


def paired_maps(student: Signals, teacher: Signals) -> list[tuple[Tensor, Tensor]]:
    """The features of student and teacher as maps, in the order of their term."""
    return [(as_map(s), as_map(t)) for s, t in pairs(student, teacher)]
