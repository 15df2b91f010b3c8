"""Arrays as inputs, whatever source they come from."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from ...errors import DataError
from ..stores import TensorStore
from .base import Kind, Wanted


def inputs_from_array(array: Any, wanted: Wanted, *, layout: str = "auto", where: str) -> tuple[Kind, TensorStore]:
    """An array of numbers as a table (two dimensions) or as images (three: greyscale, four: with channels).

    Images of bytes stand for [0, 1]; images of other integers are refused, floats must lie in [0, 1] to be augmented well but
    are kept as they are.

    Raises:
        DataError: values that are no finite numbers, or dimensions that are neither.
    """
    if array.dtype.kind not in "iufb":
        raise DataError(f"{where}: the inputs must be numbers, found {array.dtype}.")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise DataError(f"{where}: the inputs hold NaN or infinity, such as in row {_first_bad(array)}. Fill or remove them.")
    if array.ndim == 2 or (wanted.kind == "tabular" and array.ndim > 2):
        flat = array.reshape(len(array), -1)
        return "tabular", TensorStore(torch.from_numpy(np.ascontiguousarray(flat, dtype=np.float32)))
    if array.ndim not in (3, 4):
        raise DataError(f"{where}: expected inputs of 2 dimensions (a table), 3 or 4 (images), found shape {array.shape}.")
    if array.dtype.kind in "iu" and array.dtype != np.uint8:
        if array.min(initial=0) < 0 or array.max(initial=0) > 255:
            raise DataError(f"{where}: images must be bytes (0 to 255) or floats in [0, 1], found {array.dtype} up to {array.max()}.")
        array = array.astype(np.uint8)
    images = array[:, None] if array.ndim == 3 else array
    if array.ndim == 4 and _channels_last(array.shape, layout, where):
        images = array.transpose(0, 3, 1, 2)
    values = np.ascontiguousarray(images if images.dtype == np.uint8 else images.astype(np.float32))
    return "image", TensorStore(torch.from_numpy(values))


def _channels_last(shape: tuple[int, ...], layout: str, where: str) -> bool:
    if layout != "auto":
        return layout == "NHWC"
    first, last = shape[1] in (1, 3, 4), shape[3] in (1, 3, 4)
    if first == last:
        raise DataError(f"{where}: shape {shape} does not tell where the channels are. Set args.layout to NCHW or NHWC.")
    return last


def _first_bad(array: Any) -> int:
    return int(np.nonzero(~np.isfinite(array.reshape(len(array), -1)).all(axis=1))[0][0])
