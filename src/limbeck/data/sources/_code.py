"""Data from the user's own function."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ...errors import DataError
from ...registry import load_code
from ._arrays import inputs_from_array
from .base import Pool, Source, Wanted, all_train, joined

_EXPECTED = "(inputs, labels), or a mapping of train, valid and test to such pairs"


@dataclass(frozen=True, kw_only=True)
class CodeSource(Source):
    """`module:callable`, called with the recipe's `args`.

    It returns `(inputs, labels)`, or a mapping of `train`, `valid` and `test` to such pairs. Inputs are an array or a tensor
    (two dimensions a table, three or four images) or a list of texts.
    """

    reference: str
    args: dict[str, Any] = field(default_factory=dict)
    allow_code: bool = False

    def read(self, location: str, wanted: Wanted) -> Pool:
        """Calls the function."""
        function = load_code(self.reference, allow_code=self.allow_code)
        args = {key: value for key, value in self.args.items() if key != "standardise_target"}
        try:
            made = function(**args)
        except Exception as error:
            raise DataError(f"{self.reference} failed: {type(error).__name__}: {error}") from error
        pairs = dict(made) if isinstance(made, Mapping) else {"all": made}
        unknown = [key for key in pairs if key not in ("all", "train", "valid", "test")]
        if unknown or not all(isinstance(pair, list | tuple) and len(pair) == 2 for pair in pairs.values()):
            raise DataError(f"{self.reference} must return {_EXPECTED}; got {type(made).__name__} {unknown or ''}".rstrip() + ".")
        if "all" not in pairs and "train" not in pairs:
            raise DataError(f"{self.reference} returns no train part; expected {_EXPECTED}.")
        pairs = {part: pairs[part] for part in ("all", "train", "valid", "test") if part in pairs}
        for part, (inputs, labels) in pairs.items():
            if len(inputs) != len(labels):
                raise DataError(f"{self.reference}: {part} has {len(inputs)} inputs and {len(labels)} labels.")
        counts = {part: len(labels) for part, (_, labels) in pairs.items()}
        parts = all_train(counts["all"]) if "all" in counts else joined(counts)
        labels = _joined([labels for _, labels in pairs.values()])
        texts = [inputs for inputs, _ in pairs.values()]
        if all(isinstance(group, list) and all(isinstance(text, str) for text in group) for group in texts):
            return Pool("text", [text for group in texts for text in group], labels, parts)
        array = np.concatenate([np.asarray(group) for group in texts])
        kind, store = inputs_from_array(array, wanted, where=self.reference)
        return Pool(kind, store, labels, parts)


def _joined(labels: list[Any]) -> Any:
    if all(isinstance(group, list) for group in labels):
        return [label for group in labels for label in group]
    return np.concatenate([np.asarray(group) for group in labels])
