"""The small real data sets that come with scikit-learn: `sklearn:digits`, `iris`, `wine`, `breast_cancer`, `diabetes`,
and `strokes`, two numbers of each digit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, final

import numpy as np
import torch
from numpy.typing import NDArray

from ...errors import DataError
from ...types import Fraction, PositiveInt
from ..hashing import permutation
from ..stores import TensorStore
from .base import Pool, Source, Wanted, all_train, choose


@final
@dataclass(frozen=True, kw_only=True)
class Sklearn(Source):
    """Bundled data sets; nothing is downloaded.

    `digits` are images (1, 8, 8) in [0, 1], or 64 columns for a tabular task. The others are tables. The digits were written down writer by
    writer, so the `block`s of a hundred neighbours are groups for `data.split.group`. `strokes` are the same images, and two numbers of
    each: how much ink there is (mean of the pixels, times 4) and its slant (columns to the right for every row up).
    """

    canvas: PositiveInt | None = None
    """Digits: each image lies in the middle of an empty one of this height and width, 8 or more."""
    turned: bool = False
    """Digits: each image in four orientations, and forty classes, a digit and how often it is turned by a quarter: `3r1`."""
    strange: Fraction = 0.0
    """Digits: this share of the images is none any more: inverted, or their pixels in another order; their labels stay. For pools."""
    half: Literal["first", "second"] | None = None
    """Only the first or the second half of the rows, so that two data sets share none; of the digits, other writers."""

    def _drawn(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """The digits, `(images, 8, 8)`, as the fields ask for them."""
        count = round(len(images) * self.strange)
        order = permutation(len(images), 0, 31)
        inverted, scrambled = order[: count // 2], order[count // 2 : count]
        images = images.copy()
        images[inverted] = 1 - images[inverted]
        for number in scrambled.tolist():
            images[number] = images[number].ravel()[permutation(images[number].size, number, 32)].reshape(images[number].shape)
        if self.canvas is not None:
            before = (self.canvas - images.shape[1]) // 2
            around = (before, self.canvas - images.shape[1] - before)
            images = np.pad(images, ((0, 0), around, around))
        return images

    def read(self, location: str, wanted: Wanted) -> Pool:
        """All rows of the named set; none has parts of its own."""
        from sklearn import datasets  # pyright: ignore[reportAttributeAccessIssue]

        loaders = {
            "digits": datasets.load_digits,
            "strokes": datasets.load_digits,
            "iris": datasets.load_iris,
            "wine": datasets.load_wine,
            "breast_cancer": datasets.load_breast_cancer,
            "diabetes": datasets.load_diabetes,
        }
        bunch: Any = choose(location, loaders, "sklearn")()
        if location != "digits" and (self.turned or self.strange or self.canvas is not None):
            raise DataError(f"sklearn:{location}: canvas, turned and strange are for sklearn:digits.")
        if self.canvas is not None and self.canvas < 8:
            raise DataError(f"sklearn:digits: expected a canvas of 8 or more, found {self.canvas}.")
        real = location in ("diabetes", "strokes")
        if real != (wanted.labels == "real"):
            kind = "numbers: use task: regression" if real else "classes: use task: classification"
            raise DataError(f"sklearn:{location}: its labels are {kind}.")
        labels = bunch.target if location != "strokes" else _strokes(bunch.images / 16.0)
        names = ("ink", "slant") if location == "strokes" else () if real else tuple(str(name) for name in bunch.target_names)
        count = len(labels)
        rows = {None: slice(None), "first": slice(count // 2), "second": slice(count // 2, count)}[self.half]
        labels = labels[rows]
        parts = all_train(len(labels))
        if location in ("digits", "strokes"):
            blocks = np.arange(count)[rows] // 100 if wanted.group == "block" else None
            values = torch.from_numpy(self._drawn(bunch.images[rows].astype(np.float32) / 16.0))
            if self.turned:
                values, labels, names, blocks = _turned(values, labels, names, blocks)
                parts = all_train(len(labels))
            if wanted.kind == "tabular":
                return Pool("tabular", TensorStore(values.flatten(1)), labels, parts, names, groups=blocks)
            return Pool("image", TensorStore(values[:, None]), labels, parts, names, groups=blocks)
        values = torch.from_numpy(bunch.data[rows].astype(np.float32))
        return Pool("tabular", TensorStore(values, [str(name) for name in bunch.feature_names]), labels, parts, names)


def _turned(
    values: torch.Tensor, labels: NDArray[Any], names: tuple[str, ...], blocks: NDArray[Any] | None
) -> tuple[torch.Tensor, NDArray[Any], tuple[str, ...], NDArray[Any] | None]:
    """All images, then all turned once, twice and three times."""
    images = torch.cat([torch.rot90(values, turns, (1, 2)) for turns in range(4)])
    classes = np.concatenate([4 * labels + turns for turns in range(4)])
    return (
        images,
        classes,
        tuple(f"{name}r{turns}" for name in names for turns in range(4)),
        np.tile(blocks, 4) if blocks is not None else None,
    )


def _strokes(images: NDArray[np.float64]) -> NDArray[np.float64]:
    """Ink and slant of every image, `(images, 2)`; each has some ink."""
    ink = images.mean((1, 2))
    mass = images / images.sum((1, 2), keepdims=True)
    up, right = np.arange(images.shape[1])[::-1], np.arange(images.shape[2])
    y, x = mass.sum(2) @ up, mass.sum(1) @ right
    dy, dx = up - y[:, None], right - x[:, None]
    slant = np.einsum("nij,ni,nj->n", mass, dy, dx) / np.einsum("nij,ni,ni->n", mass, dy, dy)
    return np.stack([4 * ink, slant], 1)
