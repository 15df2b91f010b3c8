"""How alike two representations of the same examples are: centred kernels and their alignment."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .geometry import unit
from .grams import inner_products, product_gap
from .precision import widen, without_autocast
from .slices import in_slices


def linear_misalignment(first: Tensor, second: Tensor) -> Tensor:
    """One less the linear CKA of two sets of vectors, `(batch, c)` and `(batch, d)` to a scalar; exactly 0 at equality.

    Nothing is held that is larger than `batch` times the smaller of `batch` and the number of dimensions. The value is that of kernels
    divided by their lengths, of which one that is zero (all examples coincide) has none: 1/2 where one is, 0 where both are.
    """
    a, b = _centred(first), _centred(second)
    with without_autocast(a):
        if max(a.shape[1], b.shape[1]) > len(a):  # mutate: equivalent (which of two ways is taken changes only time and memory)
            return (_flat_unit(inner_products(a)) - _flat_unit(inner_products(b))).square().sum() / 2
        a, b = (x * _root_of_length(x) for x in (a, b))
        if a.shape == b.shape:
            return product_gap(a, a, b, b) / 2
        lengths = sum((x.mT @ x).square().sum() for x in (a, b))
        return lengths / 2 - (a.mT @ b).square().sum()


def _centred(x: Tensor) -> Tensor:
    """Without the mean of the examples, and of length 1 as a whole, so that products of four stay in range."""
    x = widen(x)
    x = x - x.mean(0)
    return _flat_unit(x)


def _flat_unit(x: Tensor) -> Tensor:
    return unit(x.flatten()).reshape(x.shape)


def _root_of_length(x: Tensor) -> Tensor:
    """The factor that gives x x^T the length 1."""
    length = torch.linalg.vector_norm(x.mT @ x)
    return length.masked_fill(length == 0, math.inf).rsqrt()


def gaussian_misalignment(first: Tensor, second: Tensor, *, bandwidth: float, chunk: int) -> Tensor:
    r"""One less the CKA with Gaussian kernels, `(batch, c)` and `(batch, d)` to a scalar; exactly 0 at equality.

    The kernel is :math:`\exp(-\|x - y\|^2 / (2 \sigma^2))` with :math:`\sigma` the root of the mean squared distance of the examples,
    times `bandwidth`. Kernels of zero length are treated as in `linear_misalignment`.

    Args:
        first: `(batch, c)`.
        second: `(batch, d)`.
        bandwidth: width of the kernels, relative to the spread of the examples.
        chunk: number of rows of the kernels that are held at once; it does not change the value.
    """
    first, second = _spread(first, bandwidth), _spread(second, bandwidth)
    size = len(first)

    def kernel(x: Tensor, rows: slice) -> Tensor:
        distances = torch.cdist(x[rows], x, compute_mode="donot_use_mm_for_euclid_dist")
        return (distances.square() / -2).exp()  # mutate: equivalent function (centring takes away what is added to all)

    def means(x: Tensor, rows: slice) -> Tensor:
        return kernel(x, rows).mean(1)

    def centred(x: Tensor, mean: Tensor, rows: slice) -> Tensor:
        return kernel(x, rows) - mean[rows, None] - mean + mean.mean()

    def square(x: Tensor, mean: Tensor, rows: slice) -> Tensor:
        return centred(x, mean, rows).square().sum()

    def gap(a: Tensor, a_mean: Tensor, a_unit: Tensor, b: Tensor, b_mean: Tensor, b_unit: Tensor, rows: slice) -> Tensor:
        return (centred(a, a_mean, rows) * a_unit - centred(b, b_mean, rows) * b_unit).square().sum()

    parts: list[Tensor] = []
    for x in (first, second):
        mean = torch.cat(in_slices(means, x, size=size, chunk=chunk))
        squares = torch.stack(in_slices(square, x, mean, size=size, chunk=chunk)).sum()
        parts += [x, mean, squares.masked_fill(squares == 0, math.inf).rsqrt()]
    return torch.stack(in_slices(gap, *parts, size=size, chunk=chunk)).sum() / 2


def _spread(x: Tensor, bandwidth: float) -> Tensor:
    """In units of the kernel's width; the mean squared distance of all pairs is twice the mean squared distance from the mean."""
    x = _centred(x)
    variance = 2 * x.square().sum() / len(x)
    return x * variance.masked_fill(variance == 0, math.inf).rsqrt() / bandwidth
