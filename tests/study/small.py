"""A small study for tests: a teacher of one epoch, students of two."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from tests.runs import SMALL

STAGED: dict[str, Any] = {
    **SMALL,
    "teacher": {"model": "mlp", "args": {"hidden": [16]}},
    "student": {"model": "mlp", "args": {"hidden": [4]}},
    "stages": {"teacher": {"learner": "teacher", "objective": {"labels": "cross_entropy"}, "train": {"epochs": 1}}, "distil": {}},
}
ARMS: dict[str, Any] = {"distilled": {}, "alone": {"objective.logits": None}}
STUDY: dict[str, Any] = {"seeds": 2, "arms": ARMS, "claims": ["distilled.accuracy > alone.accuracy"]}


def write(folder: Path, study: Any = None, **more: Any) -> Path:
    """A recipe with a study, as a file."""
    path = folder / "small.yaml"
    path.write_text(yaml.safe_dump({**STAGED, **more, "study": STUDY if study is None else study}, sort_keys=False))
    return path
