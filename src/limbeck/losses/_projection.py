"""1x1 convolutions that bring a student's maps to the teacher's channels, for losses in which they are a part of the method."""

from __future__ import annotations

from torch import Tensor, nn

from ..errors import SignalMissing
from ..ops.layouts import as_map
from ..ops.precision import without_autocast
from ..types import Signals
from .base import pairs


class Projections(nn.ModuleList):
    """One map a layer; where the channels agree already it is the identity. Before `setup` all are.

    Args:
        rectified: whether a ReLU follows each convolution.
    """

    def __init__(self, *, rectified: bool) -> None:
        super().__init__()
        self.rectified = rectified

    def setup(self, student: Signals, teacher: Signals) -> None:
        """Makes the convolutions, on the student's device, in float32 or wider."""
        for s, t in pairs(student, teacher):
            self.append(self._between(as_map(s), as_map(t)))

    def _between(self, student: Tensor, teacher: Tensor) -> nn.Module:
        before, after = student.shape[1], teacher.shape[1]
        if before == after:
            return nn.Identity()
        convolution = nn.Conv2d(before, after, 1, device=student.device, dtype=student.dtype)
        return nn.Sequential(convolution, nn.ReLU()) if self.rectified else convolution

    def forward(self, student: Signals, teacher: Signals) -> list[tuple[Tensor, Tensor]]:
        """The features of both as maps in float32 or wider, layer by layer, the student's with the teacher's channels.

        Raises:
            SignalMissing: where there are not as many layers as at `setup`.
        """
        layers = [(as_map(s), as_map(t)) for s, t in pairs(student, teacher)]
        if len(self) and len(self) != len(layers):
            raise SignalMissing(f"the loss was set up for {len(self)} layers, found {len(layers)}; name the same layers.")
        with without_autocast(layers[0][0]):  # mutate: equivalent constant (both models are on one device)
            return [(project(s), t) for project, (s, t) in zip(self or [nn.Identity()] * len(layers), layers, strict=True)]
