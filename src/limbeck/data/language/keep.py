"""Which of the training examples are kept, and which training texts are made noise of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ...errors import DataError
from ..hashing import permutation
from ..selected import Selected, read_selected
from .columns import Kind, Records
from .rows import LanguageExamples

_NOISE = 6  # the purpose of the order, beside those of `split` and `pools`
_WRITTEN: Mapping[Kind, str] = {"text": "text", "prompt": "completion"}
"""What is trained of a record of each kind that is one text."""


def chosen(examples: LanguageExamples, manifest: str, *, pack: bool) -> tuple[LanguageExamples, Selected]:
    """The examples that a stored selection keeps, then packed where that is asked for.

    Args:
        examples: all candidates, none packed.
        manifest: file of the selection.
        pack: several documents in a row.

    Raises:
        SelectionError: it is missing, damaged, or of other data.
    """
    found = read_selected(Path(manifest))
    found.check_count(len(examples), manifest)
    found.check_content(examples.fingerprint(), manifest)
    own = examples.some(torch.tensor(found.indices))
    return (own.over(own.store.filled()) if pack else own), found


def scrambled(records: Records, rows: Sequence[int], share: float, seed: int) -> tuple[Records, list[int]]:
    """The records with the characters of a share of the texts in `rows` in random order, and which rows these are.

    Which, and in what order, follows from `seed` and the place among `rows`; a smaller share scrambles a part of what a larger one does.

    Raises:
        DataError: the records are no texts, and no prompts with completions.
    """
    role = _WRITTEN.get(records.kind)
    if role is None:
        raise DataError("data.scrambled is for texts, and prompts with completions. Remove it.")
    noise = sorted(rows[place] for place in permutation(len(rows), seed, _NOISE)[: round(share * len(rows))].tolist())
    cells: list[Any] = list(records.cells[role])
    for row in noise:
        if isinstance(cells[row], str):
            characters = np.array(list(cells[row]))
            cells[row] = "".join(characters[permutation(len(characters), seed, _NOISE, row)])
    return replace(records, cells={**records.cells, role: cells}), noise
