"""Run directories that hold nothing but a student, made through the same builder that the engine uses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from limbeck.models.base import ModelRequest
from limbeck.models.build import build_model
from limbeck.types import DataInfo

NORMALIZATION = {"mean": [0.3], "std": [0.25]}


def make_student(
    run: Path,
    reference: str,
    kind: Any,
    shape: tuple[int, ...],
    outputs: int = 4,
    *,
    args: dict[str, Any] | None = None,
    normalization: Any = None,
    text: Any = None,
) -> Path:
    """Writes `run/student` with weights that no initialisation gives (so that a lost tensor is seen), and returns `run`."""
    names = tuple(f"class {i}" for i in range(outputs))
    info = DataInfo(kind, "class", outputs, shape, names)
    module = build_model(ModelRequest(reference, args=args or {}, normalize="none"), info).module
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for value in module.state_dict().values():
            if value.is_floating_point():
                value.mul_(1 + 0.2 * torch.rand(value.shape, generator=generator)).add_(0.001)
    folder = run / "student"
    folder.mkdir(parents=True)
    save_file({k: v.contiguous().clone() for k, v in module.state_dict().items()}, folder / "model.safetensors")
    data = {
        "kind": kind,
        "labels": "class",
        "num_outputs": outputs,
        "input_shape": list(shape),
        "class_names": list(names),
        "mean": None,
        "std": None,
    }
    card = {
        "format": 1,
        "task": "classification",
        "model": {"model": reference, "args": args or {}},
        "normalization": normalization,
        "data": data,
        "text": text,
    }
    (folder / "model.json").write_text(json.dumps(card))
    return run
