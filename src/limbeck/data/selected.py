"""The stored list of the training examples that are kept: an index manifest in JSON, so that others can read and write it.

`indices` are positions among the candidates: the training examples after the split and `data.limit`, then those of `data.pool`. Labels, the
share of them that is kept, the teacher and the student play no part in it, so that all of these may vary while the selection stays.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import LimbeckError
from ..files import write_text

FORMAT, VERSION = "limbeck-selection", 1


class SelectionError(LimbeckError):
    """A list of selected examples is missing, damaged, or does not fit the data."""


@dataclass(frozen=True)
class Selected:
    """Which examples are kept, and how that came about."""

    examples: int
    """Number of candidates."""
    data: str
    """SHA-256 of the candidates' inputs, as `Examples.fingerprint` gives it."""
    indices: tuple[int, ...]
    """Those that are kept, ascending."""
    scores: tuple[float | None, ...] = ()
    """Score of every candidate; None for one that was kept or left out without being judged."""
    method: Mapping[str, Any] = field(default_factory=dict)
    """How they were chosen; for people, and for the report."""

    @property
    def kept(self) -> float:
        """Share of the candidates that is kept."""
        return len(self.indices) / self.examples

    def write(self, path: Path) -> None:
        """Writes the manifest; a file of that name is replaced as a whole."""
        own = {"format": FORMAT, "version": VERSION, "method": dict(self.method), "examples": self.examples, "fraction": self.kept}
        lists = {"data": self.data, "indices": list(self.indices), "scores": list(self.scores)}
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, json.dumps({**own, **lists}) + "\n")

    def check_count(self, examples: int, where: str) -> None:
        """The manifest is of as many candidates as there are.

        Raises:
            SelectionError: where it is not.
        """
        if examples != self.examples:
            raise SelectionError(
                f"{where}: it was made for {self.examples} training examples, and the data have {examples}. "
                "Compare data.limit, data.split and data.pool, or make it anew with limbeck select."
            )

    def check_content(self, data: str, where: str) -> None:
        """The manifest is of just these candidates.

        Raises:
            SelectionError: where it is of others.
        """
        if data != self.data:
            raise SelectionError(
                f"{where}: it was made for other training examples, though as many: their inputs or their order differ "
                f"(found {data[:12]}, expected {self.data[:12]}). Compare data.source, data.size and data.split.seed, or make it anew."
            )


def read_selected(path: Path) -> Selected:
    """The manifest in a file.

    Raises:
        SelectionError: where there is none, or not one that this version can read.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise SelectionError(f"{path}: there is no such selection. Write it with `limbeck select RECIPE --out {path}`.") from None
    except (OSError, UnicodeDecodeError, ValueError) as error:
        raise SelectionError(f"{path}: not a readable selection ({error}).") from None
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise SelectionError(f"{path}: not a selection; expected a JSON file whose 'format' is {FORMAT!r}.")
    if found.get("version") != VERSION:
        raise SelectionError(f"{path}: version {found.get('version')!r} of the format; this Limbeck reads version {VERSION}.")
    return _checked(found, path)


def _checked(found: Mapping[str, Any], path: Path) -> Selected:
    examples, indices, scores = found.get("examples"), found.get("indices"), found.get("scores") or []
    lists = isinstance(indices, list) and isinstance(scores, list) and isinstance(found.get("data"), str)
    if not lists or not isinstance(examples, int) or not indices or not all(type(i) is int for i in indices):
        raise SelectionError(f"{path}: expected 'examples', 'data' and a list 'indices' of at least one whole number.")
    if indices != sorted(set(indices)) or indices[0] < 0 or indices[-1] >= examples:
        raise SelectionError(f"{path}: expected 'indices' in ascending order, each once, from 0 to {examples - 1}.")
    if scores and len(scores) != examples:
        raise SelectionError(f"{path}: expected no 'scores' or {examples}, found {len(scores)}.")
    return Selected(examples, found["data"], tuple(indices), tuple(scores), found.get("method") or {})
