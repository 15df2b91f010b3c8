"""Weights and card in a folder, for Limbeck itself and for anyone's own loading code."""

from __future__ import annotations

import shutil
from pathlib import Path

from ..errors import RunError
from ..files import writing_folder
from ..models.checkpoints import load_into, read_state_dict
from .base import ExportResult, size_on_disk
from .student import Student


def export(student: Student, out: Path, tolerance: float) -> ExportResult:
    """Copies `model.safetensors` and `model.json` to the folder `out` and reads the copy back.

    Args:
        student: what to export.
        out: the folder.
        tolerance: not used; the copy must be exact.

    Raises:
        RunError: where the copy differs or does not load.
    """
    del tolerance
    with writing_folder(out) as folder:
        for name in ("model.safetensors", "model.json"):
            shutil.copyfile(student.folder / name, folder / name)
            if (folder / name).read_bytes() != (student.folder / name).read_bytes():
                raise RunError(f"{out / name} differs from {student.folder / name} after copying; is the disk sound?")
        load_into(student.module, read_state_dict(folder / "model.safetensors"), source=str(out / "model.safetensors"))
    note = "load with safetensors.torch.load_file; model.json states architecture, normalisation and classes"
    return ExportResult("safetensors", out, 0.0, 0.0, (), size_on_disk(out), student.input_names, note)
