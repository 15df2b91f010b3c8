"""What is asked of a search for a pipeline, and what comes of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FOLDERS = Path("recommendations")
"""Where recommendations lie unless the user says otherwise."""
BUDGET = 1800.0
SLOW = 4.0
"""A trial is stopped that takes so many times as long as plain distillation."""
SMALL, LARGE = 240.0, 3600.0
"""Seconds below (above) which few (many) losses are looked at."""
FIRST = 4
"""Proposals of the meta-learner."""


@dataclass(frozen=True)
class Wish:
    """What is asked for besides the recipe."""

    out: Path | None = None
    """Folder; `recommendations/NAME` where absent."""
    budget: float = BUDGET
    """Seconds for everything, the training of the teacher and the comparison at the end included."""
    trials: int | None = None
    """End the search after so many trials, where that is sooner."""
    storage: str | None = None
    """Address of a database that several machines share, such as `postgresql://...`; a file in the folder where absent."""
    resume: bool = False
    fix: tuple[str, ...] = ()
    """Groups of factors (`GROUPS`) that stay as they are."""
    evidence: Path | None = None
    """Folder with the results of studies, which the meta-learner is fitted on."""
    began: float | None = None
    """When the clock began to run, by `time.monotonic`; when the search is called where absent."""


@dataclass(frozen=True)
class Recommendation:
    """What was found."""

    folder: Path
    contents: Mapping[str, Any]
    """Of its recommendation.json."""

    @property
    def recipe(self) -> Path:
        """The recommended recipe."""
        return self.folder / "recipe.yaml"
