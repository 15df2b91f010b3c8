"""What losses on factors share: stacks of convolutions, the teacher's autoencoder, the distance of normalised factors."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from ..ops.precision import widen
from ._connectors import BatchNorm
from .base import agree


def convolutions(widths: Sequence[int], like: Tensor, *, norm: bool, activation: nn.Module, transposed: bool = False) -> nn.Sequential:
    """3x3 convolutions that keep height and width, each with `activation` behind it.

    Args:
        widths: numbers of channels, from the input to the output.
        like: tells device and precision, which is float32 or wider.
        norm: whether each convolution is followed by batch normalisation.
        activation: a module without parameters.
        transposed: whether the convolutions are transposed ones, as decoders have them.
    """
    layer = nn.ConvTranspose2d if transposed else nn.Conv2d
    where = {"device": like.device, "dtype": torch.promote_types(like.dtype, torch.float32)}  # mutate: equivalent swapped (symmetric)
    layers: list[nn.Module] = []
    for before, after in pairwise(widths):
        normalisation = [BatchNorm(after, **where)] if norm else []
        layers += [layer(before, after, 3, padding=1, **where), *normalisation, activation]
    return nn.Sequential(*layers)


class Paraphraser(nn.Module):
    """An autoencoder of the teacher's map, whose code is the factor that the student learns.

    Args:
        channels: those of the teacher's map.
        factors: those of the code.
        like: tells device and precision.
    """

    def __init__(self, channels: int, factors: int, like: Tensor) -> None:
        super().__init__()
        activation = nn.LeakyReLU(0.1)
        self.encoder = convolutions([channels, channels, factors, factors], like, norm=False, activation=activation)
        self.decoder = convolutions([factors, factors, channels, channels], like, norm=False, activation=activation, transposed=True)


def factor_gap(student: Tensor, teacher: Tensor, *, p: float, q: float) -> Tensor:
    """p-norm of the difference of two factors that are divided by their own q-norms; `(batch, ...)` to `(batch,)`.

    A factor of zeros stays zero and gets no gradient through its norm.
    """
    ours, theirs = (widen(x).flatten(1) for x in agree(student, teacher))
    return torch.linalg.vector_norm(_scaled(ours, q) - _scaled(theirs, q), p, dim=1)


def _scaled(rows: Tensor, q: float) -> Tensor:
    length = torch.linalg.vector_norm(rows, q, dim=1, keepdim=True)
    return rows / length.masked_fill(length == 0, math.inf)
