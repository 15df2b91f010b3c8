"""Images cut into patches, and errors on them."""

from __future__ import annotations

from torch import Tensor

from ..errors import ShapeMismatch
from .precision import widen


def patches(images: Tensor, size: int) -> Tensor:
    """`(batch, channels, height, width)` to `(batch, patches, size * size * channels)`: row by row, channels last within a patch.

    Raises:
        ShapeMismatch: where patches of this size do not tile the images.
    """
    if images.shape[2] % size or images.shape[3] % size:
        raise ShapeMismatch(f"patches of {size} x {size} do not tile images {list(images.shape)}; choose a divisor of both sides.")
    tiles = images.unflatten(3, (-1, size)).unflatten(2, (-1, size))  # (batch, channels, rows, y, columns, x)
    return tiles.permute(0, 2, 4, 3, 5, 1).flatten(3).flatten(1, 2)


def patch_error(reconstruction: Tensor, images: Tensor, *, size: int, normalise: bool) -> Tensor:
    """Mean squared error of each patch.

    Args:
        reconstruction: predicted patches, `(batch, patches, size * size * channels)`.
        images: what they are to be, `(batch, channels, height, width)`.
        size: height and width of a patch.
        normalise: whether each patch of the images is first brought to mean 0 and (sample) variance 1.

    Returns:
        `(batch, patches)`; masked autoencoders average it over the masked patches.
    """
    target = patches(widen(images), size)
    if normalise:
        target = (target - target.mean(-1, keepdim=True)) / (target.var(-1, keepdim=True) + 1e-6).sqrt()
    if reconstruction.shape != target.shape:
        raise ShapeMismatch(
            f"predicted patches {list(reconstruction.shape)} must have the shape of the images' patches {list(target.shape)}."
        )
    return (reconstruction - target).square().mean(-1)
