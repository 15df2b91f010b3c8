r"""SelfMix: CutMix of two crops of the same image.

A rectangle of one augmentation of an image is pasted into another augmentation of it. The class does not change, but what a teacher says
of the two crops does, and is mixed by area.

Reference: Shen, "FerKD: Surgical Label Adaptation for Efficient Distillation", ICCV 2023, arXiv:2312.17473, section 3. Its training code
is not published; the rectangle is that of CutMix here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

from torch import Tensor

from ...types import Positive
from ..transforms.base import Draws
from .base import Mixing
from .cutmix import paste, rectangles


@final
@dataclass(frozen=True, kw_only=True)
class SelfMix(Mixing):
    """Every image has a rectangle of another augmentation of itself; needs augmented data."""

    own_views: ClassVar[bool] = True

    alpha: Positive = 1.0
    """Of the distribution of the share that stays, as in `cutmix`."""

    def apply(self, own: Tensor, other: Tensor, draws: Draws) -> tuple[Tensor, Tensor]:
        """The patched images and the shares of the first augmentation."""
        return paste(own, other, rectangles(draws, 0, self.alpha, *own.shape[-2:]))
