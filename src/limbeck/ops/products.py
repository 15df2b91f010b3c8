"""Products of matrices by the routine of torch that is quickest; they keep no graph."""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

BLOCK = 1024  # mutate: equivalent constant (it changes no value)
"""Rows of a matrix that a thread multiplies at once: so many, widened or still to be added, stay in its cache."""


def product(x: Tensor, weight: Tensor) -> Tensor:
    """`x @ weight.T`, `(rows, width)` times `(columns, width)`, both of one precision.

    In float32 on a CPU it is oneDNN's, as in compiled models, and not the BLAS that torch calls otherwise: where that is MKL on a processor
    of AMD, it takes 0.4 of the time.
    """
    # What lies neither by rows nor by columns, oneDNN multiplies a thousand times slower.
    dense = weight.is_contiguous() or weight.T.is_contiguous()
    here = x.device.type == "cpu" and torch.backends.mkldnn.is_available()
    if x.dtype == torch.float32 and dense and here:
        return torch.ops.mkldnn._linear_pointwise(x, weight, None, "none", [], "")  # noqa: SLF001 - there is no other way to it
    return F.linear(x, weight)


def blocks(weight: Tensor) -> Iterator[slice]:
    """The rows of a matrix, as many at a time as are quickest to multiply."""
    # On other devices every operation has a price, and small ones leave it idle.
    size = BLOCK * torch.get_num_threads() if weight.device.type == "cpu" else len(weight)
    return (slice(start, start + size) for start in range(0, len(weight), size))
