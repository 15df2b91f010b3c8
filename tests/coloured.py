"""Noise in the place of CIFAR-100."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from limbeck.config.load import load_recipe

SMALLEST = {"resnet": 8, "vgg": 8, "wrn": 10}
"""By model: its smallest depth."""


def coloured(folder: Path, pair: Path, patch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Noise in its own format, and small networks of the same families as those of a recipe."""
    cifar = pytest.importorskip("torchvision.datasets.cifar")
    patch.setattr(cifar, "check_integrity", lambda *_: True)
    inner = folder / "cifar-100-python"
    inner.mkdir()
    generator = np.random.default_rng(0)
    for part, count in (("train", 200), ("test", 100)):
        pixels = generator.integers(0, 256, (count, 3 * 32 * 32), dtype=np.uint8)
        labels = (np.arange(count) % 100).tolist()
        (inner / part).write_bytes(pickle.dumps({"data": pixels, "fine_labels": labels, "coarse_labels": [0] * count}))
    (inner / "meta").write_bytes(pickle.dumps({"fine_label_names": [f"class {i}" for i in range(100)]}))
    recipe = load_recipe(pair).recipe
    sides = {"teacher": recipe.teacher, "student": recipe.student}
    models = {side: spec for side, spec in sides.items() if spec is not None}
    depths = {
        f"{side}.args.depth": 18 if spec.args["depth"] == 50 else SMALLEST[spec.model]
        for side, spec in models.items()
        if "depth" in spec.args and spec.model is not None
    }
    return {"data.args.root": str(folder), "train.batch_size": 8, **depths}
