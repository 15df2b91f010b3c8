"""A torch.export program: PyTorch without the Python source of the model."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import torch

from ..errors import RunError
from ..files import writing
from .base import BATCH_SIZES, TRACED, ExportResult, largest_difference, size_on_disk
from .student import Deployable, Student


def export(student: Student, out: Path, tolerance: float) -> ExportResult:
    """Writes `out` with a batch size (and, for text, a length) that may vary, and compares the reloaded program with the student.

    Raises:
        RunError: where the student cannot be traced or the program differs from it.
    """
    model = student.deployable()
    program = traced(student, model)
    buffer = io.BytesIO()
    torch.export.save(program, buffer)
    buffer.seek(0)
    again = torch.export.load(buffer).module()
    difference, scale = largest_difference(model, again, student.draw, tolerance=tolerance, what=str(out))
    with writing(out) as temporary:
        temporary.write_bytes(buffer.getvalue())
    note = f"load with torch.export.load({out.name!r}).module()"
    return ExportResult("pt2", out, difference, scale, BATCH_SIZES, size_on_disk(out), student.input_names, note)


def traced(student: Student, model: Deployable) -> torch.export.ExportedProgram:
    """The student as an exported program.

    Raises:
        RunError: where torch.export cannot follow the model.
    """
    example = student.draw(TRACED, torch.Generator().manual_seed(1))
    try:
        return torch.export.export(model, example, dynamic_shapes=dynamic_shapes(student))
    except Exception as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise RunError(
            f"{student.reference} cannot be traced by torch.export: {lines[0][:300]}\n"
            "Its forward depends on values or on the batch size; --to safetensors works for every student."
        ) from error


def dynamic_shapes(student: Student) -> dict[str, Any]:
    """Which dimensions vary: the batch, and the length of a text."""
    batch = torch.export.Dim("batch")
    if student.info.kind != "text":
        return {"inputs": {0: batch}}
    # position embeddings bound the length, and the tracer must know by how much
    both = {0: batch, 1: torch.export.Dim("length", min=2, max=max(student.longest, 3))}
    return {"inputs": both, "attention_mask": both}
