"""Groups of texts by their length."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

LENGTH = "length"
"""Groups that every source of texts to classify knows, unless a column is called so."""


def by_length(texts: Sequence[str | tuple[str, ...]]) -> NDArray[np.str_]:
    """`short`, `middle` or `long` for every text (or pair), by thirds of the number of words; as many words are the same group."""
    counts = np.array([len((text if isinstance(text, str) else " ".join(text)).split()) for text in texts])
    first, second = np.quantile(counts, [1 / 3, 2 / 3])
    return np.where(counts <= first, "short", np.where(counts <= second, "middle", "long"))
