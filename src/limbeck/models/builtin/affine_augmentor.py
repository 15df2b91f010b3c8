"""Learns by how much images may be shifted; a player of the step `hard`."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...errors import ModelError
from .base import Builtin, image_shape


class AffineAugmentor(Builtin):
    r"""Shifts every image by :math:`m + e^s \varepsilon`, normal and independent in both directions; `m` and `s` are learned.

    It has no knowledge of labels. In units of half the image: a shift of 2 moves an image out of sight; what comes in is black.

    Args:
        num_outputs: not used; every built-in model gets it.
        input_shape: `(channels, height, width)`.
        spread: deviation of the shift at the beginning.
        disagree: weight of the disagreement of teacher and student, which it seeks.
        stay: weight of the change of the teacher's answer, which it avoids.
        freeze: it stops learning while the change of the teacher's answer is more than so many times the disagreement.
        wake: it goes on once that ratio is below this.
    """

    active: Tensor

    def __init__(
        self,
        *,
        num_outputs: int,
        input_shape: Sequence[int],
        spread: float = 0.1,
        disagree: float = 1.0,
        stay: float = 1.0,
        freeze: float = 2.0,
        wake: float = 1.0,
    ) -> None:
        super().__init__()
        image_shape("affine_augmentor", input_shape)
        if spread <= 0 or min(disagree, stay, wake) < 0 or freeze < wake:
            raise ModelError(
                "affine_augmentor: expected spread above 0, disagree, stay and wake of at least 0, and freeze of at least wake."
            )
        self.disagree, self.stay, self.freeze, self.wake = disagree, stay, freeze, wake
        self.num_outputs = num_outputs
        self.mean = nn.Parameter(torch.zeros(2))
        self.log_spread = nn.Parameter(torch.full((2,), spread).log())
        self.register_buffer("active", torch.ones((), dtype=torch.bool))

    def forward(self, x: Tensor) -> Tensor:
        """`(batch, channels, height, width)` to the same, each image shifted by a draw of its own."""
        shift = self.mean + self.log_spread.exp() * torch.randn(len(x), 2, device=x.device)
        unit = torch.eye(2, device=x.device).expand(len(x), 2, 2)
        grid = F.affine_grid(torch.cat([unit, shift[:, :, None]], 2), list(x.shape), align_corners=False)
        return F.grid_sample(x, grid, align_corners=False)

    def settle(self, ratio: float) -> None:
        """Goes to sleep or wakes, by the ratio of the change of the teacher's answer to the disagreement."""
        self.active.fill_(ratio <= self.freeze if bool(self.active) else ratio < self.wake)
