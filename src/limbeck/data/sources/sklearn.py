"""The small real data sets that come with scikit-learn: `sklearn:digits`, `iris`, `wine`, `breast_cancer`, `diabetes`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, final

import numpy as np
import torch

from ...errors import DataError
from ..stores import TensorStore
from .base import Pool, Source, Wanted, all_train, choose


@final
@dataclass(frozen=True, kw_only=True)
class Sklearn(Source):
    """Bundled data sets; nothing is downloaded.

    `digits` are images (1, 8, 8) in [0, 1], or 64 columns for a tabular task. The others are tables. The digits were written down writer by
    writer, so the `block`s of a hundred neighbours are groups for `data.split.group`.
    """

    def read(self, location: str, wanted: Wanted) -> Pool:
        """All rows of the named set; none has parts of its own."""
        from sklearn import datasets  # pyright: ignore[reportAttributeAccessIssue]

        loaders = {
            "digits": datasets.load_digits,
            "iris": datasets.load_iris,
            "wine": datasets.load_wine,
            "breast_cancer": datasets.load_breast_cancer,
            "diabetes": datasets.load_diabetes,
        }
        bunch: Any = choose(location, loaders, "sklearn")()
        real = location == "diabetes"
        if real != (wanted.labels == "real"):
            kind = "numbers: use task: regression" if real else "classes: use task: classification"
            raise DataError(f"sklearn:{location}: its labels are {kind}.")
        names = () if real else tuple(str(name) for name in bunch.target_names)
        labels = bunch.target
        if location == "digits":
            blocks = np.arange(len(labels)) // 100 if wanted.group == "block" else None
            values = torch.from_numpy(bunch.images.astype(np.float32) / 16.0)
            if wanted.kind == "tabular":
                return Pool("tabular", TensorStore(values.flatten(1)), labels, all_train(len(values)), names, groups=blocks)
            return Pool("image", TensorStore(values[:, None]), labels, all_train(len(values)), names, groups=blocks)
        values = torch.from_numpy(bunch.data.astype(np.float32))
        return Pool("tabular", TensorStore(values, [str(name) for name in bunch.feature_names]), labels, all_train(len(values)), names)
