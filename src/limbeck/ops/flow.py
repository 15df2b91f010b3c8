"""Straight and circular paths from data to noise, on which flow-matching models learn a velocity."""

from __future__ import annotations

import math
from typing import Literal

from torch import Tensor

from .precision import widen


def flow_pair(data: Tensor, noise: Tensor, times: Tensor, *, path: Literal["linear", "cosine"]) -> tuple[Tensor, Tensor]:
    r"""A point :math:`\alpha_t x + \sigma_t z` of the path from data x to noise z, and its velocity.

    Args:
        data: `(batch, ...)`.
        noise: of the same shape.
        times: `(batch,)`, 0 at the data and 1 at the noise.
        path: `linear` with :math:`\alpha, \sigma = 1 - t, t`, or `cosine` with the cosine and sine of :math:`t \pi / 2`.

    Returns:
        The model's input and the target of its output.
    """
    data = widen(data)
    t = times.reshape(-1, *[1] * (data.ndim - 1)).to(data.dtype)
    if path == "linear":
        return (1 - t) * data + t * noise, noise - data
    angle = t * (math.pi / 2)
    cosine, sine = angle.cos(), angle.sin()
    return cosine * data + sine * noise, (math.pi / 2) * (cosine * noise - sine * data)
