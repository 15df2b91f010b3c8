"""Small golden cases on disk, for the tests of parity."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

STUDENT, TEACHER = np.array([[0.0, 1.0], [2.0, 0.0]]), np.array([[0.0, 0.0], [2.0, 2.0]])
GRADIENT = 2 * (STUDENT - TEACHER) / 4
ARRAYS: dict[str, Any] = {
    "student_logits": STUDENT,
    "teacher_logits": TEACHER,
    "labels": np.array([1, 0]),
    "out_loss": np.array(1.25),
    "out_grad_student_logits": GRADIENT,
}
"""The mean squared error of two pairs of logits: (0 + 1 + 0 + 4) / 4."""


def write(folder: Path, name: str = "case0", method: str = "mean_square", **changes: Any) -> Path:
    """A case on disk; a change to None leaves an array (or a key of the description) out."""
    about = {"method": method, "case": name, "hyperparameters": {"factor": 1.0}, "rtol": 1e-5, "atol": 1e-8}
    about |= {key: changes.pop(key) for key in list(changes) if key in about}
    arrays = {key: value for key, value in {**ARRAYS, **changes}.items() if value is not None}
    (folder / method).mkdir(parents=True, exist_ok=True)
    path = folder / method / f"{name}.json"
    path.write_text(json.dumps({key: value for key, value in about.items() if value is not None}))
    np.savez(path.with_suffix(".npz"), **arrays)
    return path
