"""What an export gives back, and how it is compared with the student."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ..errors import RunError

BATCH_SIZES = (1, 3, 8)
"""Batch sizes on which an export is compared with the student; none is the one that it was traced with."""
TRACED = 2
"""Batch size of the example that is traced."""


@dataclass(frozen=True)
class ExportResult:
    """A finished and checked export."""

    format: str
    path: Path
    """The file or folder that was written."""
    difference: float
    """Largest absolute difference to the outputs of the PyTorch student; 0 where the outputs are the same bits."""
    scale: float
    """Largest absolute output of the student in that comparison."""
    checked: tuple[int, ...]
    """Batch sizes of the comparison."""
    size_bytes: int
    """Size on disk."""
    inputs: tuple[str, ...]
    """Names of the inputs, in order."""
    note: str = ""
    """How to load it, in one line."""


def largest_difference(
    expected: Callable[..., Tensor],
    found: Callable[..., Tensor],
    draw: Callable[[int, torch.Generator], tuple[Tensor, ...]],
    *,
    tolerance: float,
    what: str,
    sizes: Sequence[int] = BATCH_SIZES,
) -> tuple[float, float]:
    """Compares two callables on random inputs, two draws of each batch size.

    Args:
        expected: the student.
        found: the export.
        draw: makes inputs of a batch size.
        tolerance: allowed, relative to the largest expected output or to 1.
        what: name of the export, for the message.
        sizes: batch sizes.

    Returns:
        The largest absolute difference, and the largest absolute output of the student.

    Raises:
        RunError: where they differ by more, or the shapes do.
    """
    generator, worst = torch.Generator().manual_seed(0), 0.0
    scale = 0.0
    for size in [*sizes, *sizes]:
        inputs = draw(size, generator)
        with torch.no_grad():
            want = expected(*inputs).float()
        got = _answer(found, inputs, f"{what}: fails at batch size {size}")
        if want.shape != got.shape:
            raise RunError(f"{what}: gives outputs of shape {tuple(got.shape)}, the student {tuple(want.shape)}; nothing was written.")
        difference = float((want - got).abs().max())
        largest = float(want.abs().max())
        allowed = tolerance * max(1.0, largest)
        if not difference <= allowed:  # NaN must fail, too
            raise RunError(
                f"{what}: differs from the student by {difference:.3g} at batch size {size}, expected at most {allowed:.3g}; nothing was "
                "written. If so much is acceptable, allow it with --tolerance."
            )
        worst, scale = max(worst, difference), max(scale, largest)
    return worst, scale


def _answer(found: Callable[..., Tensor], inputs: tuple[Tensor, ...], where: str) -> Tensor:
    try:
        with torch.no_grad():
            return found(*inputs).float()
    except Exception as error:  # a runtime's own kinds of error
        raise RunError(f"{where}, where the student does not: {type(error).__name__}: {error}\nNothing was written.") from error


def size_on_disk(path: Path) -> int:
    """Bytes of a file, or of all the files in a folder."""
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return sum(file.stat().st_size for file in files)
