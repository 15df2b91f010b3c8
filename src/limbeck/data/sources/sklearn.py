"""The small real data sets that come with scikit-learn: `sklearn:digits`, `iris`, `wine`, `breast_cancer`, `diabetes`,
and `strokes`, two numbers of each digit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, final

import numpy as np
import torch
from numpy.typing import NDArray

from ...errors import DataError
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

    half: Literal["first", "second"] | None = None
    """Only the first or the second half of the rows, so that two data sets share none; of the digits, other writers."""

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
            values = torch.from_numpy(bunch.images[rows].astype(np.float32) / 16.0)
            if wanted.kind == "tabular":
                return Pool("tabular", TensorStore(values.flatten(1)), labels, parts, names, groups=blocks)
            return Pool("image", TensorStore(values[:, None]), labels, parts, names, groups=blocks)
        values = torch.from_numpy(bunch.data[rows].astype(np.float32))
        return Pool("tabular", TensorStore(values, [str(name) for name in bunch.feature_names]), labels, parts, names)


def _strokes(images: NDArray[np.float64]) -> NDArray[np.float64]:
    """Ink and slant of every image, `(images, 2)`; each has some ink."""
    ink = images.mean((1, 2))
    mass = images / images.sum((1, 2), keepdims=True)
    up, right = np.arange(images.shape[1])[::-1], np.arange(images.shape[2])
    y, x = mass.sum(2) @ up, mass.sum(1) @ right
    dy, dx = up - y[:, None], right - x[:, None]
    slant = np.einsum("nij,ni,nj->n", mass, dy, dx) / np.einsum("nij,ni,ni->n", mass, dy, dy)
    return np.stack([4 * ink, slant], 1)
