"""Takes the student out of a run, in a format that others read, and checks what was written against it."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, get_args

from ..errors import RunError, UnknownName
from .base import ExportResult as ExportResult

Format = Literal["safetensors", "onnx", "pt2", "hf"]
FORMATS: tuple[str, ...] = get_args(Format)

__all__ = ["FORMATS", "ExportResult", "Format", "export_run"]


def export_run(run: Path, to: Format, out: Path | None = None, *, tolerance: float = 1e-4, allow_code: bool = False) -> ExportResult:
    """Exports the student of a run; adapters are never part of it.

    Every export is read back and compared with the PyTorch student on random inputs before it takes its place on disk.

    Args:
        run: a run directory with a `student/`.
        to: `safetensors` (weights and card), `onnx`, `pt2` (torch.export), or `hf` (a folder that transformers or timm loads).
        out: file (`onnx`, `pt2`) or new folder (`safetensors`, `hf`); inside the run, under `export/`, where absent.
        tolerance: largest difference allowed, relative to the largest output (or to 1, if that is larger).
        allow_code: whether a student that is code of the user's own may be imported.

    Raises:
        RunError: no student, an unwritable place, an export that differs from the student, or a format it does not support.
        MissingDependency: a package that the format needs.
    """
    from .student import load_student

    if to not in FORMATS:
        raise UnknownName("export format", to, FORMATS)
    if tolerance <= 0:
        raise RunError(f"tolerance: expected a number above 0, found {tolerance}.")
    student = load_student(run, allow_code=allow_code)
    target = out if out is not None else run / "export" / _DEFAULT[to]
    _check_place(target, to, mine=out is None)
    if to == "onnx":
        from .onnx import export
    elif to == "pt2":
        from .pt2 import export
    elif to == "hf":
        from .hf import export
    else:
        from .safetensors import export
    return export(student, target, tolerance)


_DEFAULT = {"onnx": "student.onnx", "pt2": "student.pt2", "safetensors": "safetensors", "hf": "hf"}


def _check_place(target: Path, to: str, *, mine: bool) -> None:
    """Refuses to overwrite a folder of the user's."""
    if to in ("onnx", "pt2"):
        if target.is_dir():
            raise RunError(f"{target} is a folder; --to {to} writes a file, such as {target / _DEFAULT[to]}.")
    elif target.exists() and not target.is_dir():
        raise RunError(f"{target} is a file; --to {to} writes a folder. Choose another place with --out.")
    elif not mine and target.is_dir() and any(target.iterdir()):
        raise RunError(f"{target} exists and is not empty. Choose a new folder with --out.")
