"""Small real runs for the tests of the engine and the command."""

from __future__ import annotations

import hashlib
import os
from functools import partial
from pathlib import Path
from typing import Any

from safetensors.torch import load_file

from limbeck import run

SMALL: dict[str, Any] = {
    "task": "classification",
    "data": {"source": "sklearn:digits", "limit": 200, "label_fraction": 0.2},
    "teacher": {"model": "convnet", "args": {"channels": [8, 16]}, "weights": "random"},
    "student": {"model": "convnet", "args": {"channels": [4, 8]}},
    "objective": {"labels": "cross_entropy", "logits": {"loss": "kd", "temperature": 2}},
    "train": {"epochs": 2, "batch_size": 32, "optimizer": {"name": "adamw", "lr": 0.01}, "log_every": 2},
}
"""A student of a random teacher: nothing to learn, everything to compute."""

PATIENCE = 900
"""Seconds after which a process that should have ended is given up; how fast anything is plays no part, so that busy machines pass."""

distill = partial(run.distill, report=False)
"""`limbeck.distill` without the page to look at, which is a third of the time of a small run. Pages are written by the tests of the report,
of the commands, of every task and of every recipe."""

PLAIN = {"model": "mlp", "args": {"hidden": [16]}}
"""A model without batch statistics: its gradient is a sum over examples."""


def weights(run: Path) -> dict[str, Any]:
    """The student of a run."""
    return load_file(run / "student" / "model.safetensors")


def digest(run: Path) -> str:
    """A hash of the student's weights, bit by bit."""
    state = weights(run)
    joined = b"".join(name.encode() + state[name].contiguous().numpy().tobytes() for name in sorted(state))
    return hashlib.sha256(joined).hexdigest()


def environment() -> dict[str, str]:
    """An environment in which a command gives the same numbers every time."""
    return {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "COLUMNS": "200"}
